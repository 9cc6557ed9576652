// Look: keeps what is chosen, asks the server for it, and has it drawn. The address always says what is shown.

import { ask, clearError, getJSON, newest, query, showError, shown, standing, superseded, takesPictures } from "./api.js";
import { $, $$, number, openDialog, say } from "./dom.js";
import { painted } from "./colours.js";
import { Camera } from "./look-camera.js";
import { Codes } from "./look-codes.js";
import { help, listen } from "./look-keys.js";
import { Pictures, picture } from "./look-pictures.js";
import { drawFacts, drawFields, drawLayers, drawSaves, drawStatus, drawTile, drawTop, drawUnit, markLayer, scaleWords } from "./look-view.js";
import { Tiles } from "./tiles.js";

const GAMMAS = ["1", "0.7", "0.5", "0.3"];
const INDIVIDUALS = ["0", "0.3", "0.5", "0.8", "1"];
const SORTS = ["index", "activation", "selectivity"];
const METHODS = ["gradient", "guided-backprop", "deconvnet", "off"];
const FILTERS = ["raw", "gray", "norm", "normblur"];
const BACKS = [["off", "raw"], ["gradient", "raw"], ["gradient", "norm"], ["deconvnet", "raw"]];
const ZOOMS = ["all", "unit", "back"];
const START = { layer: null, unit: 0, input: null, sort: "index", shows: "activations", gamma: "1", individual: "0", method: "off", filter: "raw", fit: "crop" };
const CHOICES = { sort: SORTS, shows: ["activations", "backward", "patterns"], gamma: GAMMAS, individual: INDIVIDUALS, method: METHODS, filter: FILTERS, fit: ["crop", "stretch"] };

const state = { ...START, source: "pictures", frozen: false, origin: null, zoom: "all", labels: true, prefers: true, debug: 0, ...fromAddress() };
let subject = null;
let header = null; // of the last answer
const preferred = new Map(); // layer -> what its units prefer, or null
let underWay = 0; // calls of refresh that have not ended
let frame = null; // the camera's last frame, a JPEG
const timing = { fps: 0, last: 0, bytes: 0, round: 0 };
const lookNewest = newest();
const backNewest = newest();

const tiles = new Tiles($("#tiles"), { label: "Channels", keys: false, onselect: (channel) => chooseUnit(channel), onenter: openPage, describe: (channel) => describe(channel) });
let pictures = null;
let camera = null;
let codes = null;

function fromAddress() {
  const given = new URLSearchParams(location.search);
  const found = {};
  for (const name of Object.keys(START)) if (given.has(name)) found[name] = given.get(name);
  for (const [name, all] of Object.entries(CHOICES)) if (name in found && !all.includes(found[name])) delete found[name];
  if ("unit" in found) found.unit = Math.max(0, Math.round(+found.unit) || 0);
  return found;
}

function toAddress() {
  const entries = {};
  for (const [name, usual] of Object.entries(START)) if (state[name] !== usual || name === "unit") entries[name] = state[name];
  history.replaceState(null, "", query(location.pathname, entries));
}

const layer = () => subject.layers.find((one) => one.name === state.layer);
/** Whether a unit's change can be followed back to an earlier layer. */
const layered = () => subject.differentiable && subject.layers.length > 1;
const live = () => state.source === "camera" && camera?.on && !state.frozen;
const describe = (channel) => (header && Number.isFinite(header.values?.[channel]) ? number(header.values[channel]) : "");

// --- asking

/** What is asked: a stored input by its id, or the camera's frame as the body. */
function asked(entries) {
  const body = state.source === "camera" ? frame : null;
  const options = body ? { method: "POST", body, headers: { "Content-Type": "image/jpeg" } } : { method: "POST" };
  return [{ ...entries, fit: state.fit, input: body ? null : state.input }, options];
}

/** All channels of the layer, as the page's choices say. */
async function look(signal) {
  const started = performance.now();
  const mode = state.shows === "activations" ? null : state.shows;
  const [entries, options] = asked({ layer: state.layer, sort: state.sort, boost: state.gamma, individual: state.individual, unit: state.unit, mode, ...(mode === "backward" ? startedFrom() : {}) });
  const answer = await sheetOf(entries, { ...options, signal });
  Object.assign(timing, { bytes: answer.bytes, round: performance.now() - started });
  return answer;
}

/** Asks for tiles and reads the answer: the length of a JSON header, the header, a byte of grey for each pixel or a picture file. */
async function sheetOf(entries, options) {
  const buffer = await (await ask(query("/api/look", entries), options)).arrayBuffer();
  const length = new DataView(buffer).getUint32(0);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const content = new Uint8Array(buffer, 4 + length);
  const sprite = head.form === "grey"
    ? painted(content, head.columns * head.tile[1], head.rows * head.tile[0], head.signed)
    : await createImageBitmap(new Blob([content], { type: `image/${head.form}` }));
  return { head, sprite, bytes: buffer.byteLength };
}

/** What the units of the layer prefer, asked for once; where nothing is known of any, nothing is kept. */
async function preferences() {
  const name = state.layer;
  if (preferred.has(name) || !state.input || state.source === "camera") return;
  preferred.set(name, null);
  const alone = { method: "POST", headers: { "X-Tab": "" } }; // no newer click takes its place
  const sheet = await sheetOf({ layer: name, mode: "patterns", input: state.input, fit: state.fit }, alone);
  const missing = new Set(sheet.head.missing);
  if (missing.size < sheet.head.order.length) preferred.set(name, { ...sheet, missing });
  if (name === state.layer) drawSelection();
}

/** Asks anew what is chosen; a newer call takes the place of an older one. */
async function refresh() {
  toAddress();
  if (live()) return; // the next frame asks
  if (state.source === "camera" && !frame) return;
  if (state.source !== "camera" && !state.input) return;
  const before = standing();
  try {
    busy(1);
    if (!header) drawStatus([`waiting for the first answer of ${subject.name}`]);
    const answer = await lookNewest(look);
    if (!answer) return;
    draw(answer);
    clearError(before);
    await refreshBack();
    await preferences();
  } catch (error) {
    showError(error);
  } finally {
    busy(-1);
  }
}

/** The page is busy as long as anything that was asked for is not there. */
function busy(by) {
  underWay += by;
  $(".desk").dataset.busy = String(underWay > 0);
}

/** Asks for the back-propagation, unless it is off. */
async function refreshBack() {
  const on = subject.differentiable && state.method !== "off";
  $("#back-figure").hidden = !on;
  if (!on) return drawOver();
  const from = state.origin ?? origin();
  if (!from) return undefined;
  const answer = await backNewest(async (signal) => {
    const [entries, options] = asked({ ...from, box: null, method: state.method, filter: state.filter });
    const got = await ask(query("/api/backward", entries), { ...options, signal });
    return { info: JSON.parse(got.headers.get("X-Info") ?? "{}"), blob: await got.blob() };
  });
  if (answer) drawBack(answer, from);
  return undefined;
}

/** Where backward differences start: a frozen unit; without one the server takes the strongest class. */
const startedFrom = () => (state.origin ? { from_layer: state.origin.layer, from_unit: state.origin.unit, from_y: state.origin.y, from_x: state.origin.x } : {});

/** Where back-propagation starts: the selected unit at its largest. */
function origin() {
  const unit = header?.unit;
  if (!unit || unit.channel !== state.unit) return null;
  return { layer: state.layer, unit: state.unit, y: unit.y, x: unit.x, box: unit.box };
}

// --- drawing

function draw({ head, sprite }) {
  header = head;
  tiles.select(state.unit);
  tiles.show({ sprite, tile: head.tile, columns: head.columns, order: head.order });
  const now = performance.now();
  if (timing.last) {
    const rate = 1000 / Math.max(1, now - timing.last);
    timing.fps = timing.fps ? 0.8 * timing.fps + 0.2 * rate : rate;
  }
  timing.last = live() || codes?.walking ? now : 0;
  if (!timing.last) timing.fps = 0;
  $("#answer").hidden = !head.top || !state.labels;
  drawTop(head.top);
  note();
  say($("#scale"), state.shows === "patterns" ? "" : scaleWords(head, state.individual));
  drawSelection();
}

function note() {
  const missing = header.missing?.length ?? 0;
  const all = header.order.length;
  const none = `${missing} of ${all} units have no preferred stimulus yet. ${header.foreign || "closedloop atlas makes them."}`;
  const nan = `${header.lost} of ${all} ${layer().grid ? "channels hold values that are not finite, and black is what is missing" : "units gave no finite response"}.`;
  const words = state.shows === "patterns" ? missing && none : header.lost && nan;
  $("#note").hidden = !words;
  say($("#note"), words || "");
}

/** What depends on the selected unit alone; drawn at once from what is known, and again when the server has said more. */
function drawSelection() {
  if (!header || header.layer !== state.layer) return;
  const here = layer();
  const unit = header.unit?.channel === state.unit ? header.unit : null;
  const view = { values: header.values, grid: here.grid, at: unit && Number.isFinite(unit.y) ? [unit.y, unit.x] : null, pattern: state.shows === "patterns" };
  say($("#unit-name"), `${here.name} : ${state.unit}`);
  $("#map").setAttribute("aria-label", `Unit ${state.unit}, ${describe(state.unit)}`);
  drawUnit($("#map"), tiles, state.unit, { ...view, size: $("#map").clientWidth || 220 });
  drawFacts(here, header, state.unit);
  $("#unit").max = here.channels - 1;
  if (document.activeElement !== $("#unit")) $("#unit").value = state.unit;
  drawOver();
  drawPage();
  drawZoom(view);
  status();
}

function drawOver() {
  const unit = header?.unit?.channel === state.unit && header.layer === state.layer ? header.unit : null;
  drawFields(size(), unit?.box, state.origin?.box);
}

/** Method and filter as the page names them. */
const methodName = () => ["#method", "#filter"].map((name) => $(name).selectedOptions[0].textContent).join(" ");
const size = () => [subject.resolution].flat().concat(subject.resolution).slice(0, 2);

function drawBack({ info, blob }, from) {
  const image = $("#back-picture");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
  image.onload = () => {
    image.hidden = false;
    if (state.zoom === "back") drawZoom({});
  };
  const scale = Number.isFinite(info.scale) ? `, ${state.filter.startsWith("norm") ? "to " : "±"}${Number(info.scale).toPrecision(2)}` : "";
  say($("#back-caption"), `${from.layer} : ${from.unit}${state.origin ? ", frozen" : ""}${scale}`);
  $("#follow").setAttribute("aria-pressed", String(Boolean(state.origin)));
}

function drawPage() {
  const link = $("#page");
  link.hidden = !hasPages();
  link.href = pageOf(state.unit);
  const sheet = preferred.get(state.layer);
  const place = sheet ? sheet.head.order.indexOf(state.unit) : -1;
  $("#prefers").hidden = !(state.prefers && place >= 0 && !sheet.missing.has(state.unit) && state.shows !== "patterns");
  if (!$("#prefers").hidden) drawTile($("#prefers canvas"), sheet, place, `Preferred stimulus of unit ${state.unit}`);
}

const hasPages = () => Boolean($(".top nav a[href$='/units']"));
const pageOf = (unit) => `/units/${encodeURIComponent(state.layer)}/${unit}`;

function openPage(unit) {
  if (hasPages()) location.href = pageOf(unit);
}

function drawZoom(view) {
  const [zoomed, canvas] = [$("#zoomed"), $("#zoomed canvas")];
  $("#tiles").hidden = state.zoom !== "all";
  zoomed.hidden = state.zoom === "all";
  if (zoomed.hidden) return;
  const room = Math.min(zoomed.clientWidth, zoomed.clientHeight || zoomed.clientWidth);
  if (state.zoom === "unit") {
    canvas.setAttribute("aria-label", `Unit ${state.unit}, large`);
    drawUnit(canvas, tiles, state.unit, { ...view, size: room });
  } else {
    const image = $("#back-picture");
    canvas.setAttribute("aria-label", "Back-propagation, large");
    canvas.width = canvas.height = room;
    if (image.naturalWidth) canvas.getContext("2d").drawImage(image, 0, 0, room, room);
  }
  canvas.style.width = `${room}px`;
}

function status() {
  const from = state.origin ?? { layer: state.layer, unit: state.unit };
  drawStatus([
    state.source === "camera" ? (state.frozen ? "camera, frozen" : camera?.on ? "camera" : "camera off") : state.source,
    `${state.layer} : ${state.unit}`,
    header && describe(state.unit),
    state.shows !== "activations" && state.shows,
    state.method !== "off" && `${methodName()} from ${from.layer} : ${from.unit}${state.origin ? " (frozen)" : ""}`,
    (state.gamma !== "1" || state.individual !== "0") && `gamma ${state.gamma}, own scale ${state.individual}`,
    timing.fps > 0 && `${timing.fps.toFixed(1)} frames/s`,
    state.debug > 0 && header?.ms !== undefined && `model ${Math.round(header.ms)} ms, all ${Math.round(timing.round)} ms`,
    state.debug > 1 && `${Math.round(timing.bytes / 1024)} KB, ${header?.order.length} tiles of ${header?.tile.join(" × ")}`,
  ]);
}

// --- choosing

function chooseUnit(channel) {
  state.unit = channel;
  drawSelection();
  return refresh();
}

function chooseLayer(name) {
  state.layer = name;
  state.unit = Math.min(state.unit, layer().channels - 1);
  introduceLayer();
  return refresh();
}

function introduceLayer() {
  markLayer(state.layer);
  say($("#unit-name"), `${state.layer} : ${state.unit}`);
  say($("#units-name"), layer().grid ? "Channels" : "Units");
}

function nextLayer(by) {
  const at = subject.layers.findIndex((one) => one.name === state.layer) + by;
  if (subject.layers[at]) chooseLayer(subject.layers[at].name);
}

/** Sets what a group of radios or a select shows, and asks again; `again` may be less than everything. */
function set(name, value, again = refresh) {
  state[name] = value;
  show(name);
  return again();
}

function show(name) {
  const control = $(`#${name}`);
  if (control?.matches("select")) control.value = state[name];
  for (const radio of $$(`input[name=${name}]`)) radio.checked = radio.value === state[name];
}

const after = (list, value) => list[(list.indexOf(value) + 1) % list.length];

async function setFit(value) {
  state.fit = value;
  show("fit");
  toAddress();
  if (state.source === "pictures" && !(await pictures.refit(value))) await refresh();
  if (state.source === "pictures" && state.input) showInput(state.input, $("#shown").alt);
}

function setShows(value) {
  if (value === "backward" && !layered()) return show("shows");
  return set("shows", value);
}

function setMethod(value, filter = state.filter) {
  if (!subject.differentiable) return undefined;
  Object.assign(state, { method: value, filter });
  ["method", "filter"].forEach(show);
  toAddress();
  if (state.zoom === "back" && value === "off") state.zoom = "all";
  drawSelection();
  return live() ? undefined : shown(refreshBack)();
}

function follow() {
  state.origin = state.origin ? null : origin();
  $("#follow").setAttribute("aria-pressed", String(Boolean(state.origin)));
  drawSelection();
  return live() ? undefined : shown(refreshBack)();
}

function zoom() {
  const able = ZOOMS.filter((one) => one !== "back" || (state.method !== "off" && !$("#back-figure").hidden));
  state.zoom = after(able, state.zoom);
  drawSelection();
}

function goto() {
  const wanted = Math.round(+$("#unit").value);
  if (!Number.isFinite(wanted) || $("#unit").value === "") return;
  const channel = Math.max(0, Math.min(layer().channels - 1, wanted));
  tiles.select(channel);
  chooseUnit(channel);
}

function reset() {
  stopLive();
  const keep = { layer: state.layer, input: state.input };
  Object.assign(state, { ...START, ...keep, origin: null, zoom: "all", labels: true, prefers: true, debug: 0 });
  Object.keys(CHOICES).forEach(show);
  tiles.select(0);
  return source("pictures");
}

// --- sources

async function source(name) {
  if (name !== "camera" && state.source === "camera") camera.stop();
  if (name !== "codes") codes?.walk(false);
  const before = state.source;
  state.source = name;
  show("source");
  for (const part of $$(".source")) part.hidden = part.dataset.source !== name;
  $("#shown").hidden = name === "camera";
  $("#frame").hidden = name !== "camera";
  cameraButtons();
  $("#count").hidden = name !== "pictures";
  if (name === "codes") return codes.make();
  if (name === "pictures" && before !== "pictures" && pictures.entry) return pictures.go(pictures.at);
  say($("#title"), name === "camera" ? "Camera" : $("#title").textContent);
  return refresh();
}

function chooseInput(entry) {
  state.input = entry.id;
  showInput(entry.id, entry.title);
  return refresh();
}

/** An input of the address that is in no list, as one from a code is; tells whether the server still has it. */
async function elsewhere() {
  const there = await fetch(picture(state.input, 64)).then((answer) => answer.ok, () => false);
  if (there) chooseInput({ id: state.input, title: "" });
  return there;
}

function showInput(id, title) {
  const image = $("#shown");
  image.hidden = false;
  image.src = picture(id, null, state.fit);
  image.alt = title;
  say($("#title"), title || " ");
}

async function madeCode(entry) {
  state.input = entry.id;
  showInput(entry.id, "from a code");
  await refresh();
}

const takeFile = shown(async (file) => {
  if (state.source !== "pictures") await source("pictures");
  await pictures.add(file, state.fit);
});

const startCamera = shown(async (id = "") => {
  if (state.source !== "camera") await source("camera");
  await camera.start(id);
  if (state.source !== "camera") return camera.stop(); // while the browser asked, something else was chosen
  await camera.list($("#cameras"));
  state.frozen = false;
  cameraButtons();
  frames();
});

function stopLive() {
  camera.stop();
  codes?.walk(false);
  timing.fps = timing.last = 0;
  cameraButtons();
  status();
}

function freeze() {
  if (!camera.on) return undefined;
  state.frozen = !state.frozen;
  cameraButtons();
  if (!state.frozen) return frames();
  return refresh();
}

function cameraButtons() {
  say($("#camera"), camera.on ? "Stop camera" : "Start camera");
  $("#camera").classList.toggle("primary", !camera.on);
  $("#freeze").disabled = !camera.on;
  $("#freeze").setAttribute("aria-pressed", String(state.frozen && camera.on));
}

let looping = false;

/**
 * The camera's loop: one request is on its way at a time, so nothing piles up. While the server works on a frame, the
 * browser draws the answer to the one before and cuts the next; with back-propagation each frame is drawn before the next is sent.
 */
async function frames() {
  if (looping) return;
  looping = true;
  let [next, ready] = [camera.grab(state.fit === "stretch"), null];
  const paint = () => {
    if (ready?.answer && state.source === "camera") {
      camera.show(ready.grabbed);
      draw(ready.answer);
    }
  };
  try {
    while (live()) {
      const grabbed = document.hidden ? null : await next;
      if (!grabbed) {
        await new Promise((go) => setTimeout(go, document.hidden ? 250 : 30));
        next = camera.grab(state.fit === "stretch");
        continue;
      }
      frame = grabbed.blob;
      const asking = lookNewest(look);
      const back = state.method !== "off";
      if (!back) paint();
      next = camera.grab(state.fit === "stretch");
      ready = { answer: await asking, grabbed };
      if (!back) continue;
      paint();
      await refreshBack();
    }
    paint();
  } catch (error) {
    if (!superseded(error)) {
      stopLive();
      showError(error);
    }
  } finally {
    looping = false;
  }
}

// --- saving

function save() {
  const name = (kind) => `${subject.name}-${state.layer}-${state.unit}-${kind}`;
  const input = state.source === "camera" ? $("#frame") : $("#shown");
  const all = [[name("unit"), "Unit", $("#map")], [name("input"), "Input", input], [name("channels"), "All channels", tiles.canvas]];
  if (!$("#back-figure").hidden) all.push([name("back"), "Back-propagation", $("#back-picture")]);
  drawSaves(all.filter(([, , from]) => (from.naturalWidth ?? from.width) > 0));
  openDialog($("#saves"));
}

// --- beginning

const showHelp = help();
const does = {
  number: () => { $("#unit").focus(); $("#unit").select(); },
  layerBefore: () => nextLayer(-1),
  layerAfter: () => nextLayer(1),
  order: () => set("sort", after(SORTS, state.sort)),
  camera: () => (state.source === "camera" ? source("pictures") : startCamera()),
  freeze,
  next: () => (state.source === "codes" ? codes.draw() : pictures.step(1)),
  previous: () => state.source !== "codes" && pictures.step(-1),
  fit: shown(() => setFit(state.fit === "crop" ? "stretch" : "crop")),
  codes: () => codes && source("codes"),
  zoom,
  patterns: () => setShows(state.shows === "patterns" ? "activations" : "patterns"),
  backward: () => setShows(state.shows === "backward" ? "activations" : "backward"),
  back: () => {
    const at = BACKS.findIndex(([method, filter]) => method === state.method && (method === "off" || filter === state.filter));
    setMethod(...BACKS[(at + 1) % BACKS.length]);
  },
  follow,
  method: () => setMethod(after(METHODS, state.method)),
  filter: () => setMethod(state.method, after(FILTERS, state.filter)),
  gamma: () => set("gamma", after(GAMMAS, state.gamma)),
  individual: () => set("individual", after(INDIVIDUALS, state.individual)),
  labels: () => { state.labels = !state.labels; $("#answer").hidden = !header?.top || !state.labels; },
  prefers: () => { state.prefers = !state.prefers; drawSelection(); },
  debug: () => { state.debug = (state.debug + 1) % 3; status(); },
  save,
  help: showHelp,
  rest: stopLive,
  reset,
};

function wire() {
  for (const [id, go] of Object.entries({ previous: does.previous, next: does.next, freeze, follow, reset, save, help: showHelp })) $(`#${id}`).addEventListener("click", go);
  const radios = { sort: (v) => set("sort", v), shows: setShows, gamma: (v) => set("gamma", v), individual: (v) => set("individual", v), fit: shown(setFit), source: (v) => (v === "camera" ? startCamera() : source(v)) };
  for (const [name, go] of Object.entries(radios)) for (const radio of $$(`input[name=${name}]`)) radio.addEventListener("change", () => go(radio.value));
  $("#method").addEventListener("change", (event) => setMethod(event.target.value));
  $("#filter").addEventListener("change", (event) => setMethod(state.method, event.target.value));
  $("#goto").addEventListener("submit", (event) => { event.preventDefault(); goto(); tiles.box.focus({ preventScroll: true }); });
  $("#unit").addEventListener("change", goto);
  $("#open").addEventListener("click", () => $("#file").click());
  $("#file").addEventListener("change", async (event) => { for (const file of event.target.files) await takeFile(file); event.target.value = ""; });
  $("#camera").addEventListener("click", () => (camera.on ? stopLive() : startCamera()));
  $("#cameras").addEventListener("change", (event) => startCamera(event.target.value));
  takesPictures($("#drop"), takeFile);
  new ResizeObserver(() => drawSelection()).observe($("#map").parentElement);
  addEventListener("pagehide", () => camera.stop());
  document.addEventListener("themechange", () => drawSelection()); // a profile is drawn in the colours of the page
  giveKeysBack();
}

/** What was chosen with a finger or a mouse gives the keys back to the units: else arrows would change the choice. */
function giveKeysBack() {
  let pointed = false;
  document.addEventListener("pointerdown", () => { pointed = true; }, true);
  document.addEventListener("keydown", () => { pointed = false; }, true);
  document.addEventListener("change", ({ target }) => {
    if (pointed && target.matches("main input[type=radio], main select")) tiles.box.focus({ preventScroll: true });
  });
}

function introduce() {
  drawLayers(subject.layers, chooseLayer);
  state.layer = layer()?.name ?? subject.layers[Math.floor(subject.layers.length / 2)].name;
  state.unit = Math.min(state.unit, layer().channels - 1);
  $("#why-not").hidden = subject.differentiable;
  say($("#why-not"), subject.why_not ?? "");
  for (const id of ["#back-tools", "#follow"]) $(id).hidden = !subject.differentiable;
  for (const radio of $$("input[name=shows][value=backward]")) radio.disabled = !layered();
  if (!subject.differentiable) state.method = "off";
  if (!layered() && state.shows === "backward") state.shows = "activations";
  Object.keys(CHOICES).forEach(show);
  introduceLayer();
  new ResizeObserver(() => markLayer(state.layer)).observe($("#layers"));
}

/** Says what an address asked for that is not here, so that nobody takes what is shown in its place for it. */
function tellApart(asked) {
  const gone = [
    asked.layer && asked.layer !== state.layer && `layer ${brief(asked.layer)}`,
    asked.layer === state.layer && asked.unit > state.unit && `unit ${brief(asked.unit)} of ${state.layer}, which has ${layer().channels}`,
    asked.input && asked.input !== state.input && `the picture ${brief(asked.input)}, which is kept no longer`,
  ].filter(Boolean);
  if (gone.length) showError(new Error(`This address asks for what is not here: ${gone.join("; ")}. What is here is shown instead.`));
}

const brief = (text) => (String(text).length > 40 ? `${String(text).slice(0, 40)}…` : String(text));

/** Codes come when their generator is loaded; nothing else waits for it. */
async function introduceCodes() {
  const made = new Codes(madeCode);
  if (!(await made.load().catch(() => false))) return;
  codes = made;
  $("#codes-choice").hidden = false;
}

const begin = shown(async () => {
  drawStatus(["reading the layers"]);
  const asked = { ...state };
  pictures = new Pictures(chooseInput);
  const listed = pictures.load();
  listed.catch(() => {}); // it is told below
  subject = await getJSON("/api/subject");
  camera = new Camera($("#frame"), size());
  introduce();
  wire();
  listen(does, tiles);
  await listed;
  if (!(state.input && (pictures.pick(state.input) || (await elsewhere()))) && pictures.list.length) pictures.go(0);
  tiles.select(state.unit);
  tellApart(asked);
  introduceCodes();
});
begin();
