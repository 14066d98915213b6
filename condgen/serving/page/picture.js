// The picture to start from: chosen, dropped, pasted, borrowed or drawn, and for inpainting the hole that is painted into it.

import { MOST, bytes, dropped, freshId, h, say } from "./dom.js";

const TOOLS = {
  hole: "Hole",
  mend: "Mend",
  light: "Light",
  dark: "Dark",
  colour: "Colour",
};
const WORDS = {
  inpaint: "The picture, and the hole that is to be filled",
  edges: "A picture, of which the model sees the edges",
  colorize: "A picture, of which the model sees the brightness",
};

/**
 * A picture of the size that a model sees, on a canvas that can be painted on.
 *
 * - `part`: the image of a condition's schema; `colour`: whether samples have colours
 * - `borrow`: draws a sample of another model, or null where there is none; `changed`: called when the picture is another one
 */
export class Picture {
  constructor(part, { colour, borrow, changed, problem }) {
    [this.height, this.width] = part.size;
    this.holes = ["inpaint", "tasks"].includes(part.kind);
    Object.assign(this, { colour, borrow, changed, problem, part, there: false, past: [], cursor: null });
    this.missing = "Choose a picture, or draw one on the canvas.";
    this.pixels = new ImageData(this.width, this.height);
    this.hole = new Uint8Array(this.width * this.height); // 1 where the picture is unknown
    this.canvas = h("canvas", {
      width: this.width,
      height: this.height,
      class: "paper",
      tabindex: 0,
      role: "application",
      "aria-label": `Picture of ${this.width} by ${this.height} pixels. Arrow keys move the brush, Space paints.`,
    });
    this.element = h("fieldset", { class: "picture" }, h("legend", {}, WORDS[part.kind] ?? "The picture to start from"));
    this.element.append(this.canvas, this.#tools(), this.#sources(borrow));
    this.#listen();
    this.clear(false);
  }

  #tools() {
    const names = [...(this.holes ? ["hole", "mend"] : []), ...(this.colour ? ["colour"] : ["light", "dark"])];
    this.tool = names[0];
    const group = freshId("tool");
    const chips = names.map((name) => {
      const on = { change: () => (this.tool = name) };
      const input = h("input", { type: "radio", name: group, value: name, checked: name === this.tool, on });
      return h("label", { class: "chip" }, input, h("span", {}, TOOLS[name]));
    });
    const paint = { type: "color", value: "#ffffff", "aria-label": "Colour of the brush", on: { input: () => this.pick("colour") } };
    this.paint = this.colour ? h("input", paint) : null;
    const id = freshId("brush");
    const most = Math.max(3, Math.round(this.width / 4));
    this.brush = h("input", { id, type: "range", min: 1, max: most, step: 1, value: Math.max(2, Math.round(this.width / 10)) });
    const width = h("div", { class: "slide" }, h("label", { for: id }, "Brush"), this.brush);
    return h("div", { class: "tools" }, h("div", { class: "chips", role: "radiogroup", "aria-label": "Brush" }, ...chips, this.paint), width);
  }

  #sources(borrow) {
    this.input = h("input", { type: "file", accept: "image/*", class: "unseen", "aria-label": "Choose a picture" });
    this.input.addEventListener("change", () => this.input.files[0] && this.load(this.input.files[0]));
    const button = (text, act) => h("button", { type: "button", on: { click: act } }, text);
    return h(
      "div",
      { class: "row" },
      h("label", { class: "button" }, this.input, "Choose a picture"),
      borrow && button("Borrow a sample", async () => this.load(await borrow())),
      button("Empty", () => this.clear()),
      this.holes && button("Hole in the middle", () => this.#once(() => this.#middle())),
      button("Undo", () => this.undo()),
    );
  }

  #listen() {
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * this.width, ((event.clientY - box.top) / box.height) * this.height];
    };
    let last = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.canvas.setPointerCapture(event.pointerId);
      this.#remember();
      this.cursor = null;
      last = at(event);
      this.#line(last, last);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (last) for (const step of event.getCoalescedEvents?.() ?? [event]) this.#line(last, (last = at(step)));
    });
    const end = () => {
      if (last) this.changed();
      last = null;
    };
    this.canvas.addEventListener("pointerup", end);
    this.canvas.addEventListener("pointercancel", end);
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.canvas.addEventListener("blur", () => ((this.cursor = null), this.#show()));
    dropped(this.element, (file) => this.load(file));
  }

  #key(event) {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    const [x, y] = (this.cursor ??= [Math.floor(this.width / 2), Math.floor(this.height / 2)]);
    if (move) this.cursor = [clamp(x + move[0], this.width), clamp(y + move[1], this.height)];
    if (event.key === " " && !event.repeat) this.#remember();
    if (event.key === " " || event.shiftKey) this.#line([this.cursor[0] + 0.5, this.cursor[1] + 0.5]);
    if (event.key === " ") this.changed();
    this.#show();
    say(`Column ${this.cursor[0] + 1}, row ${this.cursor[1] + 1}`);
  }

  /** Choose a tool, as its chip does. */
  pick(name) {
    this.element.querySelector(`.tools input[value=${name}]`).click();
  }

  /** Take a picture of any size: its middle square, brought to the model's size, as the server would, with a hole to begin with. */
  async load(blob, middle = true) {
    try {
      if (blob.size > MOST) throw new Error("too large");
      const image = await createImageBitmap(blob);
      this.#remember();
      this.pixels = shrunk(image, this.width, this.height);
      this.hole.fill(0);
      const { data } = this.pixels;
      const some = data.some((value, i) => i % 4 === 3 && value < 255);
      if (this.holes && some) this.hole = this.hole.map((_, i) => Number(data[4 * i + 3] < 255));
      else if (this.holes && middle) this.#middle();
      flatten(data, this.colour);
    } catch {
      this.problem(`${blob.name ?? "The picture"} can't be read as a picture: choose a PNG, a JPEG or a WebP.`);
      return;
    } finally {
      this.input.value = "";
    }
    this.there = true;
    this.problem("");
    this.#show();
    this.changed();
  }

  /** Take the picture that a link holds: base64 of a PNG of just the model's size. */
  async read(base64) {
    const content = bytes(base64);
    const size = new DataView(content.buffer).getUint32.bind(new DataView(content.buffer));
    if (size(16) !== this.width || size(20) !== this.height) throw new Error("another size");
    await this.load(new Blob([content], { type: "image/png" }), false);
  }

  /** Start with nothing on the canvas. */
  clear(told = true) {
    if (told) this.#remember();
    this.pixels.data.forEach((_, i, data) => (data[i] = i % 4 === 3 ? 255 : 0));
    this.hole.fill(0);
    this.there = false;
    this.#show();
    if (told) {
      this.pick(this.colour ? "colour" : "light");
      this.changed();
    }
  }

  /** Go back by one stroke or picture. */
  undo() {
    const before = this.past.pop();
    if (!before) return say("There is nothing to undo.");
    Object.assign(this, before);
    this.#show();
    this.changed();
    return undefined;
  }

  /** Return the picture as base64 of a PNG whose opacity is 0 in the hole. */
  base64() {
    return this.address(0).split(",")[1];
  }

  /** Return the picture as an address for an <img>; the hole has an `opacity` in 0..255. */
  address(opacity = 0) {
    const { data } = this.pixels;
    const paper = h("canvas", { width: this.width, height: this.height });
    const full = new ImageData(data.map((value, i) => (i % 4 === 3 && this.hole[i >> 2] ? opacity : value)), this.width);
    paper.getContext("2d").putImageData(full, 0, 0);
    return paper.toDataURL("image/png");
  }

  #remember() {
    const { pixels, hole, there } = this;
    this.past.push({ pixels: new ImageData(pixels.data.slice(), this.width), hole: hole.slice(), there });
    if (this.past.length > 30) this.past.shift();
  }

  #once(act) {
    this.#remember();
    act();
    this.#show();
    this.changed();
  }

  #middle() {
    const inside = (i, side) => i >= side / 4 && i < (3 * side) / 4;
    this.hole = this.hole.map((_, i) =>
      Number(inside(i % this.width, this.width) && inside(Math.floor(i / this.width), this.height)),
    );
  }

  /** Paint from one point to another, in pixels of the picture, with the tool and the brush that are chosen. */
  #line(from, to = from) {
    const steps = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])));
    for (let i = 0; i <= steps; i += 1) this.#dot(from[0] + ((to[0] - from[0]) * i) / steps, from[1] + ((to[1] - from[1]) * i) / steps);
    if (!["hole", "mend"].includes(this.tool)) this.there = true;
    this.#show();
  }

  #dot(x, y) {
    const radius = this.brush.value / 2;
    const [red, green, blue] = this.#colour();
    for (let row = Math.max(0, Math.floor(y - radius)); row < Math.min(this.height, y + radius); row += 1) {
      for (let column = Math.max(0, Math.floor(x - radius)); column < Math.min(this.width, x + radius); column += 1) {
        if (Math.hypot(column + 0.5 - x, row + 0.5 - y) > Math.max(radius, 0.71)) continue;
        const i = row * this.width + column;
        if (this.tool === "hole" || this.tool === "mend") this.hole[i] = Number(this.tool === "hole");
        else this.pixels.data.set([red, green, blue, 255], 4 * i);
      }
    }
  }

  #colour() {
    if (this.tool !== "colour") return this.tool === "light" ? [255, 255, 255] : [0, 0, 0];
    return [1, 3, 5].map((i) => parseInt(this.paint.value.slice(i, i + 2), 16));
  }

  #show() {
    const shown = new ImageData(this.pixels.data.slice(), this.width);
    this.hole.forEach((open, i) => {
      if (open) shown.data.set((i + Math.floor(i / this.width)) % 2 ? [122, 140, 255, 255] : [88, 108, 240, 255], 4 * i);
    });
    if (this.cursor) shown.data.set([255, 80, 40, 255], 4 * (this.cursor[1] * this.width + this.cursor[0]));
    this.canvas.getContext("2d").putImageData(shown, 0, 0);
  }
}

const clamp = (value, side) => Math.max(0, Math.min(side - 1, value));

/** Return the middle square of an image at a size, halved step by step so that no pixel is skipped. */
function shrunk(image, width, height) {
  let side = Math.min(image.width, image.height);
  let from = [image, (image.width - side) / 2, (image.height - side) / 2];
  for (;;) {
    const last = side / 2 <= Math.max(width, height);
    const [w, t] = last ? [width, height] : [Math.ceil(side / 2), Math.ceil(side / 2)];
    const paper = h("canvas", { width: w, height: t });
    const context = paper.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(from[0], from[1], from[2], side, side, 0, 0, w, t);
    if (last) return context.getImageData(0, 0, w, t);
    [from, side] = [[paper, 0, 0], w];
  }
}

/** Make pixels opaque, and grey where samples have no colours; what was transparent is black. */
function flatten(data, colour) {
  for (let i = 0; i < data.length; i += 4) {
    const grey = Math.round(0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]);
    if (!colour) data.fill(grey, i, i + 3);
    data[i + 3] = 255;
  }
}
