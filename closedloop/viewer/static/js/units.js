// Pages of units: sorting cards, arrow keys, and runs begun for a unit. Without scripts all links work the same.
import { postJSON, shown } from "./api.js";
import { $, $$, sayMissing, typing } from "./dom.js";

const list = $("#units");
const sorting = $("#sorting");
if (list && sorting) {
  sorting.hidden = false;
  const value = (card, name) => Number(card.dataset[name]);
  $("#sort").addEventListener("change", (event) => {
    const name = event.target.value;
    const way = name === "index" ? 1 : -1;
    list.append(...$$("li", list).sort((a, b) => way * (value(a, name) - value(b, name)) || value(a, "index") - value(b, "index")));
  });
}

/** The cards in the row above or below: how many columns the grid has now. */
const columns = () => getComputedStyle(list).gridTemplateColumns.split(" ").length;

addEventListener("keydown", (event) => {
  if (typing(event.target) || event.altKey || event.ctrlKey || event.metaKey) return;
  if (list && list.contains(document.activeElement)) {
    const links = $$("a.unit", list);
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() }[event.key];
    const next = links[links.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  } else if (!list && !event.target.closest("select, .table")) {
    const way = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
    if (way) $(`a[rel="${way}"]`)?.click();
  }
});

for (const button of $$("button[data-protocol]")) {
  button.addEventListener("click", shown(async () => {
    button.setAttribute("aria-busy", "true");
    button.disabled = true;
    try {
      const { protocol, layer, unit } = button.dataset;
      const { run } = await postJSON("/api/jobs", { protocol, layer, unit });
      location.assign(`/runs/${encodeURIComponent(run)}`);
    } finally {
      button.removeAttribute("aria-busy");
      button.disabled = false;
    }
  }));
}

sayMissing();
