// The keys of Look, in one table: what handles them, and what the help and docs/viewer.md list.

import { $, $$, fill, h, openDialog, typing } from "./dom.js";

const STORE = "closedloop.keys";
let kept = "on";

const SHORT = { PageDown: "PgDn", PageUp: "PgUp", Escape: "Esc" };

/** Rows: [keys, what it does, the key of the toolbox of 2015 or "new", name of the action]. Tiles handle those without an action. */
export const KEYS = [
  [["←", "→", "↑", "↓"], "another unit", "arrows"],
  [["i", "j", "k", "l"], "another unit: up, left, down, right", "i j k l"],
  [["I", "J", "K", "L"], "the same, three at a time; also Shift and an arrow", "I J K L"],
  [["Home", "End"], "first and last unit", "new"],
  [["g"], "type a unit's number", "new", "number"],
  [["Enter"], "the unit's page", "new"],
  [["u", "U"], "layer before; the unit's number is kept", "u U", "layerBefore"],
  [["o", "O"], "layer after; the unit's number is kept", "o O", "layerAfter"],
  [["r"], "order of units: index, activation, selectivity", "new", "order"],
  [["c"], "camera or pictures", "c", "camera"],
  [["f"], "freeze the camera, or let it go on", "f", "freeze"],
  [["e", "PageDown"], "next picture; with codes: another draw", "e, PgDn", "next"],
  [["w", "PageUp"], "picture before", "w, PgUp", "previous"],
  [["0"], "crop or stretch to the square", "0", "fit"],
  [["v"], "the generator's codes", "new", "codes"],
  [["z"], "large: the unit, back-propagation, or all channels", "z", "zoom"],
  [["s"], "patterns: what each unit prefers, in place of what it answers", "s", "patterns"],
  [["a"], "forward activations or backward differences", "a", "backward"],
  [["b"], "back-propagation: off, gradient raw, gradient norm, deconvnet", "b", "back"],
  [["d"], "freeze the unit that back-propagation starts from", "d", "follow"],
  [["n"], "method: gradient, guided, deconvnet, off", "n", "method"],
  [["m"], "shown as: raw, grey, norm, norm blurred", "m", "filter"],
  [["t"], "gamma: 1, 0.7, 0.5, 0.3", "t", "gamma"],
  [["T"], "each channel's own scale: 0, 0.3, 0.5, 0.8, 1", "T", "individual"],
  [["8"], "top five on or off", "8", "labels"],
  [["9"], "the unit's preferred stimulus on or off", "9", "prefers"],
  [["5"], "timings in the status line: none, short, all", "5", "debug"],
  [["x"], "save a picture", "new", "save"],
  [["h", "?"], "this list", "h", "help"],
  [["q"], "stop camera and walk; the server ends with Ctrl-C where it was started", "q", "rest"],
  [["Escape"], "reset", "Esc", "reset"],
];

const action = (key) => KEYS.find(([keys, , , name]) => name && keys.includes(key))?.[3];
const ARROWS = new Set(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End"]);

/** Listens on the page: `does` holds a function for each action, `tiles` takes what moves among units. */
export function listen(does, tiles) {
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    if (typing(target)) return key === "Escape" && target.blur();
    if (handles(target, key)) return undefined;
    if (key.length === 1 && !singleKeys()) return undefined;
    const name = action(key);
    if (name) does[name](event);
    else if (!tiles.key(event)) return undefined;
    event.preventDefault();
    return undefined;
  });
}

/** Whether the focused control has its own use of a key. */
function handles(target, key) {
  if (target.matches("input[type=radio], input[type=range]")) return ARROWS.has(key) || (target.type === "range" && /^Page/.test(key));
  if (target.matches("a, button, summary, input[type=checkbox]")) return key === "Enter" || key === " ";
  return false;
}

function singleKeys() {
  try {
    return (localStorage.getItem(STORE) ?? kept) !== "off";
  } catch {
    return kept !== "off"; // storage is switched off
  }
}

function keep(on) {
  kept = on ? "on" : "off";
  try {
    localStorage.setItem(STORE, kept);
  } catch {
    // Chosen for this page only.
  }
}

/** Fills the help with the table, and joins its switch for single keys. */
export function help() {
  const dialog = $("#keys");
  const [pairs, name] = [(keys) => keys.map((k) => [h("kbd", {}, SHORT[k] ?? k), " "]), (row) => (row === "new" ? h("span", { class: "soft" }, "–") : row)];
  fill($("#key-rows"), KEYS.map(([keys, does, before]) => h("tr", {}, h("td", { class: "nowrap" }, pairs(keys)), h("td", {}, does), h("td", { class: "nowrap" }, name(before)))));
  const box = $("#keys-on");
  box.checked = singleKeys();
  box.addEventListener("change", () => keep(box.checked));
  closers();
  return () => openDialog(dialog);
}

function closers() {
  for (const button of $$("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  for (const dialog of $$("dialog")) dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}
