// Several runs on one axis.

import { getJSON, query, shown } from "./api.js";
import { $, fill, h, number, withError } from "./dom.js";
import { plot } from "./plot.js";

const ids = $("#comparison").dataset.ids;
let drawn = null;

/** Values of a line at other places, between its own by straight lines; outside of them none. */
function between(xs, ys, places) {
  let at = 0;
  return places.map((x) => {
    if (!xs.length || x < xs[0] || x > xs.at(-1)) return null;
    while (at < xs.length - 2 && xs[at + 1] < x) at += 1;
    if (xs[at] === x || xs.length === 1) return ys[at];
    const share = (x - xs[at]) / (xs[at + 1] - xs[at]);
    return ys[at] === null || ys[at + 1] === null ? null : ys[at] + share * (ys[at + 1] - ys[at]);
  });
}

function curves(runs, axis) {
  const several = runs.length > 1;
  const all = runs.flatMap((run) => run.threads.map((one) => ({ ...one, title: several ? `${run.name}${run.threads.length > 1 ? ` / ${one.name}` : ""}` : one.name })));
  const x = [...new Set(all.flatMap((one) => one[axis]))].sort((a, b) => a - b);
  const on = (one, name) => between(one[axis], one[name], x);
  return { x: { label: axis === "images" ? "images of a thread" : "generation", values: x }, series: all.map((one) => ({ name: one.title, values: on(one, "mean"), low: on(one, "low"), high: on(one, "high") })) };
}

function table(runs) {
  const rows = runs.flatMap((run) => (run.findings ?? []).map((one) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: `/runs/${run.id}` }, run.name)), h("td", {}, one.thread), h("td", {}, one.target), h("td", {}, one.optimizer),
    h("td", { class: "n" }, (one.images ?? 0).toLocaleString("en")), h("td", { class: "n nowrap" }, withError(one.evolved, one.evolved_sem)),
    h("td", { class: "n nowrap" }, withError(one.natural, one.natural_sem)), h("td", { class: "n" }, number(one.ratio, 3)))));
  const heads = ["run", "thread", "target", "optimizer", "images", "evolved", "best natural", "ratio"];
  if (!rows.length) return h("p", { class: "soft" }, "None of them is finished.");
  return h("table", {}, h("thead", {}, h("tr", {}, heads.map((name, i) => h("th", { scope: "col", class: i > 3 ? "n" : null }, name)))), h("tbody", {}, rows));
}

shown(async () => {
  const { runs } = await getJSON(query("/api/runs/compare", { ids }));
  const damaged = runs.filter((run) => run.problem);
  $("#problems").hidden = !damaged.length;
  fill($("#problems"), damaged.map((run) => h("li", { class: "notice bad" }, h("b", {}, run.name), ` cannot be shown. ${run.problem}`)));
  const show = () => {
    const options = curves(runs, $("#axis input:checked").value);
    drawn?.destroy();
    drawn = plot($("#plot"), { title: "Mean score of a generation", y: { label: "score", log: null }, height: 360, ...options });
  };
  $("#axis").addEventListener("change", show);
  show();
  fill($("#found"), table(runs));
})();
