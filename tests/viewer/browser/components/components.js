import { $ } from "/static/js/dom.js";
import { plot } from "/static/js/plot.js";

const x = Array.from({ length: 40 }, (_, i) => i);
const line = (a, b) => x.map((i) => a * (1 - Math.exp(-i / b)) + 1);
const series = [
  { name: "thread 1", values: line(10, 8), low: line(8, 8), high: line(12, 8) },
  { name: "thread 2", values: line(6, 4), low: line(5, 4), high: line(7, 4) },
  { name: "references", values: x.map((i) => (i % 9 ? 3 + (i % 3) / 5 : null)), points: true, colour: "--natural" },
];
const drawn = plot($("#plot"), { title: "Score by generation", x: { label: "generation", values: x }, y: { label: "score" }, series, marks: [{ x: 30, label: "ended" }] });
document.addEventListener("more", () => drawn.update({ x: { values: [...x, 40] }, series: series.map((s) => ({ ...s, values: [...s.values, 9], low: s.low && [...s.low, 8], high: s.high && [...s.high, 10] })) }));
