// The browser of runs. The server makes the table; this asks for it again without a new page.

import { newest, showError, shown } from "./api.js";
import { $, $$, sayMissing } from "./dom.js";

const MOST = 12; // runs on one axis
const AGAIN_MS = 5000;

const form = $("#filters");
const latest = newest();
const chosen = new Set();

/** The address of what the form says; a button that sends it may add an entry, such as a page. */
function address(submitter = null) {
  const data = new FormData(form);
  if (submitter?.name) data.set(submitter.name, submitter.value);
  const kept = [...data].filter(([name, value]) => value !== "" && !(name === "sort" && value === "-when"));
  const query = new URLSearchParams(kept).toString();
  return query ? `${form.action}?${query}` : form.action;
}

/** Puts the results of an address in place of those on the page. */
async function show(place, { quiet = false } = {}) {
  const results = $("#results");
  if (!quiet) results.setAttribute("aria-busy", "true");
  try {
    const page = await latest(async (signal) => {
      const answer = await fetch(place, { signal, credentials: "same-origin" });
      const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!answer.ok) throw new Error($("main", parsed)?.textContent.trim().replace(/\s+/g, " ") ?? "The server refused this.");
      return parsed;
    });
    if (!page) return;
    const focused = results.contains(document.activeElement) ? document.activeElement : null;
    const key = focused && { name: focused.name, value: focused.value, text: focused.textContent };
    const fresh = $("#results", page);
    results.replaceChildren(...fresh.childNodes);
    $("#sort").value = $("#sort", page).value;
    history.replaceState(null, "", place);
    mark();
    if (key) $$("button, input, a", results).find((e) => (key.name ? e.name === key.name && e.textContent === key.text : e.textContent === key.text && e.value === key.value))?.focus();
  } finally {
    results.removeAttribute("aria-busy");
  }
}

/** Ticks what was chosen, and says how many there are. */
function mark() {
  for (const box of $$(".choose input")) box.checked = chosen.has(box.value);
  const button = $("#compare");
  if (!button) return;
  button.hidden = chosen.size === 0;
  button.disabled = chosen.size < 2 || chosen.size > MOST;
  button.textContent = chosen.size > MOST ? `Compare at most ${MOST}` : `Compare ${chosen.size}`;
}

const go = shown((submitter) => show(address(submitter)));

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter?.name === "sort") $("#sort").value = event.submitter.value;
  go(event.submitter);
});

let wait = null;
form.addEventListener("input", (event) => {
  clearTimeout(wait);
  wait = setTimeout(() => go(), event.target.type === "radio" ? 0 : 250);
});

document.addEventListener("change", (event) => {
  if (!event.target.matches(".choose input")) return;
  if (event.target.checked) chosen.add(event.target.value);
  else chosen.delete(event.target.value);
  mark();
});

document.addEventListener("click", (event) => {
  if (event.target.id === "compare") location.assign(`${form.action}/compare?ids=${[...chosen].join(",")}`);
});

sayMissing();

setInterval(() => {
  const going = $("#results .badge.accent");
  if (going && !document.hidden) show(location.href, { quiet: true }).catch(showError);
}, AGAIN_MS);
