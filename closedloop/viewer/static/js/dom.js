// The page's elements: finding them, making them. No framework.

/** The first element that matches, or null. */
export const $ = (selector, within = document) => within.querySelector(selector);

/** All elements that match, as an array. */
export const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

const SVG = new Set(["svg", "g", "path", "rect", "circle", "line", "polyline", "text", "title", "use"]);

/**
 * Makes an element: h("button", {class: "button", onclick: go, "aria-label": "Go"}, "Go").
 * An attribute that is a function is a listener (onclick), `style` takes an object of properties (custom ones too),
 * `dataset` an object, true means present, null, undefined and false mean absent. Children are elements, text, arrays; null is left out.
 * Text is always text: nothing is ever parsed as HTML. With {svg: true} an element of SVG's namespace is made.
 */
export function h(tag, attributes = {}, ...children) {
  const { svg, ...rest } = attributes ?? {};
  const element = svg || (tag !== "title" && tag !== "text" && SVG.has(tag))
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(rest)) put(element, name, value);
  append(element, children);
  return element;
}

function put(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (typeof value === "function") element.addEventListener(name.replace(/^on/, ""), value);
  else if (name === "style") for (const [key, text] of Object.entries(value)) style(element, key, text);
  else if (name === "dataset") Object.assign(element.dataset, value);
  else element.setAttribute(name, value === true ? "" : String(value));
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** Sets one property of an element's style; works for custom properties, and under the content-security policy. */
export function style(element, name, value) {
  if (name.startsWith("--")) element.style.setProperty(name, value);
  else element.style[name] = value;
}

/** Puts these children in place of what an element holds, and returns it. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Sets text only where it differs, so that screen readers and selections are left in peace. */
export function say(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** A number as people read it: four digits, a true minus, no needless zeros; a missing one is a dash. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(digits - 1) : String(+value.toPrecision(digits + (size >= 100)));
  return text.replace("-", "−");
}

/** A number with its standard error, as the reports write it: two digits of the error, and the number to the same place. */
export function withError(value, error) {
  if (!Number.isFinite(value) || !(error > 0) || !Number.isFinite(error)) return number(value, 4);
  const power = (v) => Math.floor(Math.log10(v));
  const e = (n) => `e${n < 0 ? "−" : "+"}${String(Math.abs(n)).padStart(2, "0")}`;
  const size = power(Math.max(Math.abs(value), error));
  if (size <= -5 || size >= 6) return `(${withError(value / 10 ** size, error / 10 ** size)})${e(size)}`;
  const place = Math.max(power(+error.toPrecision(2)) - 1, size - 6); // the digits of single precision
  const digits = Math.max(0, -place);
  const write = (v) => (Math.round(v / 10 ** place) * 10 ** place).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const shown = write(error);
  const tiny = () => (error < 1e-4 ? +`${error.toExponential(1)}`.split("e")[0] + e(power(+error.toPrecision(2))) : String(+error.toPrecision(2)));
  return `${write(value).replace(/^-(?=[0.]*$)/, "").replace("-", "−")} ± ${/[1-9]/.test(shown) ? shown : tiny()}`;
}

/** The value of a token of base.css as the page has it now: token("--accent"). */
export const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A colour token resolved to rgb(): what a canvas can draw with, light-dark() included. */
export function colour(name) {
  const probe = h("span", { style: { color: `var(${name})`, display: "none" } });
  document.body.append(probe);
  const rgb = getComputedStyle(probe).color;
  probe.remove();
  return rgb;
}

/** Whether the reader asked for less motion. */
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Whether keys belong to a text field, so that no shortcut may take them. */
export function typing(target) {
  if (!(target instanceof Element)) return false;
  return target.isContentEditable || target.matches("textarea, select, input:not([type=range], [type=checkbox], [type=radio], [type=button])");
}

/** Calls a function at most once per frame, with its latest arguments. */
export function perFrame(draw) {
  let last = null;
  return (...args) => {
    if (last === null) requestAnimationFrame(() => { const now = last; last = null; draw(...now); });
    last = args;
  };
}

/** Resolves after so many milliseconds. */
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Resolves at once where the page is seen, and else when it is: what nobody looks at keeps no model busy. */
export const whenSeen = () => new Promise((done) => {
  const look = () => {
    if (document.hidden) return;
    document.removeEventListener("visibilitychange", look);
    done();
  };
  document.addEventListener("visibilitychange", look);
  look();
});

/** Has each picture that cannot be had say so in its place, those too that failed before this was called. */
export function sayMissing() {
  const put = (image) => image.replaceWith(h("span", { class: "missing" }, "no picture"));
  document.addEventListener("error", ({ target }) => { if (target instanceof HTMLImageElement) put(target); }, true);
  for (const image of $$("img[src]")) if (image.complete && image.currentSrc && !image.naturalWidth) put(image);
}

/** Opens a <dialog> and gives the focus back where it was when it closes. */
export function openDialog(dialog) {
  const before = document.activeElement;
  dialog.addEventListener("close", () => before?.focus?.(), { once: true });
  dialog.showModal();
}
