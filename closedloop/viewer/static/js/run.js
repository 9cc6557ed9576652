// One run: its curves and pictures, followed while it goes on.

import { clearError, getJSON, postJSON, showError, shown, standing } from "./api.js";
import { $, fill, h, number, openDialog, pause, say, sayMissing, whenSeen } from "./dom.js";
import { plot } from "./plot.js";

const page = $("#run");
const id = page.dataset.id;
const here = `/api/runs/${encodeURIComponent(id)}`;
const STRIP = 40; // pictures of a strip at most
const PEOPLE = 24; // images of a generation at most, and milliseconds between two generations that are shown
const PEOPLE_MS = 4000;
const NOW = 4; // threads whose best image stands beside the progress
const CAUTIONS_MS = 15000;
const DRAWINGS_MS = 15000;
const LOOK_MS = 500; // between two looks at a run that goes on, and at one that rests
const REST_MS = 2000;
const FINISHED = ["finished", "stopped"];

const threads = new Map(); // name -> {facts, columns, population}
const references = { generation: [], drift: new Map() };
let known = -2; // the last generation that was read
let state = "";
let drawn = null;
let drawnDrift = null;
let peopled = -Infinity;
let before = ""; // what told the last snapshot from the one before
let commits = 0;
let following = false;

const picture = (name, size, kind = "evolved") => `${here}/pictures/${encodeURIComponent(name)}.jpg?size=${size}&kind=${kind}`;

/** Takes in what is new, and shows it. */
function take(snapshot) {
  for (const one of snapshot.threads) {
    const held = threads.get(one.name) ?? { name: one.name, target: one.target, population: null };
    for (const name of ["generation", "mean", "low", "high", "best", "best_id", "images"]) held[name] = (held[name] ?? []).concat(one[name]);
    held.population = one.population ?? held.population;
    threads.set(one.name, held);
    known = Math.max(known, held.generation.at(-1) ?? known);
  }
  references.generation.push(...snapshot.references.generation);
  for (const [name, values] of Object.entries(snapshot.references.drift)) references.drift.set(name, (references.drift.get(name) ?? []).concat(values));
  known = Math.max(known, references.generation.at(-1) ?? known);
  const over = FINISHED.includes(snapshot.state);
  if (state && over && !FINISHED.includes(state)) location.reload(); // the server says what was found
  state = snapshot.state;
  showState(snapshot);
  showNow();
  showCurves();
  showStrips();
  showPopulation(performance.now());
  showReferences();
  showTold(snapshot.notices);
  lookForCautions(performance.now());
  drawAgain(snapshot, performance.now());
}

let drawnAt = -Infinity;
let drawnCommits = -1;

/** Has the movies and figures of a run that goes on drawn again, of what is committed now. */
function drawAgain(snapshot, now) {
  if (drawnCommits < 0) drawnCommits = snapshot.commits; // the page came with these
  if (snapshot.commits === drawnCommits || now - drawnAt < DRAWINGS_MS) return;
  drawnAt = now;
  drawnCommits = snapshot.commits;
  for (const image of document.querySelectorAll(".drawing img")) image.src = `${here}/drawings/${image.dataset.file}?commits=${snapshot.commits}`;
}

function showState(snapshot) {
  const kinds = { running: "accent", finished: "good", stopped: "good", interrupted: "warn" };
  const words = $("#state").textContent.trim();
  if (words !== snapshot.state) fill($("#state"), h("span", { class: `badge ${kinds[snapshot.state]}` }, snapshot.state));
  $("#interrupted").hidden = snapshot.state !== "interrupted";
  $("#progress").hidden = FINISHED.includes(snapshot.state);
  const end = $("#end");
  end.hidden = !snapshot.can_end;
  end.disabled = snapshot.asked_to_end;
  say(end, snapshot.asked_to_end ? "Ends after this generation" : "End after this generation");
  $("#bar").max = snapshot.total ?? 1;
  $("#bar").value = snapshot.done;
  $("#bar").hidden = !snapshot.total;
  say($("#done"), snapshot.total ? `${snapshot.done.toLocaleString("en")} of ${snapshot.total.toLocaleString("en")}` : snapshot.done.toLocaleString("en"));
  // What trains, or shows given images, evolves none: then it is counted what was recorded.
  const evolves = snapshot.threads.length > 0 || snapshot.total !== null;
  say($("#done-of"), evolves ? "evolved images" : "rows recorded");
  $("#generation-figure").hidden = !evolves;
  if (!evolves) say($("#done"), snapshot.presentations.toLocaleString("en"));
  const retests = snapshot.kind === "retest" || (snapshot.total && snapshot.done >= snapshot.total);
  say($("#generation"), retests ? "re-tests" : snapshot.generation < 0 ? "survey" : String(snapshot.generation));
  say($("#rate"), number(snapshot.state === "running" ? snapshot.per_s : null, 3));
  say($("#left"), duration(snapshot.left_s));
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  return whole < 3600 ? `${Math.floor(whole / 60)} min` : `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Values of threads by generation, on one axis. */
function aligned(of) {
  const all = [...threads.values()];
  const x = [...new Set(all.flatMap((one) => one.generation))].sort((a, b) => a - b);
  const place = new Map(x.map((value, i) => [value, i]));
  const put = (one, name) => {
    const row = x.map(() => null);
    one.generation.forEach((g, i) => { row[place.get(g)] = one[name][i]; });
    return row;
  };
  return { x, series: all.map((one) => Object.fromEntries([["name", one.name], ...Object.entries(of).map(([key, name]) => [key, put(one, name)])])) };
}

function showCurves() {
  if (![...threads.values()].some((one) => one.generation.length)) return;
  $("#curves").hidden = false;
  const { x, series } = aligned({ values: "mean", low: "low", high: "high" });
  const options = { x: { label: "generation", values: x }, series };
  if (drawn) drawn.update(options);
  else drawn = plot($("#plot"), { title: "Score by generation", y: { label: "score", log: null }, height: 280, ...options });
}

/** Which of so many generations stand in a strip: every 2nd, 4th, 8th …, which stay while others come, and the last. */
function few(count) {
  const step = 2 ** Math.max(0, Math.ceil(Math.log2(count / STRIP)));
  const places = Array.from({ length: Math.ceil(count / step) }, (_, i) => i * step);
  return places.at(-1) === count - 1 ? places : [...places, count - 1];
}

/** Replaces an element's children only by those whose key is new, so that pictures are not loaded twice. */
function keep(element, items, key, make) {
  const held = new Map([...element.children].map((child) => [child.dataset.key, child]));
  element.replaceChildren(...items.map((item) => held.get(key(item)) ?? make(item)));
}

function strip(held) {
  const found = document.getElementById(`strip-${held.name}`);
  if (found) return found;
  const list = h("ul", { class: "strip", id: `strip-${held.name}`, tabindex: "0", "aria-label": `Best images of ${held.name}` });
  $("#strips").append(h("div", {}, threads.size > 1 || held.name !== "main" ? h("h3", { class: "strip-name" }, `${held.name}: ${held.target}`) : null, list));
  return list;
}

function showStrips() {
  for (const held of threads.values()) {
    if (!held.generation.length) continue;
    $("#films").hidden = false;
    const list = strip(held);
    const atEnd = list.scrollLeft + list.clientWidth >= list.scrollWidth - 24;
    keep(list, few(held.generation.length), (i) => `${held.best_id[i]}`, (i) => h("li", { class: "tile", dataset: { key: held.best_id[i] } },
      h("img", { src: picture(held.best_id[i], 176), alt: `Generation ${held.generation[i]}, ${number(held.best[i])}`, loading: "lazy", decoding: "async", width: "88", height: "88" }),
      h("span", { class: "caption" }, h("b", {}, number(held.best[i])), `gen. ${held.generation[i]}`)));
    if (atEnd) list.scrollLeft = list.scrollWidth;
  }
}

/** The image of the highest score so far, for each of a few threads; the old one stays until the new one is there. */
function showNow() {
  for (const held of [...threads.values()].slice(0, NOW)) {
    const scores = held.best.map((v) => v ?? -Infinity);
    const at = scores.indexOf(Math.max(...scores));
    if (at < 0 || scores[at] === -Infinity) continue;
    let item = document.getElementById(`now-${held.name}`);
    if (!item?.querySelector("img")) {
      item?.remove();
      item = h("li", { class: "tile", id: `now-${held.name}` }, h("img", { width: "112", height: "112", decoding: "async" }), h("span", { class: "caption" }, h("b", { class: "evolved" }), h("span")));
      $("#now").append(item);
    }
    const [image, score, words] = [$("img", item), $("b", item), $("span > span", item)];
    const address = picture(held.best_id[at], 224);
    if (image.getAttribute("src") !== address) image.src = address;
    image.alt = `Image of the highest score so far${threads.size > 1 ? `, ${held.name}` : ""}`;
    say(score, number(held.best[at]));
    say(words, `${threads.size > 1 ? `${held.name}, ` : ""}highest score, gen. ${held.generation[at]}`);
  }
}

function showPopulation(now) {
  if (now - peopled < PEOPLE_MS && state === "running") return; // many small pictures: not with every generation
  peopled = now;
  for (const held of threads.values()) {
    if (!held.population?.length) continue;
    $("#people").hidden = false;
    const shownHere = held.population.slice(0, PEOPLE);
    const all = shownHere.length === held.population.length ? "all images" : `the best ${PEOPLE} of ${held.population.length} images`;
    say($("#last"), `Generation ${held.generation.at(-1)}, ${all}, best first`);
    let list = document.getElementById(`people-${held.name}`);
    if (!list) {
      list = h("ul", { class: "tiles people", id: `people-${held.name}`, "aria-label": `Last generation of ${held.name}` });
      $("#population").append(h("div", {}, threads.size > 1 || held.name !== "main" ? h("h3", { class: "strip-name" }, held.name) : null, list));
    }
    keep(list, shownHere, (one) => one.id, (one) => h("li", { class: "tile", dataset: { key: one.id } },
      h("img", { src: picture(one.id, 176), alt: one.id, loading: "lazy", decoding: "async", width: "88", height: "88" }),
      h("span", { class: "caption" }, h("b", {}, number(one.score)))));
  }
}

function showReferences() {
  if (references.generation.length < 3 || !references.drift.size) return;
  $("#references").hidden = false;
  const steady = [...references.drift.values()].every((values) => values.every((v) => v === null || Math.abs(v) < 1e-12));
  $("#drift").hidden = steady;
  say($("#drift-words"), steady ? "The references answered each time exactly as they did first." : "Change of the references’ score against their first presentation. A steady subject stays at 0.");
  if (steady) return;
  const series = [...references.drift].map(([name, values]) => ({ name, values, points: values.length < 40 }));
  const options = { x: { label: "generation", values: references.generation }, series };
  if (drawnDrift) drawnDrift.update(options);
  else drawnDrift = plot($("#drift"), { title: "Drift of the references", y: { label: "change of score", log: null }, height: 160, ...options });
}

/** A time of day, with the date where that is not today's. */
function clock(seconds) {
  const at = new Date(1000 * seconds);
  const two = (n) => String(n).padStart(2, "0");
  const day = at.toDateString() === new Date().toDateString() ? "" : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} `;
  return h("time", { datetime: at.toISOString() }, `${day}${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`);
}

const capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

/** A triangle with a mark, or a tick: what is wrong and what is over differ by shape, and not by colour alone. */
const sign = (well) => h("svg", { class: "sign", viewBox: "0 0 20 20", width: "16", height: "16", "aria-hidden": "true" },
  ...(well ? ["M4 10.5l4 4 8-9"] : ["M10 2.5L18.5 17h-17z", "M10 8v4", "M10 14.4v.2"]).map((d) => h("path", { d })));

const aloud = new Map(); // what was said last of each thing, numbers aside: a screen reader hears of it once

/** Shows what a person was told while the run went on: what stands in boxes above all else, all of it in a list below. */
function showTold(notices) {
  const standing = notices.filter((one) => one.stands);
  $("#standing").hidden = !standing.length;
  fill($("#standing"), standing.map((one) => h("p", { class: "notice warn attention" }, sign(false), h("span", {}, h("b", {}, capital(one.text)),
    one.from_s < one.at_s - 1 ? [" since ", clock(one.from_s), ", last told at ", clock(one.at_s)] : [" at ", clock(one.at_s)]))));
  $("#told").hidden = !notices.length;
  keep($("#told-list"), notices, (one) => JSON.stringify(one), (one) => h("li", { class: one.well ? "well" : "", dataset: { key: JSON.stringify(one) } },
    clock(one.at_s), sign(one.well), h("span", {}, capital(one.text))));
  for (const one of [...notices].reverse()) {
    if (!one.stands && !aloud.has(one.about)) continue; // it was over before the page came
    const words = `${one.well} ${one.text.replace(/[0-9.,+−-]+/g, "")}`;
    if (aloud.get(one.about) === words) continue;
    aloud.set(one.about, words);
    say($("#aloud"), `${one.stands ? "Attention: " : ""}${one.text}`);
  }
}

let warned = -Infinity;

/** Asks now and then for what makes the numbers less than they seem; it takes longer than all else. */
async function lookForCautions(now) {
  if (now - warned < CAUTIONS_MS) return;
  warned = now;
  try {
    showCautions(await getJSON(`${here}/cautions`));
  } catch (error) {
    showCautions([{ text: error.message, serious: true }]);
  }
}

function showCautions(found) {
  $("#beware-card").hidden = !found.length;
  keep($("#cautions"), found, (one) => one.text, (one) => h("li", { class: `notice ${one.serious ? "warn" : ""}`, dataset: { key: one.text } }, one.text));
}

/** Takes a snapshot in where anything was committed since the last one; a run that has begun anew is read anew. */
function look(snapshot) {
  if (snapshot.commits < commits) return location.reload();
  commits = snapshot.commits;
  const now = JSON.stringify([snapshot.state, snapshot.commits, snapshot.asked_to_end, snapshot.notices[0]]);
  if (now !== before) take(snapshot);
  before = now;
  return undefined;
}

/**
 * Follows the run while the page is seen. It asks again and again, with short requests: a stream would keep one of the six
 * connections that browsers allow all tabs together, and the seventh tab would wait for ever.
 */
async function follow() {
  if (following) return;
  following = true;
  let [trouble, told] = ["", null];
  while (!FINISHED.includes(state)) {
    await whenSeen();
    try {
      look(await getJSON(`${here}/live?since=${known}`));
      if (trouble) clearError(told);
      trouble = "";
    } catch (error) {
      if (error.message !== trouble) showError(error);
      [trouble, told] = [error.message, standing()];
    }
    await pause(state === "running" && !trouble ? LOOK_MS : REST_MS);
  }
  following = false;
}

sayMissing();
$("#end").addEventListener("click", () => openDialog($("#sure")));
$("#no").addEventListener("click", () => $("#sure").close());
$("#yes").addEventListener("click", shown(async () => {
  $("#sure").close();
  await postJSON(`${here}/end`);
  $("#end").disabled = true;
  say($("#end"), "Ends after this generation");
}));

follow();
