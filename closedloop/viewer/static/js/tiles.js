// Pictures of many units on one canvas, cut from one sprite: one decode, one element, any number of tiles.
//
//   const tiles = new Tiles(element, {label: "Channels", onselect: (channel, index) => …, onenter: channel => …, describe: channel => "3.2"});
//   tiles.show({sprite, tile: [h, w], columns, order: [channel of each tile]});   // sprite: an ImageBitmap, or a canvas
//   tiles.select(30);            // a channel; tiles.move(dx, dy) goes from tile to tile
//
// The element gets a listbox with one option, the selected unit, which screen readers say as it moves. Arrow keys, ijkl (with shift: FAST tiles),
// Home, End and Page keys move, Enter opens; a page that handles keys everywhere gives {keys: false} and calls key(event).

import { colour, h, perFrame, say } from "./dom.js";

export const FAST = 3;
const GAP = 3;
const EDGE = 3; // padding of the pane, where the ring of an outer tile is drawn
const LARGEST = 240;
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], j: [-1, 0], l: [1, 0], i: [0, -1], k: [0, 1] };

export class Tiles {
  constructor(element, { label = "Units", onselect = () => {}, onenter = () => {}, describe = () => "", keys = true } = {}) {
    Object.assign(this, { element, onselect, onenter, describe, sheet: null, channel: null, fit: null });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.cursor = h("div", { class: "tile-cursor", hidden: true, "aria-hidden": "true" });
    this.tag = h("div", { class: "tile-tag n", hidden: true, "aria-hidden": "true" });
    this.options = [0, 1].map((n) => h("div", { role: "option", id: `${element.id || "tiles"}-option-${n}`, class: "visually-hidden", "aria-selected": "true" }));
    this.box = h("div", { class: "tile-box", role: "listbox", tabindex: "0", "aria-label": label }, this.options[0], this.canvas, this.cursor, this.tag);
    element.classList.add("tiles-canvas");
    element.replaceChildren(this.box);
    this.draw = perFrame(() => this.drawNow());
    this.canvas.addEventListener("click", (event) => this.pick(event));
    this.canvas.addEventListener("dblclick", () => this.channel !== null && this.onenter(this.channel));
    this.canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && this.hover(event));
    this.canvas.addEventListener("pointerleave", () => { this.tag.hidden = true; });
    if (keys) this.box.addEventListener("keydown", (event) => this.key(event) && event.preventDefault());
    new ResizeObserver(() => this.layout()).observe(element);
    document.addEventListener("themechange", () => this.draw());
  }

  /** Shows a sheet of tiles; the selected channel stays selected where the sheet has it. */
  show(sheet) {
    this.sheet?.sprite !== sheet.sprite && this.sheet?.sprite?.close?.();
    const other = !this.sheet || this.sheet.order.length !== sheet.order.length || String(this.sheet.tile) !== String(sheet.tile);
    this.sheet = sheet;
    this.places = new Map(sheet.order.map((channel, index) => [channel, index]));
    if (other || !this.fit) this.layout();
    else this.draw();
    this.mark();
  }

  /** The largest tiles with which all fit the pane; where these are too small, they scroll. */
  layout() {
    if (!this.sheet) return;
    this.element.style.setProperty("--tall", "9999px"); // a pane that may be as low as its tiles reads this
    const [width, height] = [this.element.clientWidth - 2 * EDGE, this.element.clientHeight - 2 * EDGE];
    const count = this.sheet.order.length;
    const least = matchMedia("(pointer: coarse), (max-width: 40rem)").matches ? 34 : 18;
    const aspect = Math.min(4, Math.max(0.25, this.sheet.tile[0] / this.sheet.tile[1]));
    let columns = 1;
    const wide = (n) => Math.floor((width - GAP * (n - 1)) / n);
    while (columns < count && (wide(columns) > LARGEST || Math.ceil(count / columns) * (wide(columns) * aspect + GAP) - GAP > height) && wide(columns + 1) >= least) columns += 1;
    const w = Math.max(1, Math.min(LARGEST, wide(columns)));
    this.fit = { columns, w, h: Math.max(1, Math.round(w * aspect)), rows: Math.ceil(count / columns) };
    const [full, tall] = [columns * (w + GAP) - GAP, this.fit.rows * (this.fit.h + GAP) - GAP];
    this.element.style.setProperty("--tall", `${tall + 2 * EDGE}px`);
    const ratio = Math.min(devicePixelRatio || 1, 2);
    this.canvas.width = Math.round(full * ratio);
    this.canvas.height = Math.round(tall * ratio);
    this.canvas.style.width = `${full}px`;
    this.canvas.style.height = `${tall}px`;
    this.ratio = ratio;
    this.drawNow();
    this.mark();
  }

  drawNow() {
    const { sheet, fit, ratio } = this;
    if (!sheet || !fit) return;
    const context = this.canvas.getContext("2d");
    const [th, tw] = sheet.tile;
    context.fillStyle = colour("--panel");
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.imageSmoothingEnabled = tw > fit.w * ratio; // enlarged tiles keep their pixels
    sheet.order.forEach((_, index) => {
      const [x, y] = this.corner(index);
      const [column, row] = [index % sheet.columns, Math.floor(index / sheet.columns)];
      context.drawImage(sheet.sprite, column * tw, row * th, tw, th, x * ratio, y * ratio, fit.w * ratio, fit.h * ratio);
    });
  }

  corner(index) {
    const { columns, w, h: tall } = this.fit;
    return [(index % columns) * (w + GAP), Math.floor(index / columns) * (tall + GAP)];
  }

  at(event) {
    if (!this.fit) return null;
    const { columns, w, h: tall } = this.fit;
    const [column, row] = [Math.floor(event.offsetX / (w + GAP)), Math.floor(event.offsetY / (tall + GAP))];
    const index = row * columns + column;
    return column >= 0 && column < columns && index >= 0 && index < this.sheet.order.length ? index : null;
  }

  pick(event) {
    const index = this.at(event);
    if (index !== null) this.choose(index);
  }

  hover(event) {
    const index = this.at(event);
    this.tag.hidden = index === null;
    if (index === null) return;
    const channel = this.sheet.order[index];
    const [x, y] = this.corner(index);
    say(this.tag, [channel, this.describe(channel)].filter((t) => t !== "").join(" · "));
    const left = Math.min(x, Math.max(0, this.canvas.clientWidth - this.tag.offsetWidth));
    this.tag.style.transform = `translate(${left}px, ${y > 24 ? y - 22 : y + this.fit.h + 2}px)`;
  }

  /** Selects the tile with this index, as a person does: whoever listens is told. */
  choose(index) {
    if (!this.sheet) return;
    const channel = this.sheet.order[Math.max(0, Math.min(this.sheet.order.length - 1, index))];
    if (channel === this.channel) return;
    this.select(channel);
    this.onselect(channel, index);
  }

  /** Selects a channel without telling; null takes the selection away. */
  select(channel) {
    this.channel = channel;
    this.mark();
  }

  get index() {
    return this.places?.get(this.channel) ?? -1;
  }

  move(dx, dy) {
    if (!this.fit) return;
    const at = Math.max(0, this.index);
    const { columns, rows } = this.fit;
    const column = Math.max(0, Math.min(columns - 1, (at % columns) + dx));
    const row = Math.max(0, Math.min(rows - 1, Math.floor(at / columns) + dy));
    let index = row * columns + column;
    if (index >= this.sheet.order.length) index = dy > 0 ? (at + columns < this.sheet.order.length ? at + columns : at) : this.sheet.order.length - 1;
    this.choose(index);
  }

  /** Handles a key, if it is one of these; tells whether it was. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.sheet) return false;
    const step = STEPS[event.key] ?? STEPS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const last = this.sheet.order.length - 1;
    const fast = event.shiftKey || /^[IJKL]$/.test(event.key) ? FAST : 1;
    if (step) this.move(step[0] * fast, step[1] * fast);
    else if (event.key === "Home") this.choose(0);
    else if (event.key === "End") this.choose(last);
    else if (event.key === "Enter" && this.channel !== null) this.onenter(this.channel);
    else return false;
    return true;
  }

  /** Puts the ring around the selected tile, and says it to screen readers. */
  mark() {
    const index = this.index;
    this.cursor.hidden = index < 0 || !this.fit;
    if (this.cursor.hidden) return this.box.removeAttribute("aria-activedescendant");
    const [x, y] = this.corner(index);
    this.cursor.style.transform = `translate(${x}px, ${y}px)`;
    this.cursor.style.width = `${this.fit.w}px`;
    this.cursor.style.height = `${this.fit.h}px`;
    this.reveal(y);
    this.tell(index);
    return undefined;
  }

  reveal(y) {
    const { scrollTop, clientHeight, scrollHeight } = this.element;
    if (scrollHeight <= clientHeight) return;
    if (y < scrollTop) this.element.scrollTop = y - GAP;
    else if (y + this.fit.h > scrollTop + clientHeight) this.element.scrollTop = y + this.fit.h - clientHeight + GAP;
  }

  /** A new option for a new unit: screen readers read what becomes active, not what changes its text. */
  tell(index) {
    const words = `unit ${this.channel} ${this.describe(this.channel)}`.trim();
    let option = this.box.querySelector("[role=option]");
    if (option.dataset.channel !== String(this.channel)) {
      const other = this.options.find((o) => o !== option);
      option.replaceWith(other);
      option = other;
      option.dataset.channel = String(this.channel);
    }
    option.setAttribute("aria-posinset", String(index + 1));
    option.setAttribute("aria-setsize", String(this.sheet.order.length));
    say(option, words);
    this.box.setAttribute("aria-activedescendant", option.id);
  }

  /** Draws one tile, as large as a canvas is. */
  drawOne(canvas, channel, { smooth = false } = {}) {
    const index = this.places?.get(channel);
    if (index === undefined) return false;
    const { sprite, tile: [th, tw], columns } = this.sheet;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = smooth;
    context.drawImage(sprite, (index % columns) * tw, Math.floor(index / columns) * th, tw, th, 0, 0, canvas.width, canvas.height);
    return true;
  }
}
