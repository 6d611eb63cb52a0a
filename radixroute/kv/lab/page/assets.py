"""Style sheet and script of the lab's page, as they stand in it. Nothing is fetched.

Colours are defined once for light and once for dark; the script reads them from the style sheet and
draws again when the scheme changes. Without the script the page has its words and tables.
"""

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--page:#f9f9f7;--card:#fcfcfb;--ink:#0b0b0b;--soft:#52514e;
--grid:#e1e0d9;--axis:#c3c2b7;
--k0:#2a78d6;--k1:#c77700;--k2:#1a9a6b;--k3:#d13c3b;--k4:#6a5acd;--k5:#c14f86;--k6:#5c7f00;
--k7:#7a7972}
@media (prefers-color-scheme:dark){:root{--page:#0d0d0d;--card:#1a1a19;--ink:#f4f3ef;--soft:#c3c2b7;
--grid:#2c2c2a;--axis:#4a4a46;
--k0:#4f97ee;--k1:#e39a1f;--k2:#2fb787;--k3:#ef6f6e;--k4:#9a8ff0;--k5:#e07fae;--k6:#93b52c;
--k7:#9c9b94}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 16px 72px}
h1{font-size:26px;line-height:1.2;margin:0 0 6px}
h2{font-size:20px;margin:44px 0 2px;scroll-margin-top:12px}
h3{font-size:14px;margin:0 0 6px;line-height:1.3}
p{margin:10px 0;max-width:78ch;overflow-wrap:anywhere}
.question{color:var(--soft);font-style:italic;margin-top:0}
.soft{color:var(--soft);font-size:14px}
code{font:13px/1.5 ui-monospace,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:6px 8px;margin:16px 0 0}
nav a{padding:3px 11px;border:1px solid var(--axis);border-radius:14px;color:var(--ink);
text-decoration:none;font-size:14px}
nav a:hover,nav a:focus-visible{border-color:var(--k0)}
.plots{display:grid;gap:14px;margin:14px 0;
grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr))}
figure{margin:0;padding:12px;background:var(--card);border:1px solid var(--grid);border-radius:8px;
min-width:0}
.top{display:flex;justify-content:space-between;gap:10px;align-items:start}
.canvas{position:relative;height:310px}
button{font:12px system-ui,sans-serif;color:var(--soft);background:none;
border:1px solid var(--axis);border-radius:5px;padding:1px 7px;cursor:pointer;white-space:nowrap}
button:hover,button:focus-visible{color:var(--ink);border-color:var(--k0)}
details{margin:8px 0}
summary{cursor:pointer;color:var(--soft);font-size:14px}
.scroll{overflow-x:auto;margin:6px 0 14px}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{padding:3px 12px 3px 0;text-align:right;white-space:nowrap;
border-bottom:1px solid var(--grid)}
th.word,td.word{text-align:left}
th{color:var(--soft);font-weight:600}
caption{text-align:left;color:var(--soft);padding-bottom:3px}
@media (max-width:600px){body{font-size:15px}h1{font-size:22px}.canvas{height:270px}
main{padding:16px 12px 48px}}
@media print{.canvas{height:240px}button{display:none}}
"""

SCRIPT: Final = """
"use strict";
const plots = JSON.parse(document.getElementById("plots").textContent);
const charts = [];
function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e9) return +(value / 1e9).toPrecision(3) + "G";
  if (size >= 1e6) return +(value / 1e6).toPrecision(3) + "M";
  if (size >= 1e4) return +(value / 1e3).toPrecision(3) + "k";
  return String(+value.toPrecision(3));
}
function tick(isLog) {
  return function (value) {
    if (!isLog) return number(value);
    const lead = value / 10 ** Math.floor(Math.log10(value) + 1e-9);
    return [1, 2, 5].some((one) => Math.abs(lead - one) < 1e-6) ? number(value) : null;
  };
}
function axis(label, isLog) {
  return {
    type: isLog ? "logarithmic" : "linear",
    beginAtZero: !isLog,
    title: { display: true, text: label },
    ticks: { callback: tick(isLog), maxRotation: 0, autoSkip: !isLog || undefined,
             maxTicksLimit: isLog ? 40 : 8 },
    border: {}, grid: {},
  };
}
function lines(words) {
  const found = [""];
  for (const word of words.split(" ")) {
    const last = found.length - 1;
    if (found[last] && (found[last] + " " + word).length > 12) found.push(word);
    else found[last] = (found[last] + " " + word).trim();
  }
  return found;
}
function datasets(plot) {
  return plot.series.map((one, i) => ({
    label: one.name,
    data: plot.kind === "bars" ? one.ys : one.xs.map((x, j) => ({ x: x, y: one.ys[j] })),
    showLine: plot.kind === "lines" || one.formula,
    borderDash: one.formula ? [6, 4] : [],
    borderWidth: plot.kind === "bars" ? 0 : 2,
    pointRadius: one.formula ? 0 : one.xs.length > 24 ? 1.5 : 3.5,
    pointHoverRadius: 6,
    tension: 0,
    colorName: "--k" + (one.formula ? 7 : i % 7),
    maxBarThickness: 54,
  }));
}
function options(plot) {
  const bars = plot.kind === "bars";
  return {
    animation: false,
    responsive: true,
    maintainAspectRatio: false,
    interaction: { mode: bars ? "index" : "nearest", intersect: false },
    scales: {
      x: bars ? { title: { display: true, text: plot.x }, grid: {}, border: {},
                  ticks: { autoSkip: false, maxRotation: 0 } }
              : axis(plot.x, plot.logX),
      y: axis(plot.y, plot.logY),
    },
    plugins: {
      legend: { display: plot.series.length > 1, position: "bottom",
                labels: { boxWidth: 14, boxHeight: 2 } },
      tooltip: { callbacks: {
        title: ([item]) => bars ? plot.categories[item.dataIndex]
                                : plot.x + ": " + number(item.parsed.x),
        label: (item) => item.dataset.label + ": " + number(item.parsed.y) + " " + plot.y,
      } },
    },
  };
}
function paint(chart) {
  const ink = color("--ink"), soft = color("--soft");
  for (const set of chart.data.datasets) {
    set.borderColor = set.backgroundColor = set.pointBackgroundColor = color(set.colorName);
  }
  for (const scale of Object.values(chart.options.scales)) {
    scale.title.color = soft;
    scale.ticks.color = soft;
    scale.grid.color = color("--grid");
    scale.border.color = color("--axis");
  }
  chart.options.plugins.legend.labels.color = ink;
  chart.update();
}
Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
for (const plot of plots) {
  const canvas = document.getElementById("canvas-" + plot.name);
  const chart = new Chart(canvas, {
    type: plot.kind === "bars" ? "bar" : "scatter",
    data: { labels: plot.categories.map(lines), datasets: datasets(plot) },
    options: options(plot),
  });
  const button = document.getElementById("scale-" + plot.name);
  if (button) {
    let isLog = plot.logY;
    button.addEventListener("click", () => {
      isLog = !isLog;
      chart.options.scales.y = axis(plot.y, isLog);
      button.textContent = isLog ? "linear" : "logarithmic";
      paint(chart);
    });
  }
  charts.push(chart);
}
function paintAll() { charts.forEach(paint); }
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintAll);
paintAll();
document.documentElement.dataset.drawn = String(charts.length);
"""
