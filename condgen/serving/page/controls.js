// Controls made from a JSON schema: chips for names, a slider and a number for numbers. Each can be left open.

import { freshId, h, title } from "./dom.js";

const MANY = 24; // names beyond which there is a search field

/**
 * Controls for the properties of a schema, without the image.
 *
 * - `single`: one value of each property instead of several
 * - `open`: what a control that asks for nothing is called, by property: `(name, part, required) => "Any"`; "" for never open
 * - `changed`: called when somebody changes something
 */
export class Controls {
  constructor(schema, { single = false, open, changed }) {
    const required = new Set(schema.required ?? []);
    this.required = required;
    this.fields = Object.entries(schema.properties ?? {})
      .filter(([, part]) => !part.kind)
      .map(([name, part]) => {
        const make = part.enum || part.items?.enum ? chips : part.type === "number" || part.type === "integer" ? slider : words;
        return make(name, part, { single, changed, open: open(name, part, required.has(name)) });
      });
    this.element = h("div", { class: "controls" }, ...this.fields.map((field) => field.element));
  }

  /** Return the values of each property that asks for something, as lists. */
  values() {
    return Object.fromEntries(this.fields.map((field) => [field.name, field.read()]).filter(([, list]) => list.length));
  }

  /** Return what is asked for: an object, a list of them where there are several, or null for all there is. */
  read() {
    const values = Object.entries(this.values());
    if (!values.length) return this.fields.some((field) => !this.required.has(field.name)) ? {} : null;
    const all = values.reduce((rows, [name, list]) => rows.flatMap((row) => list.map((v) => ({ ...row, [name]: v }))), [{}]);
    return all.length === 1 ? all[0] : all;
  }

  /** Show what `read` returned; names and values that there are not are left out. */
  write(condition) {
    const rows = [condition ?? []].flat().filter((row) => row !== null && typeof row === "object");
    for (const field of this.fields) field.write([...new Set(rows.map((row) => row[field.name]).filter((v) => v !== undefined))]);
  }
}

/** Return how many conditions `read` stands for, where null stands for each value of the first property. */
export function rowsOf(condition, schema) {
  if (Array.isArray(condition)) return condition.length;
  const first = Object.values(schema.properties ?? {}).find((part) => part.enum);
  return condition === null && first ? first.enum.length : 1;
}

function described(part) {
  return part.description ? h("p", { class: "hint", id: freshId("hint") }, part.description) : null;
}

function chips(name, part, { single, changed, open }) {
  const group = freshId(name);
  const set = !part.enum; // all that are chosen are one value, with spaces between them
  if (set) [part, single] = [{ ...part, enum: part.items.enum }, false];
  const chip = (value, label) => {
    const input = h("input", { type: single ? "radio" : "checkbox", name: group, value });
    return { input, label: h("label", { class: "chip" }, input, h("span", {}, label)) };
  };
  const any = open ? chip("", open) : null;
  const all = part.enum.map((value) => chip(String(value), String(value)));
  const checked = () => all.filter(({ input }) => input.checked).map(({ input }) => input.value);
  const read = () => (set && checked().length ? [checked().join(" ")] : checked());
  const settle = () => {
    if (any) any.input.checked = !read().length;
  };
  const several = single || set ? null : h("input", { type: "checkbox", on: { change: () => (only(read()[0]), changed()) } });
  const only = (value) => {
    if (several && !several.checked) all.forEach(({ input }) => (input.checked = input.value === value));
    settle();
  };
  const pressed = ({ target }) => {
    if (target === any?.input) all.forEach(({ input }) => (input.checked = false));
    only(target.checked ? target.value : "");
    changed();
  };
  const hint = described(part);
  const box = h("div", { class: "chips", on: { change: pressed } }, any?.label, ...all.map(({ label }) => label));
  const find = part.enum.length > MANY ? search(name, all) : null;
  if (find) box.classList.add("many");
  const opener = several && h("label", { class: "opener" }, several, h("span", {}, "Several"));
  const parts = [h("legend", {}, title(name)), opener, find, box, hint];
  const element = h("fieldset", { class: several ? "number" : null, "aria-describedby": hint?.id }, ...parts);
  const write = (values) => {
    if (several) several.checked = values.length > 1;
    const first = values.slice(0, 1).map(String);
    const wanted = new Set(set ? first.flatMap((value) => value.split(" ")) : single ? first : values.map(String));
    all.forEach(({ input }) => (input.checked = wanted.has(input.value)));
    if (!any && single && !read().length) all[0].input.checked = true;
    settle();
  };
  write([]);
  return { name, element, read, write };
}

function search(name, all) {
  const narrow = ({ target }) => {
    const wanted = target.value.trim().toLowerCase();
    all.forEach(({ input, label }) => (label.hidden = !input.value.toLowerCase().includes(wanted)));
  };
  const choose = (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // Enter takes the first that is found; empty, it draws as everywhere else
    const found = all.find(({ label }) => !label.hidden);
    if (event.target.value) found?.input.click();
    else event.target.form.requestSubmit();
  };
  return h("input", { type: "search", "aria-label": `Find a ${name}`, placeholder: "Find", on: { input: narrow, keydown: choose } });
}

/** Return a step of 1, 2 or 5 times a power of ten, about a hundred of which fit between two numbers. */
function stepOf(low, high) {
  const least = (high - low) / 100;
  const power = 10 ** Math.floor(Math.log10(least));
  return Number((power * [1, 2, 5, 10].find((n) => n * power >= least * 0.999)).toPrecision(1));
}

function slider(name, part, { changed, open }) {
  const [low, high] = [part.minimum ?? part.exclusiveMinimum ?? 0, part.maximum ?? 100];
  const whole = part.type === "integer";
  const step = whole ? 1 : stepOf(low, high);
  const start = part.default ?? (whole ? low : Math.round((low + high) / 2 / step) * step);
  const id = freshId(name);
  const hint = described(part);
  const aria = { "aria-describedby": hint?.id };
  const range = h("input", { type: "range", id, min: low, max: high, step, value: start, "aria-label": title(name), ...aria });
  const exact = { type: "number", min: low, step: whole ? 1 : "any", inputmode: "decimal", "aria-label": `${title(name)}, exactly` };
  const number = h("input", { ...exact, ...aria, placeholder: open && (part.default ?? (open === "Off" ? "off" : "open")) });
  const any = open ? h("input", { type: "checkbox", checked: true }) : null;
  const isOpen = () => Boolean(any?.checked);
  const show = (value) => {
    element.classList.toggle("open", isOpen());
    number.value = isOpen() ? "" : value;
    if (!isOpen()) range.value = value;
  };
  const take = (value) => {
    if (any) any.checked = value === "" || !Number.isFinite(Number(value));
    if (!any && value === "") return; // never open: the last number stays until there is another
    if (document.activeElement === number) range.value = value === "" ? start : value;
    else show(value);
    element.classList.toggle("open", isOpen());
    changed();
  };
  range.addEventListener("input", () => take(range.value));
  number.addEventListener("input", () => take(number.value));
  number.addEventListener("change", () => number.value === "" && show(range.value));
  any?.addEventListener("change", () => (show(range.value), changed()));
  const opener = any && h("label", { class: "opener" }, any, h("span", {}, open));
  const element = h(
    "fieldset",
    { class: "number" },
    h("legend", {}, title(name)),
    opener,
    h("div", { class: "slide" }, range, number),
    hint,
  );
  const write = ([value]) => {
    if (any) any.checked = value === undefined;
    show(value ?? start);
  };
  write([]);
  return { name, element, read: () => (isOpen() ? [] : [Number(number.value || range.value)]), write };
}

function words(name, part, { changed }) {
  const id = freshId(name);
  const input = h("input", { id, type: "text", on: { input: changed } });
  const element = h("div", {}, h("label", { for: id }, title(name)), input, described(part));
  const read = () => (input.value ? [input.value] : []);
  return { name, element, read, write: ([value]) => (input.value = value ?? "") };
}
