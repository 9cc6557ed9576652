// Lines with bands, drawn by uPlot, with a legend that switches them and a table that says the same in numbers.
// A page that plots loads vendor/uplot/uPlot.min.css besides base.css.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { colour, fill, h, number, say } from "./dom.js";

const WHOLE = [0, 1, 2, 3, 4, 5, 6].flatMap((e) => [1, 2, 5].map((n) => n * 10 ** e)); // steps between whole numbers
const SERIES = 8; // tokens --series-1 … --series-8; then they begin again with other dashes
const DASHES = [[], [6, 3], [2, 3], [6, 3, 2, 3]];

/**
 * Draws into an element, which gets the class "plot".
 *
 *   const drawn = plot(element, {
 *     title: "Score by generation",               // what screen readers and the table's caption say
 *     x: {label: "generation", values: [0, 1, 2]},
 *     y: {label: "score", log: false},            // log: true begins logarithmic; null leaves no choice
 *     series: [{name: "thread 1", values: [...], low: [...], high: [...],   // low and high: a band, both or none
 *               colour: 1, dash: 0, points: false, width: 2}],              // colour: number of a token, or a token's name
 *     marks: [{x: 12, label: "ended"}],           // upright lines
 *     height: 260,
 *   });
 *   drawn.update({x, series, marks});             // new numbers, same look; what is left out stays
 *   drawn.destroy();
 *
 * Missing numbers (null, NaN) are gaps. With a logarithmic axis, numbers that are not above zero are gaps too.
 */
export function plot(element, options) {
  const state = { height: 260, marks: [], hidden: new Set(), ...options, y: { label: "", log: false, ...options.y } };
  const drawing = h("div", { class: "drawing", role: "img", "aria-label": state.title });
  const readout = h("p", { class: "small soft readout", "aria-hidden": "true" });
  const legend = h("ul", { class: "legend" });
  const numbers = h("div", { class: "numbers table", tabindex: "0", role: "region", "aria-label": `${state.title}, numbers` });
  const details = h("details", { ontoggle: () => details.open && table(numbers, state) }, h("summary", {}, "Numbers"), numbers);
  const log = state.y.log === null ? null : logSwitch(state, () => remake());
  element.classList.add("plot");
  fill(element, h("div", { class: "spread" }, legend, log), drawing, readout, details);

  let chart = null;
  const remake = () => {
    chart?.destroy();
    chart = new uPlot(settings(state, drawing, readout), columns(state), drawing);
    drawLegend(legend, state, remake);
    if (details.open) table(numbers, state);
  };
  const resize = new ResizeObserver(() => chart?.setSize({ width: drawing.clientWidth, height: state.height }));
  resize.observe(drawing);
  document.addEventListener("themechange", remake);
  remake();
  return {
    update(more) {
      const same = !more.series || alike(more.series, state.series);
      Object.assign(state, more, { x: { ...state.x, ...more.x }, y: { ...state.y, ...more.y } });
      if (!same || more.y) return remake();
      chart.setData(columns(state));
      if (details.open) table(numbers, state);
      return undefined;
    },
    destroy() {
      resize.disconnect();
      document.removeEventListener("themechange", remake);
      chart?.destroy();
      element.replaceChildren();
    },
  };
}

const alike = (a, b) => a.length === b.length && a.every((one, i) => one.name === b[i].name && !one.low === !b[i].low);

function logSwitch(state, remake) {
  const box = h("input", { type: "checkbox", onchange: () => { state.y.log = box.checked; remake(); } });
  box.checked = Boolean(state.y.log);
  return h("label", { class: "check small" }, box, h("span", {}, "logarithmic"));
}

/** uPlot's columns: x, then for each series its values and, where it has a band, the band's two edges. */
function columns({ x, y, series, hidden }) {
  const clean = (values) => values.map((v) => (v === null || !Number.isFinite(v) || (y.log && v <= 0) ? null : v));
  const rows = [x.values];
  for (const one of series) {
    const values = hidden.has(one.name) ? one.values.map(() => null) : one.values;
    rows.push(clean(values));
    if (one.low) rows.push(clean(hidden.has(one.name) ? values : one.high), clean(hidden.has(one.name) ? values : one.low));
  }
  return rows;
}

const tint = (one, i) => colour(typeof one.colour === "string" ? one.colour : `--series-${(((one.colour ?? i + 1) - 1) % SERIES) + 1}`);
const dashes = (one, i) => DASHES[(one.dash ?? Math.floor(i / SERIES)) % DASHES.length];
const faint = (rgb) => rgb.replace("rgb(", "rgba(").replace(")", ", 0.18)");

function settings(state, drawing, readout) {
  const [ink, line] = [colour("--soft"), colour("--line")];
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const axis = (label, more) => ({ label, labelFont: font, font, stroke: ink, labelSize: 20, labelGap: 0, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, ...more });
  const lines = [];
  const bands = [];
  state.series.forEach((one, i) => {
    const rgb = tint(one, i);
    lines.push({ label: one.name, stroke: rgb, width: one.width ?? 2, dash: dashes(one, i), points: { show: Boolean(one.points) || state.x.values.length === 1, size: 5, fill: rgb }, spanGaps: false });
    if (!one.low) return;
    const edge = { stroke: "transparent", width: 0, points: { show: false } };
    bands.push({ series: [lines.length + 1, lines.length + 2], fill: faint(rgb) });
    lines.push({ ...edge, label: `${one.name}, above` }, { ...edge, label: `${one.name}, below` });
  });
  return {
    width: Math.max(drawing.clientWidth, 120),
    height: state.height,
    padding: [8, 16, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: true, y: false }, points: { size: 6 } },
    scales: { x: { time: false }, y: { distr: state.y.log ? 3 : 1 } },
    axes: [axis(state.x.label, { size: 30, ...(state.x.values.every(Number.isInteger) && { incrs: WHOLE }) }), axis(state.y.label, { size: 56, values: (_, ticks) => ticks.map((t) => (t === null ? "" : number(t))) })],
    series: [{}, ...lines],
    bands,
    hooks: { draw: [(chart) => drawMarks(chart, state, ink, font)], setCursor: [(chart) => say(readout, read(chart, state))] },
  };
}

function drawMarks(chart, { marks }, ink, font) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.textAlign = "left";
  ctx.strokeStyle = ctx.fillStyle = ink;
  ctx.font = font.replace("12px", `${Math.round(12 * devicePixelRatio)}px`);
  for (const mark of marks ?? []) {
    const at = Math.round(chart.valToPos(mark.x, "x", true)) + 0.5;
    if (at < bbox.left || at > bbox.left + bbox.width) continue;
    ctx.setLineDash([4, 4]);
    ctx.beginPath();
    ctx.moveTo(at, bbox.top);
    ctx.lineTo(at, bbox.top + bbox.height);
    ctx.stroke();
    if (mark.label) ctx.fillText(mark.label, at + 4, bbox.top + 12 * devicePixelRatio);
  }
  ctx.restore();
}

/** What stands under the cursor, in words. */
function read(chart, { x, series, hidden }) {
  const at = chart.cursor.idx;
  if (at === null || at === undefined) return " ";
  const said = series.filter((one) => !hidden.has(one.name)).map((one) => `${one.name} ${number(one.values[at])}`);
  return `${x.label} ${number(x.values[at])}: ${said.slice(0, 8).join(", ")}`;
}

function drawLegend(legend, state, remake) {
  const flip = (name) => {
    if (!state.hidden.delete(name)) state.hidden.add(name);
    remake();
    [...legend.querySelectorAll("button")].find((b) => b.dataset.name === name)?.focus();
  };
  const item = (one, i) => h("li", {}, h("button", {
    type: "button", class: "button quiet small", "aria-pressed": String(!state.hidden.has(one.name)), dataset: { name: one.name }, onclick: () => flip(one.name),
  }, h("i", { style: { borderTopColor: tint(one, i), borderTopStyle: dashes(one, i).length ? "dashed" : "solid" } }), one.name));
  if (state.series.length > 1) fill(legend, state.series.map(item));
  else fill(legend, state.series.map((one, i) => h("li", {}, h("i", { style: { borderTopColor: tint(one, i) } }), one.name)));
}

const ROWS = 2000; // more are too many to read, and slow to lay out

function table(into, { title, x, series }) {
  const band = (one) => (one.low ? [h("th", { class: "n", scope: "col" }, "low"), h("th", { class: "n", scope: "col" }, "high")] : []);
  const cells = (one, i) => [one.values, ...(one.low ? [one.low, one.high] : [])].map((v) => h("td", { class: "n" }, number(v[i], 4)));
  const rows = x.values.slice(0, ROWS).map((v, i) => h("tr", {}, h("th", { scope: "row", class: "n" }, number(v, 6)), series.map((one) => cells(one, i))));
  const more = x.values.length > ROWS ? `, the first ${ROWS} of ${x.values.length} rows` : "";
  fill(into, h("table", {}, h("caption", {}, title + more),
    h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "n" }, x.label), series.map((one) => [h("th", { class: "n", scope: "col" }, one.name), band(one)]))),
    h("tbody", {}, rows)));
}
