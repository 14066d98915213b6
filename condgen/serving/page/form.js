// What is asked for: the form on the left, made for a model, read as a request and written from a link.

import { draw } from "./api.js";
import { Controls, rowsOf } from "./controls.js";
import { byId, bytes, counted } from "./dom.js";
import { Picture } from "./picture.js";
import { Recording } from "./recording.js";
import { readable } from "./wall.js";

const KINDS = { inpaint: "Filled in", edges: "From edges", colorize: "In colour", photo: "From a picture", melimage: "From a recording" };

/** The form for one model of the server's list; `changed` hears of changes, `problem(message)` of a picture that is none. */
export class Form {
  constructor(model, models, { changed, problem }) {
    this.model = model;
    this.counts = { draw: Math.min(8, model.limits.count), walk: Math.min(12, model.limits.count) };
    const { condition, sampling } = model;
    const open = (name, part, required) => (required ? "All" : part.enum || part.items ? "Any" : "Leave open");
    this.controls = new Controls(condition, { open, changed });
    const closed = (name, part, required) => (required ? "" : open(name, part, required));
    this.to = new Controls(condition, { single: true, open: closed, changed });
    const usual = (name, part) => (part.default === undefined || part.default === null ? "Off" : `Usual: ${part.default}`);
    this.options = new Controls(sampling, { single: true, open: usual, changed });
    const part = startOf(condition);
    const colour = model.space.shape[0] === 3;
    const heard = part?.contentMediaType === "audio/wav";
    const start = { colour, borrow: part && borrower(model, models, heard), changed, problem };
    this.picture = heard ? new Recording(start) : part?.size ? new Picture(part, start) : null;
    byId("condition").replaceChildren(this.controls.element);
    byId("condition").parentElement.hidden = !this.controls.fields.length;
    byId("to").replaceChildren(this.to.element);
    byId("options").lastElementChild.replaceChildren(this.options.element);
    byId("options").hidden = !this.options.fields.length;
    byId("start").replaceChildren(...(this.picture ? [this.picture.element] : []));
    byId("walk").hidden = !this.controls.fields.length || this.reads; // there is nothing between two texts
    byId("count").max = model.limits.count;
    byId("live").checked = !("steps" in (sampling.properties ?? {})); // a slow sampler waits until it is told
  }

  /** Whether samples are read, not looked at. */
  get reads() {
    return this.model.space.file === "txt";
  }

  get walking() {
    return byId("walking").checked;
  }

  /** Show the second condition or hide it, with a number of pictures for either. */
  walk(on) {
    if (on !== this.shownWalking) byId("count").value = this.counts[on ? "walk" : "draw"];
    this.shownWalking = on;
    byId("walking").checked = on;
    byId("to").hidden = !on;
    byId("count").min = on ? 2 : 1;
    const each = this.controls.fields.length ? " of each" : "";
    byId("count-label").textContent = on ? "Steps" : `${capital(this.noun)}s${each}`;
  }

  /** Propose where to walk: from what is asked for to the next value of the first name. */
  propose() {
    const first = [this.controls.read()].flat()[0] ?? {};
    const [name, part] = Object.entries(this.model.condition.properties).find(([, { kind }]) => !kind);
    const next = part.enum ? part.enum[(part.enum.indexOf(first[name]) + 1) % part.enum.length] : part.maximum;
    this.to.write({ ...first, [name]: next });
  }

  /** Show what a link says, or the model's first pictures. */
  async write(state) {
    this.controls.write(state.condition === undefined ? this.#first() : state.condition);
    this.walk(state.to !== undefined && !byId("walk").hidden);
    if (this.walking) this.to.write(state.to);
    this.options.write(state.sampling ?? {});
    if (Object.keys(state.sampling ?? {}).length) byId("options").open = true;
    byId("count").value = Math.min(state.count ?? this.counts[this.walking ? "walk" : "draw"], this.model.limits.count);
    byId("seed").value = state.seed ?? (byId("seed").value || 0);
    byId("locked").checked = state.locked ?? false;
    if (this.picture && state.image) await this.picture.read(state.image).catch(() => {});
  }

  #first() {
    const [name, part] = Object.entries(this.model.condition.properties ?? {}).find(([, { enum: names }]) => names) ?? [];
    return part ? { [name]: part.enum[Math.floor(part.enum.length * 0.3)] } : {};
  }

  /** Return the request, as the API takes it, without what has its usual value. */
  read() {
    const options = Object.entries(this.options.values()).map(([name, [value]]) => [name, value]);
    const numbers = { count: Number(byId("count").value), seed: Number(byId("seed").value) };
    const image = this.picture ? this.picture.base64() : null;
    return {
      model: this.model.name,
      condition: this.controls.fields.length ? this.controls.read() : null,
      ...(this.walking && { to: this.to.read() }),
      ...(image && { image }),
      ...numbers,
      ...(options.length && { sampling: Object.fromEntries(options) }),
    };
  }

  /** Return what is wrong with the form as { field, message }; null where it can be asked. */
  mistake() {
    for (const field of ["count", "seed"]) {
      const input = byId(field);
      if (input.validity.valid) continue;
      const most = input.max ? ` to ${input.max}` : " upwards";
      return { field, message: `${input.labels[0].textContent} must be a whole number from ${input.min}${most}.` };
    }
    const { samples } = this.model.limits;
    if (this.total > samples) return { field: "count", message: `${this.total} ${this.noun}s are too many at once: at most ${samples}.` };
    if (this.picture && !this.picture.there) return { field: "image", message: this.picture.missing };
    return null;
  }

  /** Return how many conditions are asked for. */
  get rows() {
    return rowsOf(this.controls.fields.length ? this.controls.read() : {}, this.model.condition);
  }

  /** Return how many pictures are asked for. */
  get total() {
    return this.rows * Number(byId("count").value);
  }

  /** What a sample is called. */
  get noun() {
    return { images: "picture", mel: "sound", waveforms: "sound", points: "point", tokens: "text", tagsets: "set" }[this.model.space.kind] ?? "sample";
  }

  /** Say on the button what it does. */
  label() {
    const n = Number(byId("count").value);
    if (this.walking) return `Walk in ${counted(n, "step")}`;
    return this.total ? `Draw ${counted(this.total, this.noun)}` : "Draw";
  }

  /** Return what is asked for, in words. */
  title() {
    const kind = this.picture && KINDS[this.picture.part.kind];
    const said = this.controls.fields.map((field, i) => this.#words(field, this.to.fields[i])).filter(Boolean).join(" · ");
    const some = said.length > 160 ? counted(this.rows, "condition") : said;
    const every = this.controls.fields.some(({ name }) => this.controls.required.has(name));
    const what = some || (every ? "every class" : "");
    if (kind) return what ? `${kind}: ${what}` : kind;
    return capital(what || "anything", some && this.controls.fields[0].name === "class");
  }

  /** Say what a control asks for, and where a walk leads to: "rotation −45 → 45". */
  #words(field, goal) {
    const words = ({ read }) => read().join(", ").replace(/(^| )-(?=\d)/g, "$1−");
    const ends = this.walking ? [words(field), words(goal)] : [words(field)];
    if (ends.every((end) => !end)) return "";
    const open = this.controls.required.has(field.name) ? "every" : "any";
    const said = [...new Set(ends.map((end) => end || open))].join("\u00a0→ "); // never an arrow at the beginning of a line
    return field.name === "class" ? said : `${field.name.replaceAll("_", " ")} ${said}`;
  }
}

/** Begin a text with a capital letter, unless it starts with the name of a class, which stays as it is. */
function capital(text, name) {
  return name ? text : text.charAt(0).toUpperCase() + text.slice(1);
}

/** Return the part of a condition that is a picture or a sound to start from; undefined where there is none. */
export function startOf(condition) {
  return Object.values(condition.properties ?? {}).find(({ kind }) => kind);
}

/** Return what draws one sample of another model to start from, a Blob, `heard` or seen; null where no other model can. */
function borrower(model, models, heard) {
  const fits = (space) => (heard ? space.file === "wav" : space.kind === "images");
  const able = ({ condition, space }) => fits(space) && !startOf(condition);
  const others = models.filter((other) => other !== model && able(other));
  const other = others.find(({ space }) => space.shape[0] === model.space.shape[0]) ?? others[0];
  if (!other) return null;
  return async () => {
    const pick = (names) => names[Math.floor(Math.random() * names.length)];
    const chosen = Object.entries(other.condition.properties).filter(([, part]) => part.enum);
    const condition = chosen.length ? Object.fromEntries(chosen.map(([name, part]) => [name, pick(part.enum)])) : null;
    const request = { model: other.name, condition, count: 1, seed: Math.floor(Math.random() * 1e6), format: "pngs" };
    const result = await draw(request, new AbortController().signal, () => {});
    return heard ? new Blob([bytes(result.sounds[0])], { type: "audio/wav" }) : new Blob([bytes(result.images[0])], { type: "image/png" });
  };
}

/** Return a label for people who hear the page: "8 pictures: 3". */
export function heard(result, noun) {
  const labels = [...new Set(result.labels.map((label) => readable(label)))].filter(Boolean);
  return `${counted(result.labels.length, noun)}${labels.length && labels.length < 4 ? `: ${labels.join(", ")}` : ""}.`;
}
