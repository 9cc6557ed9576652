// Talking to the server: JSON in and out, aborts, errors in the page's alert region.

/** What the server refused, in its own words; `status` is that of HTTP, 0 where no server answered. */
export class Refusal extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Whether an error says only that something newer took the place of a request. */
export const superseded = (error) => error?.name === "AbortError" || (error?.status === 409 && error.message === "superseded");

/** This tab's name: of two requests of one tab that wait for the model, the server drops the older. */
const TAB = Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Sends a request and returns the response; a status of 400 or more throws a Refusal with the server's sentence. */
export async function ask(address, options = {}) {
  let response;
  try {
    response = await fetch(address, { credentials: "same-origin", ...options, headers: { "X-Tab": TAB, ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server does not answer. Is closedloop view still running?");
  }
  if (!response.ok) throw new Refusal(await sentence(response), response.status);
  return response;
}

async function sentence(response) {
  try {
    return (await response.json()).error ?? `The server answered ${response.status}.`;
  } catch {
    return `The server answered ${response.status}.`;
  }
}

/** GET, read as JSON. Options are fetch's: {signal}. */
export const getJSON = async (address, options = {}) => (await ask(address, options)).json();

/** POST of a JSON body, read as JSON. */
export async function postJSON(address, body = {}, options = {}) {
  const headers = { "Content-Type": "application/json", ...options.headers };
  return (await ask(address, { method: "POST", body: JSON.stringify(body), ...options, headers })).json();
}

/** An address with its query; entries that are null, undefined or "" are left out. */
export function query(path, entries = {}) {
  const kept = Object.entries(entries).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return kept.length ? `${path}?${new URLSearchParams(kept)}` : path;
}

/**
 * The newest request wins: await latest(signal => getJSON(address, {signal})) aborts the one before,
 * and gives undefined to whoever was overtaken.
 */
export function newest() {
  let count = 0;
  let running = null;
  return async (work) => {
    running?.abort();
    const mine = ++count;
    running = new AbortController();
    try {
      const answer = await work(running.signal);
      return mine === count ? answer : undefined;
    } catch (error) {
      if (mine !== count || superseded(error)) return undefined;
      throw error;
    }
  };
}

/** Shows what went wrong in the page's alert region, until dismissed or until something works again. */
export function showError(error) {
  if (superseded(error)) return;
  const region = document.getElementById("alert");
  const words = document.createElement("span");
  words.textContent = error?.message ?? String(error);
  const close = document.createElement("button");
  close.type = "button";
  close.className = "button quiet";
  close.textContent = "Dismiss";
  close.addEventListener("click", () => clearError());
  region.replaceChildren(words, close);
  region.hidden = false;
}

/** The error that stands in the alert region now; null where none does. */
export const standing = () => document.getElementById("alert")?.firstChild ?? null;

/** Takes the error away; given one that stood before, only that one, since a later one tells of something else. */
export function clearError(one = standing()) {
  const region = document.getElementById("alert");
  if (region && !region.hidden && one === standing()) {
    region.hidden = true;
    region.replaceChildren();
  }
}

/** Wraps a handler so that what it throws is shown to the reader: button.onclick = shown(async () => …). */
export const shown = (work) => async (...args) => {
  try {
    return await work(...args);
  } catch (error) {
    showError(error);
    return undefined;
  }
};

/** Makes an element take dropped files and pasted pictures; `take` gets a File. Returns a function that ends it. */
export function takesPictures(element, take) {
  const picture = (files) => [...files].find((file) => file.type.startsWith("image/"));
  const over = (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    element.classList.add("over");
  };
  const leave = () => element.classList.remove("over");
  const drop = (event) => {
    leave();
    const file = picture(event.dataTransfer.files);
    if (event.dataTransfer.files.length) event.preventDefault();
    if (file) take(file);
    else if (event.dataTransfer.files.length) showError(new Refusal("Expected a picture: PNG, JPEG, WebP, BMP or GIF."));
  };
  const paste = (event) => {
    const file = picture(event.clipboardData?.files ?? []);
    if (file) {
      event.preventDefault();
      take(file);
    }
  };
  const all = [[element, "dragover", over], [element, "dragleave", leave], [element, "drop", drop], [document, "paste", paste]];
  for (const [target, name, listener] of all) target.addEventListener(name, listener);
  return () => all.forEach(([target, name, listener]) => target.removeEventListener(name, listener));
}
