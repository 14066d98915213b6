// The pictures or texts: a row for each condition, or the frames of a walk with a slider.

import { byId, freshId, h } from "./dom.js";

const SMALL = 128; // pixels of a side below which a picture is enlarged by whole pixels
const GAP = 18;

/** Return what a sample's label says, to read: "digit=3 rotation=-30" as "digit 3 · rotation −30". */
export function readable(label, names = true) {
  const parts = label.split(/ (?=[^\s=]+=)/);
  if (!parts.every((part) => part.includes("="))) return label === "image" ? "" : label;
  return parts
    .map((part) => {
      const [name, ...rest] = part.split("=");
      const value = rest.join("=");
      const short = /^-?\d+\.\d+$/.test(value) ? String(Number(Number(value).toPrecision(3))) : value;
      return `${names ? `${name} ` : ""}${short.replace(/^-/, "−")}`;
    })
    .join(" · ");
}

/** Return the width and height in which pictures of a shape (C, H, W) are shown, `total` of them or one on a stage. */
function size([, height, width], total, stage = false) {
  const room = byId("pictures").clientWidth;
  const columns = total > 8 ? 3 : 2; // at least, on a phone
  const most = total > 24 ? 112 : total > 8 ? 140 : 184;
  const wanted = stage ? Math.min(336, room) : Math.min(most, (room - GAP * (columns - 1)) / columns);
  const dots = Math.max(1, Math.floor(devicePixelRatio)); // of the screen in a pixel of the page
  const scale = width < SMALL ? Math.max(1, Math.floor((wanted / width) * dots) / dots) : Math.min(1.5, wanted / width);
  return [Math.round(width * scale), Math.round(height * scale)];
}

const measured = new WeakMap(); // lists, and what `sized` was told of them
addEventListener("resize", () => {
  for (const node of byId("pictures").querySelectorAll(".grid, .started")) sized(node, ...measured.get(node));
});

/** Give a list its measures: so many columns as there is room for, or fewer, so that the last row is not much shorter. */
function sized(node, shape, total, stage) {
  measured.set(node, [shape, total, stage]);
  if (shape) {
    const [width, height] = size(shape, total, stage);
    const room = Math.max(1, Math.floor((byId("pictures").clientWidth + GAP) / (width + GAP)));
    const columns = Math.ceil(node.childElementCount / Math.ceil(node.childElementCount / room));
    node.style.setProperty("max-width", `${columns * (width + GAP)}px`);
    node.style.setProperty("--wide", `${width}px`);
    node.style.setProperty("--high", `${height}px`);
    node.classList.toggle("pixels", shape[2] < SMALL);
  }
  return node;
}

/** Show that pictures are on their way: empty frames, in rows of `count` where there are several, which `preview` fills. */
export function expect(shape, total, count = total) {
  const frames = (n) => Array.from({ length: n }, () => h("li", {}, h("span", { class: "frame waiting" })));
  const list = (n) => sized(h("ul", { class: "grid", "aria-hidden": "true" }, ...frames(n)), shape, total);
  const rows = count > 1 && total > count ? Array.from({ length: total / count }, () => h("div", { class: "group" }, h("h2", {}, "\u00a0"), list(count))) : [list(total)];
  byId("pictures").replaceChildren(...rows);
}

/** Show pictures (base64 of PNGs) from number `first` on before they are done, in the frames of `expect`. */
export function preview(images, first) {
  const frames = byId("pictures").querySelectorAll(".waiting");
  images.forEach((image, i) => frames[first + i]?.replaceChildren(h("img", { src: address(image), alt: "" })));
}

/** Return whether there are frames for previews. */
export const expecting = () => byId("pictures").querySelector(".waiting") !== null;

const address = (image) => `data:image/png;base64,${image}`;

/**
 * Show the pictures of a result.
 *
 * - `result`: the server's, with `labels`, and `images` or `texts`; `count` of them for each condition
 * - `shape`: (C, H, W), or null for one picture of any size; `start`: an address of what they start from, or ""
 * - `open(items, i)`: shows one of the items { src, label, sound } large
 */
export function show(result, { shape, count, walking, start, open }) {
  if (result.texts) return byId("pictures").replaceChildren(...texts(result, count));
  const items = result.images.map((image, i) => {
    const said = result.labels[i] ?? "";
    const sound = result.sounds && `data:audio/wav;base64,${result.sounds[i]}`;
    return { src: address(image), sound, said, label: walking ? said.split(" to ").map((end) => readable(end)).join(" → ") : readable(said) };
  });
  const rows = [];
  for (let i = 0; i < items.length; i += count) rows.push(items.slice(i, i + count));
  const place = byId("pictures");
  place.classList.toggle("calm", place.querySelector(".waiting img") !== null); // they have been seen coming
  if (walking) place.replaceChildren(...stage(rows, shape, (row, i) => open(row, i)));
  else if (count === 1) place.replaceChildren(grid(items, result.labels, shape, items.length, (i) => open(items, i)));
  else {
    place.replaceChildren(
      ...rows.map((row, r) => {
        const labels = result.labels.slice(r * count, (r + 1) * count);
        const same = labels.every((label) => label === labels[0]);
        const heading = same && rows.length > 1 && row[0].label ? h("h2", {}, row[0].label) : null;
        const pictures = grid(row, same ? [] : labels, shape, items.length, (i) => open(items, r * count + i));
        return h("div", { class: "group" }, heading, pictures);
      }),
    );
  }
  if (start) place.prepend(started(start, shape, items.length));
  return undefined;
}

/** Return a list of texts for each condition, below what they were asked for where there are several. */
function texts({ texts: all, labels }, count) {
  const lines = (text) => (text.includes("\n") ? text : text.replaceAll("。", "。\n")).trim(); // as in a .txt
  const list = (first) => {
    const some = all.slice(first, first + count);
    const items = some.map((text, i) => {
      const caption = labels[first + i] !== labels[first] ? h("span", { class: "caption" }, readable(labels[first + i])) : null;
      return h("li", {}, h("p", {}, lines(text)), caption);
    });
    const heading = all.length > count && labels[first] ? h("h2", {}, readable(labels[first])) : null;
    return h("div", { class: "group" }, heading, h("ul", { class: "texts" }, ...items));
  };
  return Array.from({ length: Math.ceil(all.length / count) }, (_, row) => list(row * count));
}

function started(start, shape, total) {
  const picture = h("img", { src: start, alt: "What the pictures start from; the hole is empty" });
  return sized(h("figure", { class: "started" }, h("span", { class: "frame hollow" }, picture), h("figcaption", {}, "Started from")), shape, total);
}

function grid(items, labels, shape, total, open) {
  const pictures = items.map(({ src, label }, i) => {
    const name = `Picture ${i + 1} of ${items.length}${label && `: ${label}`}`;
    const button = h("button", { type: "button", class: "frame", "aria-label": `${name}. Show it large.`, on: { click: () => open(i) } });
    button.append(h("img", { src, alt: "" }));
    button.style.setProperty("--turn", Math.min(i, 24));
    const caption = labels.length ? readable(labels[i], false) : "";
    return h("li", {}, button, caption && h("span", { class: "caption", "aria-hidden": "true" }, caption));
  });
  return sized(h("ul", { class: "grid" }, ...pictures), shape, total);
}

/** Return a stage for each walk, with one slider below that moves all of them, and their frames. */
function stage(rows, shape, open) {
  const last = rows[0].length - 1;
  const many = rows.length > 1;
  const stages = rows.map((row) => {
    const picture = h("img", { src: row[0].src, alt: "" });
    const [from, to] = row[0].said.replace(/: [\d.e-]+$/, "").split(" to ");
    const caption = to === undefined ? "" : `${readable(from, false)} → ${readable(to, false)}`;
    const frame = h("button", { type: "button", class: "frame", on: { click: () => open(row, Number(range.value)) } }, picture);
    return { row, picture, frame, caption, element: h("li", {}, frame, many && h("span", { class: "caption" }, caption)) };
  });
  const id = freshId("walk");
  const range = h("input", { type: "range", id, min: 0, max: last, step: 1, value: 0 });
  const output = h("output", { for: id });
  const go = (i) => {
    range.value = i;
    output.textContent = `Step ${i + 1} of ${last + 1}`;
    range.setAttribute("aria-valuetext", output.textContent);
    for (const { row, picture, frame, caption } of stages) {
      picture.src = row[i].src;
      frame.setAttribute("aria-label", `${caption || "Walk"}, step ${i + 1} of ${last + 1}. Show it large.`);
    }
  };
  range.addEventListener("input", () => go(Number(range.value)));
  go(0);
  const strip = many ? null : filmstrip(rows[0], go);
  const list = sized(h("ul", { class: "grid stages" }, ...stages.map(({ element }) => element)), shape, rows.length, !many);
  return [list, h("div", { class: "walk" }, h("label", { for: id }, "Walk"), range, output, player(range, go, last)), strip].filter(Boolean);
}

function filmstrip(row, go) {
  return h("div", { class: "strip", "aria-hidden": "true" }, ...row.map(({ src }, i) => h("img", { src, alt: "", on: { click: () => go(i) } })));
}

/** Return a button that walks there and back until it is pressed again. */
function player(range, go, last) {
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = "Play";
  };
  const play = () => {
    if (timer) return stop();
    let way = 1;
    button.textContent = "Pause";
    timer = setInterval(() => {
      if (!button.isConnected) return stop();
      if (Number(range.value) === last) way = -1;
      else if (Number(range.value) === 0) way = 1;
      return go(Number(range.value) + way);
    }, 140);
    return undefined;
  };
  const button = h("button", { type: "button", on: { click: play } }, "Play");
  range.addEventListener("pointerdown", stop);
  return button;
}
