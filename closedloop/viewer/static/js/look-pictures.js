// The pictures there are to look at: bundled ones, those of a folder, what was dropped or pasted.

import { ask, getJSON, query } from "./api.js";
import { $, fill, h, say } from "./dom.js";

const AROUND = 30; // thumbnails on either side of the chosen one: ten thousand pictures stay quick

/** The address of an input as the subject sees it. */
export const picture = (id, size, fit) => query(`/api/inputs/${id}.jpg`, { size, fit });

export class Pictures {
  /** `choose(entry)` is called with an entry of /api/inputs whenever another picture is chosen. */
  constructor(choose) {
    this.choose = choose;
    this.list = [];
    this.at = -1;
    this.files = new Map(); // id of what was dropped here -> the file, which is sent again when it is to be stretched
    this.strip = $("#strip");
    this.strip.addEventListener("keydown", (event) => this.keys(event));
  }

  async load() {
    this.list = await getJSON("/api/inputs");
  }

  get entry() {
    return this.list[this.at] ?? null;
  }

  /** Chooses by id; tells whether there is such a picture. */
  pick(id) {
    const at = this.list.findIndex((one) => one.id === id);
    if (at >= 0) this.go(at);
    return at >= 0;
  }

  step(by) {
    if (this.list.length) this.go((this.at + by + this.list.length) % this.list.length);
  }

  go(at, quietly = false) {
    this.at = at;
    this.draw();
    if (!quietly && this.entry) this.choose(this.entry);
  }

  /** Sends a file and chooses it. `fit` is "crop" or "stretch". */
  async add(file, fit) {
    const title = (file.name || "pasted").slice(0, 80);
    const answer = await ask(query("/api/inputs", { fit, title }), { method: "POST", body: file, headers: { "Content-Type": file.type || "application/octet-stream" } });
    const entry = { title, source: "dropped", ...(await answer.json()) };
    this.files.set(entry.id, file);
    this.list = [entry, ...this.list.filter((one) => one.id !== entry.id)];
    this.go(0);
  }

  /** Sends the chosen picture again with another fit, where it was dropped here; tells whether it was. */
  async refit(fit) {
    const [before, file] = [this.entry?.id, this.files.get(this.entry?.id)];
    if (!file) return false;
    this.list = this.list.filter((one) => one.id !== before);
    await this.add(file, fit);
    return true;
  }

  draw() {
    const from = Math.max(0, Math.min(this.at - AROUND, this.list.length - 2 * AROUND - 1));
    const some = this.list.slice(from, from + 2 * AROUND + 1);
    const focused = this.strip.contains(document.activeElement);
    fill(this.strip, some.map((entry, i) => this.thumb(entry, from + i)));
    say($("#count"), this.list.length ? `${this.at + 1} of ${this.list.length}` : "");
    const chosen = $("[aria-pressed=true]", this.strip);
    if (focused) chosen?.focus({ preventScroll: true });
    if (chosen) this.strip.scrollLeft = chosen.offsetLeft - this.strip.offsetLeft - (this.strip.clientWidth - chosen.offsetWidth) / 2;
  }

  thumb(entry, at) {
    const image = h("img", { src: picture(entry.id, 64), alt: "", loading: "lazy", width: 48, height: 48 });
    return h("button", { type: "button", class: "thumb", title: entry.title, "aria-label": entry.title, "aria-pressed": String(at === this.at), tabindex: at === this.at ? "0" : "-1", onclick: () => this.go(at) }, image);
  }

  /** Arrow keys go along the strip while it has the focus. */
  keys(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.step(by);
  }
}
