// What Look draws beside the tiles: receptive field, the unit, top five, the status line, pictures to save.

import { $, colour, fill, h, number, say } from "./dom.js";

const SVG = { svg: true };

/** Draws boxes [y0, x0, y1, x1] over the input, whose size is [height, width]; `kept` is that of a frozen origin. */
export function drawFields([height, width], box, kept) {
  const over = $("#over");
  over.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const rectangle = (place, name) => {
    const [y0, x0, y1, x1] = [Math.max(0, place[0]), Math.max(0, place[1]), Math.min(height, place[2]), Math.min(width, place[3])];
    return h("rect", { ...SVG, class: name, x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0) });
  };
  const both = (place, name) => (place ? [rectangle(place, "rim"), rectangle(place, name)] : []);
  fill(over, both(kept, "kept"), both(box, "field"));
}

/** Enlarges the unit's map, with a square where it is largest; a unit without a map stands in the layer's profile. */
export function drawUnit(canvas, tiles, channel, { grid, at, pattern, size, values }) {
  const ratio = Math.min(devicePixelRatio || 1, 2);
  if (!grid && !pattern) return drawProfile(canvas, values ?? [], channel, size * ratio, ratio);
  const [rows, columns] = tiles.sheet?.tile ?? [1, 1];
  canvas.width = Math.round(size * ratio);
  canvas.height = Math.round(size * ratio * Math.min(2, rows / columns));
  if (!tiles.drawOne(canvas, channel, { smooth: pattern })) return false;
  if (grid && at && !pattern) cross(canvas, at, grid, ratio);
  return true;
}

/** Draws one tile of a sheet on a canvas of the tile's size. */
export function drawTile(canvas, { sprite, head: { tile, columns } }, place, words) {
  [canvas.height, canvas.width] = tile;
  canvas.setAttribute("aria-label", words);
  canvas.getContext("2d").drawImage(sprite, (place % columns) * tile[1], Math.floor(place / columns) * tile[0], tile[1], tile[0], 0, 0, tile[1], tile[0]);
}

/** All units of a layer from the largest response to the smallest, and where this one stands. */
function drawProfile(canvas, values, channel, width, ratio) {
  [canvas.width, canvas.height] = [Math.round(width), Math.round(width / 2)];
  const sorted = values.filter(Number.isFinite).sort((a, b) => b - a);
  if (!sorted.length) return false;
  const context = canvas.getContext("2d");
  const [high, low] = [Math.max(sorted[0], 0), Math.min(sorted.at(-1), 0)];
  const y = (value) => ((high - value) / (high - low || 1)) * (canvas.height - 8 * ratio) + 4 * ratio;
  const step = canvas.width / sorted.length;
  context.fillStyle = colour("--line-strong");
  sorted.forEach((value, i) => context.fillRect(i * step, Math.min(y(0), y(value)), Math.max(step - (step > 4 ? 1 : 0), 0.5), Math.max(1, Math.abs(y(value) - y(0)))));
  const place = sorted.indexOf(values[channel]);
  context.fillStyle = colour("--accent");
  context.fillRect(place * step, Math.min(y(0), y(values[channel])), Math.max(step, 2 * ratio), Math.max(2 * ratio, Math.abs(y(values[channel]) - y(0))));
  return true;
}

function cross(canvas, [y, x], [rows, columns], ratio) {
  const context = canvas.getContext("2d");
  const [cx, cy] = [((x + 0.5) / columns) * canvas.width, ((y + 0.5) / rows) * canvas.height];
  const size = Math.max(6 * ratio, canvas.width / columns / 2);
  const style = getComputedStyle(document.documentElement);
  for (const [width, name] of [[3.5 * ratio, "--over-edge"], [1.5 * ratio, "--over"]]) {
    context.strokeStyle = style.getPropertyValue(name);
    context.lineWidth = width;
    context.strokeRect(cx - size, cy - size, 2 * size, 2 * size);
  }
}

/** Names and numbers of the selected unit. */
export function drawFacts(layer, header, channel) {
  const value = header?.values?.[channel];
  const unit = header?.unit?.channel === channel ? header.unit : null;
  const rank = header?.values && Number.isFinite(value) ? 1 + header.values.filter((v) => v > value).length : null;
  const rows = [
    ["Response", h("b", { class: "value" }, unit && unit.value === null ? "none" : number(unit?.value ?? value, 4))],
    rank && ["Rank", `${rank} of ${header.values.length}`],
    unit?.label && ["Stands for", unit.label],
    ...(unit?.extra ?? []).map((v, i) => [unit.extra.length > 1 ? `Extra token ${i + 1}` : "Class token", number(v)]),
    layer.grid && unit && Number.isFinite(unit.y) && ["Peak at", `row ${unit.y}, column ${unit.x}`],
    layer.rf?.size && ["Receptive field", `${layer.rf.size.map((n) => Math.round(n)).join(" × ")} px`],
  ];
  fill($("#facts"), rows.filter(Boolean).map(([name, what]) => [h("dt", {}, name), h("dd", {}, what)]));
}

/** What black and white stand for, as far as tiles have one scale. */
export function scaleWords({ scale, signed }, individual) {
  if (!Number.isFinite(scale)) return "";
  const largest = number(scale);
  if (individual !== "0") return signed ? "blue below 0, orange above" : "black is 0";
  return signed ? `blue −${largest}, black 0, orange ${largest}` : `black 0, white ${largest}`;
}

/** The five most probable classes, as bars with their numbers. */
export function drawTop(top) {
  fill($("#top"), (top ?? []).map(([label, p]) => h("li", {},
    h("span", { class: "name" }, label), h("span", { class: "n" }, `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)} %`),
    h("progress", { max: 1, value: p, "aria-hidden": "true" }))));
}

/** The list of layers: one radio each, with shape and receptive field; and the select of narrow screens. */
export function drawLayers(layers, choose) {
  const field = (layer) => (layer.rf?.size ? String(Math.round(Math.max(...layer.rf.size))) : "");
  const item = (layer) => h("label", { class: "layer", title: `${layer.kind ?? ""} ${shape(layer)}`.trim() },
    h("input", { type: "radio", name: "layer", value: layer.name, onchange: () => choose(layer.name) }),
    h("span", { class: "name" }, layer.name), h("span", { class: "shape n" }, shape(layer)), h("span", { class: "rf n" }, field(layer)));
  fill($("#layers"), layers.map(item));
  const select = $("#layer");
  fill(select, layers.map((layer) => h("option", { value: layer.name }, `${layer.name} · ${shape(layer)}`)));
  select.onchange = () => choose(select.value);
}

const shape = (layer) => (layer.shape ?? [layer.channels]).join(" × ");

/** Marks the layer as chosen, and brings it into view. */
export function markLayer(name) {
  const input = [...document.querySelectorAll("#layers input")].find((one) => one.value === name);
  if (!input) return;
  input.checked = true;
  const [list, item] = [$("#layers"), input.closest("label")];
  const top = item.offsetTop - list.offsetTop;
  if (top < list.scrollTop || top + item.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 2;
  $("#layer").value = name;
}

/** One line: what is shown, where it comes from, how quick. */
export function drawStatus(parts) {
  say($("#status"), parts.filter(Boolean).join("   ·   "));
}

/** Fills the dialog of pictures to save: [name, canvas or image] each. */
export function drawSaves(pictures) {
  fill($("#save-list"), pictures.map(([name, title, source]) => {
    const canvas = h("canvas", { role: "img", "aria-label": title });
    canvas.width = source.naturalWidth || source.width;
    canvas.height = source.naturalHeight || source.height;
    canvas.getContext("2d").drawImage(source, 0, 0);
    return h("li", { class: "tile" }, canvas, h("button", { type: "button", class: "button small", onclick: () => download(canvas, name) }, title));
  }));
}

function download(canvas, name) {
  canvas.toBlob((blob) => {
    const address = URL.createObjectURL(blob);
    const link = h("a", { href: address, download: `${name.replace(/[^\w.-]+/g, "-")}.png` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }, "image/png");
}
