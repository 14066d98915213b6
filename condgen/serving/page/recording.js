// The recording to start from: chosen, dropped or borrowed from another model, and heard before it is sent.

import { MOST, dropped, h } from "./dom.js";

/** A wav file; `borrow`: draws a sound of another model, or null where there is none; `changed`: called when there is another. */
export class Recording {
  constructor({ borrow, changed, problem }) {
    Object.assign(this, { borrow, changed, problem, there: false, part: { kind: "melimage" }, text: "" });
    this.missing = "Choose a recording, a wav file.";
    const input = h("input", { type: "file", accept: "audio/wav,.wav", class: "unseen", "aria-label": "Choose a recording" });
    input.addEventListener("change", () => input.files[0] && this.load(input.files[0]));
    const borrowing = borrow && h("button", { type: "button", on: { click: async () => this.load(await borrow()) } }, "Borrow a sample");
    this.player = h("audio", { controls: true, hidden: true, "aria-label": "The recording to start from" });
    const row = h("div", { class: "row" }, h("label", { class: "button" }, input, "Choose a recording"), borrowing);
    this.element = h("fieldset", { class: "picture" }, h("legend", {}, "A recording, of which the model sees the log-mel image"), this.player, row);
    dropped(this.element, (file) => this.load(file));
  }

  /** Start from a file. */
  async load(file) {
    if (file.size > MOST) return this.problem(`This file has ${Math.round(file.size / 1024 ** 2)} MB: choose a smaller recording.`);
    const letters = [];
    const content = new Uint8Array(await file.arrayBuffer());
    for (let i = 0; i < content.length; i += 0x8000) letters.push(String.fromCharCode(...content.subarray(i, i + 0x8000)));
    return this.#take(btoa(letters.join("")));
  }

  /** Start from what `base64` returned. */
  async read(text) {
    this.#take(text);
  }

  #take(text) {
    Object.assign(this, { text, there: true });
    this.player.src = `data:audio/wav;base64,${text}`;
    this.player.hidden = false;
    this.changed();
  }

  /** Return the file, in base64. */
  base64() {
    return this.text;
  }

  /** There is no picture of it. */
  address() {
    return "";
  }
}
