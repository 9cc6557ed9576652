// The errors page: follows the survey, and asks for explanations. Everything that is shown comes from the server's templates.
import { $, $$, pause, say, sayMissing, whenSeen } from "./dom.js";
import { ask, getJSON, postJSON, query, shown, showError } from "./api.js";

const EVERY = 1500; // milliseconds between two looks

/** What tells a link or a button from others, also in a newer page. */
const called = (element) => element.id || element.getAttribute("href");

/** Puts the server's newest page in the place of some parts of this one. */
async function renew(...names) {
  const page = new DOMParser().parseFromString(await (await ask(location.href)).text(), "text/html");
  for (const name of names) {
    const [old, now] = [$(`#${name}`), $(`#${name}`, page)];
    if (!old || !now || old.innerHTML === now.innerHTML) continue;
    const focused = old.contains(document.activeElement) ? called(document.activeElement) : null;
    const fresh = document.importNode(now, true);
    old.replaceWith(fresh);
    if (focused) $$("a, button", fresh).find((one) => called(one) === focused)?.focus({ preventScroll: true });
  }
  return page;
}

/** Follows what runs on the server until it is done. */
async function follow() {
  let errors = -1;
  let explained = -1;
  for (;;) {
    const state = await getJSON("/api/errors");
    draw(state);
    if (state.errors !== errors || state.explained !== explained) await renew("groups", "count", "actions");
    [errors, explained] = [state.errors, state.explained];
    if (state.trouble) throw new Error(`${state.trouble} Mend that, and open this page again: it goes on from here.`);
    if (state.done >= state.of && !state.waiting) break;
    await pause(EVERY);
    await whenSeen();
  }
  await renew("actions");
}

function draw(state) {
  const surveying = state.done < state.of;
  $("#before")?.remove(); // what is told from now on is newer
  const bar = $("#bar");
  $("#progress").hidden = !surveying && !state.waiting;
  bar.max = surveying ? state.of : state.errors;
  bar.value = surveying ? state.done : state.explained;
  say($("#doing"), surveying ? `${state.done} of ${state.of} images shown` : `${state.explained} of ${state.errors} errors explained`);
}

function begin(page) {
  const { done, of, waiting } = page.dataset;
  if (+done < +of || +waiting) shown(follow)();
  page.addEventListener("click", shown(async (event) => {
    const button = event.target.closest("#explain");
    if (!button || button.getAttribute("aria-busy")) return;
    button.setAttribute("aria-busy", "true");
    draw(await postJSON("/api/errors/explain"));
    await follow();
  }));
}

/** Asks for what drove one answer, and shows it when it is there. */
async function explain(page) {
  const { image, layer } = page.dataset;
  try {
    await postJSON(query(`/api/errors/${image}`, { layer }));
    location.reload();
  } catch (error) {
    $("#waiting")?.remove();
    showError(error);
  }
}

const all = $("#errors");
if (all) begin(all);
const one = $("#error[data-image]");
if (one) explain(one);
sayMissing();
