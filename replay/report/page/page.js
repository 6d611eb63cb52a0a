
"use strict";
(() => {
const root = document.documentElement;
const specs = JSON.parse(document.getElementById("charts").textContent);
const drawn = new Map(); // chart of the library, by name

function color(name) {
  return getComputedStyle(root).getPropertyValue("--" + name).trim();
}
function number(value) {
  return value.toLocaleString("en", { maximumSignificantDigits: 3 });
}
function withUnit(value, unit) {
  return unit ? number(value) + " " + unit : number(value);
}
function cut(text, most) {
  return text.length > most ? text.slice(0, most - 1) + "\u2026" : text;
}
/* Of a logarithmic axis: as many numbers a decade as there is room for. */
function logTick(axisSpec, width) {
  const decade = width / Math.max(1, Math.log10(axisSpec.high / axisSpec.low));
  const leads = decade > 170 ? [1, 2, 5] : decade > 85 ? [1, 3] : [1];
  return (value) => {
    const lead = value / 10 ** Math.floor(Math.log10(value) + 1e-9);
    return leads.some((one) => Math.abs(lead - one) < 1e-6) ? number(value) : null;
  };
}
function axis(axisSpec, isSmall, width) {
  const ticks = {
    color: color("soft"), maxRotation: 0, includeBounds: false, font: { size: isSmall ? 11 : 12 },
    maxTicksLimit: axisSpec.log ? 60 : isSmall ? 4 : 8, autoSkipPadding: 12,
    autoSkip: !axisSpec.log,
    callback: axisSpec.log ? logTick(axisSpec, width)
      : (value) => (isSmall ? withUnit(value, axisSpec.unit) : number(value)),
  };
  const made = {
    type: axisSpec.log ? "logarithmic" : "linear", ticks: ticks,
    title: { display: axisSpec.label !== "", text: axisSpec.label, color: color("soft") },
    grid: { color: color("grid") }, border: { color: color("axis") },
  };
  if (axisSpec.low !== null) made.min = axisSpec.low;
  if (axisSpec.high !== null) made.max = axisSpec.high;
  return made;
}

function barsConfig(spec, width) {
  return {
    type: "bar",
    data: { labels: spec.labels, datasets: spec.series.map((one) => ({
      label: one.name, data: one.ys, backgroundColor: color(one.color), hidden: one.hidden,
      borderColor: color("card"), borderWidth: { right: 1 }, borderSkipped: false,
      barPercentage: 0.86, categoryPercentage: 0.9, maxBarThickness: 26,
    })) },
    options: {
      indexAxis: "y",
      layout: { padding: { right: 12 + 6.6 * Math.max(0, ...spec.ends.map((one) => one.length)) } },
      interaction: { mode: "index", axis: "y", intersect: false },
      scales: {
        x: { ...axis(spec.x, false, width), stacked: true },
        y: { stacked: true, grid: { display: false }, border: { color: color("axis") },
             ticks: { autoSkip: false, color: color("ink"), crossAlign: "far",
                      callback: (_, i) => cut(spec.labels[i], width < 520 ? 17 : 32) } },
      },
      plugins: { tooltip: { callbacks: {
        label: (item) => item.dataset.label + ": " + withUnit(item.raw, spec.x.unit) } } },
    },
    plugins: [endsPlugin(spec)],
  };
}
/* What each bar comes to, behind its end. */
function endsPlugin(spec) {
  return { id: "ends", afterDatasetsDraw(chart) {
    const ctx = chart.ctx;
    ctx.save();
    ctx.font = "12px " + Chart.defaults.font.family;
    ctx.fillStyle = color("ink");
    ctx.textBaseline = "middle";
    spec.ends.forEach((text, i) => {
      let total = 0;
      spec.series.forEach((one, k) => { if (chart.isDatasetVisible(k)) total += one.ys[i]; });
      const x = chart.scales.x.getPixelForValue(total) + 6;
      ctx.fillText(text, x, chart.scales.y.getPixelForValue(i));
    });
    ctx.restore();
  } };
}
function columnsConfig(spec, width) {
  return {
    type: "bar",
    data: { labels: spec.labels, datasets: spec.series.map((one) => ({
      label: one.name, data: one.ys, backgroundColor: color(one.color),
      barPercentage: 0.9, categoryPercentage: 0.95, maxBarThickness: 22,
    })) },
    options: {
      interaction: { mode: "index", intersect: false },
      scales: { x: { display: false }, y: { ...axis(spec.y, true, width) } },
      plugins: { tooltip: { callbacks: {
        label: (item) => withUnit(item.raw, spec.y.unit) } } },
    },
  };
}
function linesConfig(spec, width) {
  return {
    type: "line",
    data: { datasets: spec.series.map((one) => ({
      label: one.name, data: one.xs.map((x, i) => ({ x: x, y: one.ys[i] })), hidden: one.hidden,
      borderColor: color(one.color), borderDash: one.dashed ? [5, 4] : [],
      borderWidth: one.bold ? (spec.small ? 2 : 5) : spec.small ? 1 : 2,
      order: one.bold && !spec.small ? 1 : 0, // the widest below: equal curves are both seen
      pointRadius: 0, pointHoverRadius: 4, pointBackgroundColor: color(one.color),
      fill: one.fillsTo === null ? false : { target: one.fillsTo },
      backgroundColor: color(one.color) + (one.fillsTo === null ? "" : "3a"),
    })) },
    options: {
      parsing: false,
      interaction: { mode: spec.small ? "nearest" : "index", axis: "x", intersect: false },
      scales: { x: axis(spec.x, spec.small, width), y: axis(spec.y, spec.small, width) },
      plugins: {
        tooltip: { callbacks: spec.small ? {
          title: ([item]) => withUnit(item.parsed.x, spec.x.unit),
          label: (item) => item.dataset.label + ": " + withUnit(item.parsed.y, spec.y.unit),
        } : {
          title: ([item]) => number(item.parsed.y) + " " + spec.y.label + " within",
          label: (item) => item.dataset.label + ": " + withUnit(item.parsed.x, spec.x.unit),
        } },
        zoom: { zoom: {
          mode: "x", drag: { enabled: true, backgroundColor: color("k0") + "33" },
          onZoomComplete: ({ chart }) => zoomed(spec, chart),
        } },
      },
    },
  };
}
function relatives(spec) {
  if (!spec.group) return [spec];
  return specs.filter((one) => one.group === spec.group && drawn.has(one.name));
}
let isZooming = false; // the others: they tell of it, too
function zoomed(spec, chart) {
  if (isZooming) return;
  isZooming = true;
  const { min, max } = chart.scales.x;
  for (const one of relatives(spec)) {
    if (one !== spec) drawn.get(one.name).zoomScale("x", { min: min, max: max }, "none");
  }
  isZooming = false;
  again(spec.name, false);
}
function showAll(spec) {
  isZooming = true;
  for (const one of relatives(spec)) drawn.get(one.name).resetZoom("none");
  isZooming = false;
  again(spec.name, true);
}
function again(name, isHidden) {
  const button = document.querySelector('[data-again="' + name + '"]');
  if (button) button.hidden = isHidden;
}

function draw(spec) {
  const canvas = document.getElementById(spec.name);
  if (spec.kind === "bars") {
    canvas.parentNode.style.height = 25 * spec.labels.length + 62 + "px";
  }
  const make = { bars: barsConfig, columns: columnsConfig, lines: linesConfig }[spec.kind];
  const config = make(spec, canvas.parentNode.clientWidth);
  Object.assign(config.options, { animation: false, responsive: true, maintainAspectRatio: false });
  config.options.plugins.legend = { display: false };
  if (drawn.has(spec.name)) drawn.get(spec.name).destroy();
  drawn.set(spec.name, new Chart(canvas, config));
}
/* Those in closed parts have no size yet. */
function drawVisible() {
  for (const spec of specs) {
    if (!drawn.has(spec.name) && document.getElementById(spec.name).checkVisibility()) draw(spec);
  }
  root.dataset.drawn = String(drawn.size);
}
function drawAgain() {
  for (const spec of specs) if (drawn.has(spec.name)) draw(spec);
}

Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
for (const spec of specs) {
  document.getElementById(spec.name).addEventListener("dblclick", () => showAll(spec));
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.again) return showAll(specs.find((one) => one.name === button.dataset.again));
  const spec = specs.find((one) => one.name === button.dataset.chart);
  const place = Number(button.dataset.series);
  const isHidden = button.getAttribute("aria-pressed") === "true";
  button.setAttribute("aria-pressed", String(!isHidden));
  spec.series[place].hidden = isHidden;
  drawn.get(spec.name).setDatasetVisibility(place, !isHidden);
  drawn.get(spec.name).update();
});
document.addEventListener("toggle", drawVisible, true);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAgain);

/* On paper: light, all of it, and as wide as the paper. */
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const one of closed) one.open = true;
  root.dataset.print = "";
  drawVisible();
  drawAgain();
});
addEventListener("afterprint", () => {
  for (const one of closed) one.open = false;
  delete root.dataset.print;
  drawAgain();
});
drawVisible();
})();
