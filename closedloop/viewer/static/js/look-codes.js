// A generator's code: sliders along its main directions, a random walk, a morph from one draw to another.

import { getJSON, postJSON, shown } from "./api.js";
import { $, fill, h, say, whenSeen } from "./dom.js";

const LIMIT = 3; // standard deviations to either side

export class Codes {
  /** `made(entry)` is called with every new input; it returns a promise, and the next code waits for it. */
  constructor(made) {
    this.made = made;
    this.step = 0;
    this.walking = false;
    this.busy = this.again = false;
    this.make = shown(() => this.makeAll());
  }

  /** Asks whether there is a generator, and builds its controls. */
  async load() {
    const about = await getJSON("/api/codes");
    if (!about.directions) return false;
    fill($("#amounts"), Array.from({ length: about.directions }, (_, i) => this.slider(i)));
    for (const name of ["#seed", "#towards"]) $(name).addEventListener("change", () => this.make());
    $("#morph").addEventListener("input", () => this.make());
    $("#draw").addEventListener("click", () => this.draw());
    $("#walk").addEventListener("click", () => this.walk(!this.walking));
    $("#centre").addEventListener("click", () => this.zero());
    return true;
  }

  slider(i) {
    const id = `amount-${i}`;
    const output = h("output", { for: id }, "0");
    const input = h("input", { type: "range", id, min: -LIMIT, max: LIMIT, step: 0.05, value: 0, oninput: () => { say(output, (+input.value).toFixed(2).replace("-", "−")); this.make(); } });
    return h("div", { class: "slider" }, h("label", { for: id }, `Axis ${i + 1}`), input, output);
  }

  get amounts() {
    return [...document.querySelectorAll("#amounts input")].map((input) => +input.value);
  }

  draw() {
    $("#seed").value = Math.floor(Math.random() * 1e6);
    return this.make();
  }

  zero() {
    for (const input of document.querySelectorAll("#amounts input")) {
      input.value = 0;
      say(input.nextElementSibling, "0");
    }
    $("#morph").value = 0;
    this.step = 0;
    return this.make();
  }

  walk(on) {
    this.walking = on;
    $("#walk").setAttribute("aria-pressed", String(on));
    if (on) this.make();
  }

  /** Makes the image of what the controls say; one at a time, and the last one is always made. */
  async makeAll() {
    this.again = true;
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.again || this.walking) {
        if (!this.again) await whenSeen();
        if (!this.again && !this.walking) break;
        this.again = false;
        if (this.walking) this.step += 1;
        await this.made(await postJSON("/api/codes", this.asked()));
      }
    } catch (error) {
      this.walk(false);
      throw error;
    } finally {
      this.busy = false;
    }
  }

  asked() {
    const [seed, at] = [Math.max(0, Math.round(+$("#seed").value || 0)), +$("#morph").value];
    say($("#morph-at"), at ? at.toFixed(2) : "off");
    const body = { amounts: this.amounts, seed };
    if (at) body.morph = [seed, Math.max(0, Math.round(+$("#towards").value || 0)), at];
    if (this.step) body.walk = this.step;
    return body;
  }
}
