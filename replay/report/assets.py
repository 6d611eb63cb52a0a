"""Style sheet and script of a report's page, as they stand in it. Nothing is fetched.

Colours are defined once for light and once for dark. The script only hides series and shows
numbers; without it the page says the same.
"""

STYLE = """
:root{color-scheme:light dark;--page:#f9f9f7;--card:#fcfcfb;--ink:#0b0b0b;--soft:#52514e;
--faint:#767570;--grid:#e1e0d9;--axis:#c3c2b7;--kept:#c3c2b7;--mark:#e6f0fb;
--k0:#2a78d6;--k1:#1baf7a;--k2:#eda100;--k3:#008300;--k4:#4a3aa7;--k5:#e34948;--k6:#e87ba4;
--k7:#eb6834}
@media (prefers-color-scheme:dark){:root{--page:#0d0d0d;--card:#1a1a19;--ink:#fff;--soft:#c3c2b7;
--faint:#98978f;--grid:#2c2c2a;--axis:#383835;--kept:#52514e;--mark:#15304f;
--k0:#3987e5;--k1:#199e70;--k2:#c98500;--k3:#0b9a0b;--k4:#9085e9;--k5:#e66767;--k6:#d55181;
--k7:#d95926}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.45 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:20px 14px 60px}
h1{font-size:22px;margin:0 0 2px;overflow-wrap:anywhere}
h2{font-size:17px;margin:28px 0 8px}
h3{font-size:14px;margin:0 0 2px}
p{margin:4px 0;overflow-wrap:anywhere}
.say{font-size:16px;margin:10px 0}
.soft,figcaption{color:var(--soft);font-size:13px}
code{font:12.5px/1.5 ui-monospace,monospace;overflow-wrap:anywhere}
.plots{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr))}
.small{display:grid;gap:6px;grid-template-columns:repeat(auto-fill,minmax(min(100%,230px),1fr))}
figure,.card{margin:0;padding:12px;background:var(--card);border:1px solid var(--grid);
border-radius:8px;min-width:0}
.wide{margin-top:14px}
svg{display:block;width:100%;height:auto;max-width:640px;overflow:visible}
text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--ink)}
.tick,.note{fill:var(--soft);font-size:11px}.label{fill:var(--soft)}
.mid{text-anchor:middle}.end{text-anchor:end}
line.grid{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--axis);stroke-width:1}
.rule,.bound{stroke:var(--soft);stroke-width:1.5;stroke-dasharray:5 4;fill:none}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.line.bound{stroke-width:1.5}.thin{stroke-width:1;opacity:.55}.mean{stroke:var(--ink)}
.d1{stroke-dasharray:7 4}.d2{stroke-dasharray:2 4}
.band{stroke:none;opacity:.45}.dot{stroke:var(--card);stroke-width:2}
.part{stroke:var(--card);stroke-width:.6}.track{fill:var(--grid)}.kept{fill:var(--kept)}
.stripes{fill:url(#stripes);pointer-events:none}
.c0{--c:var(--k0)}.c1{--c:var(--k1)}.c2{--c:var(--k2)}.c3{--c:var(--k3)}.c4{--c:var(--k4)}
.c5{--c:var(--k5)}.c6{--c:var(--k6)}.c7{--c:var(--k7)}
polyline[class*=" c"]{stroke:var(--c)}
polygon[class*=" c"],circle[class*=" c"],rect[class*=" c"]{fill:var(--c)}
circle.dot.d1,circle.dot.d2{fill:var(--card);stroke:var(--c);stroke-dasharray:none}
.keys{display:flex;flex-wrap:wrap;gap:4px 6px;margin:8px 0;padding:0;list-style:none}
.keys button,.keys span{font:13px system-ui,sans-serif;color:var(--ink);background:var(--card);
border:1px solid var(--grid);border-radius:14px;padding:3px 10px 3px 8px;overflow-wrap:anywhere;
text-align:left;display:inline-flex;gap:6px;align-items:center}
.keys button{cursor:pointer}.keys button[aria-pressed=false]{opacity:.4}
.keys svg{width:18px;height:10px;flex:none}
.off{display:none}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:4px 8px;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}
th{color:var(--soft);font-weight:600;white-space:normal;vertical-align:bottom}th:first-child,td:first-child{text-align:left}
tr.begins td{border-top:2px solid var(--axis)}
td.best{font-weight:700;background:var(--mark)}
dl{margin:0}dt{font-weight:600;font-size:14px;margin-top:8px}dd{margin:0;color:var(--soft);
overflow-wrap:anywhere}
summary{cursor:pointer;font-size:17px;font-weight:600;margin:26px 0 8px}
#tip{position:fixed;z-index:9;pointer-events:none;max-width:min(320px,90vw);padding:6px 9px;
background:var(--ink);color:var(--page);border-radius:6px;font-size:12.5px;white-space:pre-line;
font-variant-numeric:tabular-nums;overflow-wrap:anywhere;display:none}
"""

SCRIPT = """
(function(){
var tip=document.getElementById("tip"),names={};
document.querySelectorAll("button[data-k]").forEach(function(b){
  names[b.dataset.k]=b.textContent;
  b.addEventListener("click",function(){
    var on=b.getAttribute("aria-pressed")!=="true";
    document.querySelectorAll('[data-k="'+b.dataset.k+'"]').forEach(function(e){
      if(e.tagName==="BUTTON")e.setAttribute("aria-pressed",on);else e.classList.toggle("off",!on);
    });
  });
});
function hide(){tip.style.display="none";}
function show(text,event){
  tip.textContent=text;tip.style.display="block";
  var w=tip.offsetWidth,h=tip.offsetHeight,x=event.clientX+14,y=event.clientY+14;
  if(x+w>innerWidth-6)x=Math.max(6,event.clientX-w-14);
  if(y+h>innerHeight-6)y=Math.max(6,event.clientY-h-14);
  tip.style.left=x+"px";tip.style.top=y+"px";
}
function value(scale,at){
  var p=scale.split(" "),low=+p[1],high=+p[2],part=(at-p[3])/(p[4]-p[3]);
  return p[0]==="log"?low*Math.pow(high/low,part):low+part*(high-low);
}
function round(v){return v>=100?Math.round(v).toLocaleString("en"):v.toPrecision(3);}
function level(line,x){
  var p=line.points,n=p.numberOfItems,a,b,i;
  for(i=1;i<n;i++){
    a=p.getItem(i-1);b=p.getItem(i);
    if(a.x<=x&&x<=b.x)return b.x===a.x?b.y:a.y+(b.y-a.y)*(x-a.x)/(b.x-a.x);
  }
  return null;
}
document.querySelectorAll("svg[data-x]").forEach(function(svg){
  svg.addEventListener("pointermove",function(event){
    var m=svg.getScreenCTM();
    if(!m)return;
    var x=(event.clientX-m.e)/m.a,s=svg.dataset.x.split(" "),rows=[];
    if(x<+s[3]||x>+s[4]){hide();return;}
    svg.querySelectorAll("polyline[data-k]").forEach(function(line){
      if(line.classList.contains("off"))return;
      var y=level(line,x);
      if(y!==null)rows.push([value(svg.dataset.y,y),names[line.dataset.k]]);
    });
    rows.sort(function(a,b){return b[0]-a[0];});
    show(["at "+round(value(svg.dataset.x,x))+" "+svg.dataset.u].concat(rows.map(function(r){
      return r[0].toFixed(1)+" %  "+r[1];})).join("\\n"),event);
  });
  svg.addEventListener("pointerleave",hide);
});
document.querySelectorAll("[data-t]").forEach(function(e){
  e.addEventListener("pointermove",function(event){show(e.dataset.t,event);});
  e.addEventListener("pointerleave",hide);
});
})();
"""
