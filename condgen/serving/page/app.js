// The page: what is asked for goes to the server, what comes back hangs on the wall.

import { about } from "./about.js";
import { Problem, draw, models, useToken } from "./api.js";
import { byId, counted, h, say } from "./dom.js";
import { Form, heard, startOf } from "./form.js";
import { fromHash, toHash } from "./share.js";
import { takeAlong } from "./take.js";
import * as viewer from "./viewer.js";
import * as wall from "./wall.js";

let served = []; // models
let form = null;
let running = null; // what aborts the drawing that is under way
let last = null; // { request, many, total, noun }: what was asked for, for what hangs on the wall
let hung = []; // and that itself
let said = []; // and what the plate says of it
let waiting = 0;

/** Ask for the models, and show the one that the address names. */
async function start() {
  clear();
  try {
    served = await models();
  } catch (error) {
    return complain(error, start);
  }
  byId("token-form").hidden = true;
  if (!served.length) return complain(new Problem("This server has no models."), start);
  byId("model").replaceChildren(...served.map(({ name }) => h("option", { value: name }, name)));
  byId("chooser").hidden = served.length < 2;
  byId("ask").hidden = false;
  return restore();
}

/** Show what the address says. */
async function restore() {
  const state = fromHash(location.hash);
  const model = served.find(({ name }) => name === state.model) ?? served[0];
  await choose(model, state, Boolean(state.model));
  if (state.model && model.name !== state.model) {
    complain(new Problem(`This server has no model ${state.model}; this is ${model.name}.`, { field: "model" }));
  }
}

/** Show a model's controls and its first pictures. */
async function choose(model, state = {}, linked = false) {
  byId("model").value = model.name;
  form = new Form(model, served, { changed, problem: (message) => complain(new Problem(message, { field: "image" })) });
  await form.write(linked ? { ...state, condition: state.condition ?? null } : state);
  const details = byId("about");
  details.hidden = false;
  details.lastElementChild.replaceChildren(...about(model));
  if (form.picture && !form.picture.there) await borrow();
  clearTimeout(waiting);
  byId("draw").textContent = form.label();
  if (form.mistake()) return empty();
  return show(true);
}

/** Start from another model's sample where nobody has brought a picture yet. */
async function borrow() {
  try {
    if (form.picture.borrow) await form.picture.load(await form.picture.borrow());
  } catch {
    // then the canvas is empty, which the form says
  }
}

/** Show a wall on which nothing hangs yet. */
function empty() {
  running?.abort();
  [last, hung, said] = [null, [], []];
  plate(form.title(), form.model.name);
  byId("pictures").replaceChildren(h("p", { class: "hint" }, form.mistake().message));
}

function changed() {
  byId("draw").textContent = form.label();
  if (!byId("live").checked) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => !form.mistake() && show(true), 200);
}

/** Draw; unless the seed is kept, asking for the same again takes another one. */
async function show(keep = false) {
  clear();
  clearTimeout(waiting);
  const mistake = form.mistake();
  if (mistake) return complain(new Problem(mistake.message, mistake));
  const same = JSON.stringify(form.read()) === JSON.stringify(last?.request);
  if (!keep && same && !byId("locked").checked) byId("seed").value = anySeed();
  const request = form.read();
  const { model } = form;
  const shape = model.space.view;
  const format = form.reads ? "json" : shape ? "pngs" : "png";
  const several = format !== "png"; // else all samples are in one picture
  const view = {
    shape,
    count: several ? request.count : 1,
    walking: form.walking && several,
    start: form.picture ? form.picture.address(0) : "",
    open: (items, i) => viewer.open(items, i, { save: `${model.name}-${request.seed}`, again: starter() }),
  };
  const title = form.title();
  const { total, noun } = form;
  const many = several ? total : 1;
  running?.abort();
  const mine = (running = new AbortController());
  busy(true);
  const expect = () => {
    wall.expect(shape, form.reads ? 1 : many, view.walking ? many : view.count);
    plate(title, request.model);
  };
  if (last?.request.model !== request.model) [last, hung, said] = [null, [], []];
  if (last?.many !== many) expect();
  const told = (event, data) => {
    if (running !== mine) return;
    if (event === "progress") progress(data);
    if (event === "preview" && !view.walking) {
      if (!wall.expecting()) expect(); // what hangs there is kept as it is
      wall.preview(data.images, data.first);
    }
  };
  try {
    const result = await draw({ ...request, format }, mine.signal, told);
    if (running !== mine) return undefined;
    last = { request, many, total, noun };
    hang(result.labels ? result : { images: [result.content], labels: [""] }, view, title);
  } catch (error) {
    if (running !== mine) return undefined; // another request has taken its place
    byId("pictures").replaceChildren(...hung); // what was there is still there
    if (said.length) plate(...said);
    if (error.name === "AbortError") say("Cancelled.");
    else complain(error, () => show(true));
  } finally {
    if (running === mine) busy(false);
  }
  return undefined;
}

/** Say what hangs on the wall, or is to. */
function plate(title, subtitle) {
  byId("title").textContent = title;
  byId("title").classList.toggle("long", title.length > 36);
  byId("subtitle").textContent = subtitle;
  byId("actions").hidden = !last;
  const { file } = form.model.space;
  byId("png").hidden = form.reads;
  for (const own of ["wav", "txt"]) byId(own).hidden = own !== file;
  document.title = `${title} – condgen`;
}

/** Show a result, and its request in the address. */
function hang(result, view, title) {
  const { request } = last;
  wall.show(result, view);
  hung = [...byId("pictures").childNodes];
  const what = view.walking ? counted(request.count, "step") : counted(last.total, last.noun);
  said = [title, `${request.model} · ${what} · seed ${request.seed}`];
  plate(...said);
  history.replaceState(null, "", toHash({ ...request, locked: byId("locked").checked }));
  byId("draw").textContent = form.label();
  say(heard(result, last.many === 1 ? "picture" : last.noun));
}

/** Show how far the drawing is. */
function progress(data) {
  const bar = byId("bar");
  bar.max = data.total;
  bar.value = data.done;
  const unit = data.unit === "steps" ? "Step" : "Picture";
  bar.labels[0].textContent = `${unit} ${data.done} of ${data.total}`;
}

function busy(now) {
  const bar = byId("bar");
  if (now) {
    bar.removeAttribute("value");
    bar.labels[0].textContent = "Drawing";
    say("Drawing.");
  } else running = null;
  byId("progress").hidden = !now;
  byId("cancel").hidden = !now;
  byId("wall").setAttribute("aria-busy", String(now));
}

const anySeed = () => Math.floor(Math.random() * 1_000_000);

/** Return what takes a picture as the start of another one; null where no model does. */
function starter() {
  const heard = form.model.space.file === "wav"; // a sound is where vocoders start, a picture where all others do
  const able = ({ condition }) => {
    const part = startOf(condition);
    return part && (part.contentMediaType === "audio/wav") === heard;
  };
  const model = able(form.model) ? form.model : served.find(able);
  if (!model) return null;
  return async (blob) => {
    if (form.model !== model) await choose(model);
    await form.picture.load(blob);
    byId("start").scrollIntoView({ block: "nearest" });
  };
}

/** Show the sentence of a problem beside what it is about, with a button where trying again may help. */
function complain(problem, retry = null) {
  clear();
  if (problem.status === 401) byId("token-form").hidden = false;
  const { field } = problem;
  const place =
    document.querySelector(`[data-field="${CSS.escape(field)}"]`) ??
    document.querySelector(`[data-field="${CSS.escape(field.split(/[.[]/)[0])}"]`) ??
    byId("problem");
  const shown = place.hidden || !place.offsetParent ? byId("problem") : place;
  if (!problem.message) return;
  const id = "complaint";
  const again = problem.again && retry ? h("button", { type: "button", on: { click: retry } }, "Try again") : null;
  shown.append(h("p", { class: "complaint", role: "alert", id }, h("span", {}, problem.message), again));
  const input = shown === byId("problem") ? null : shown.querySelector("input:not([type=file]), canvas");
  input?.setAttribute("aria-invalid", "true");
  input?.setAttribute("aria-describedby", id);
  if (place.tagName === "DETAILS") place.open = true;
}

function clear() {
  document.querySelectorAll(".complaint").forEach((node) => node.remove());
  document.querySelectorAll("[aria-invalid]").forEach((node) => {
    node.removeAttribute("aria-invalid");
    node.removeAttribute("aria-describedby");
  });
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const narrow = byId("wall").offsetTop > byId("ask").offsetTop + 100;
  if (narrow && !form.mistake()) byId("wall").scrollIntoView({ block: "start" });
  show();
});
byId("cancel").addEventListener("click", () => {
  running?.abort();
  byId("draw").focus();
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) running?.abort();
  const plain = ["BODY", "SECTION"].includes(document.activeElement.tagName);
  if (event.key === "Enter" && plain && form) byId("ask").requestSubmit();
});
byId("model").addEventListener("change", ({ target }) => choose(served.find(({ name }) => name === target.value)));
byId("walking").addEventListener("change", ({ target }) => {
  form.walk(target.checked);
  if (target.checked) form.propose();
  changed();
});
byId("count").addEventListener("input", () => {
  form.counts[form.walking ? "walk" : "draw"] = Number(byId("count").value);
  changed();
});
byId("seed").addEventListener("input", changed);
byId("roll").addEventListener("click", () => {
  byId("seed").value = anySeed();
  if (byId("live").checked) show(true);
});
takeAlong(() => last.request, () => form.model.space.file || "png", complain);
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(byId("token").value);
  start();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is the link
  byId("wall").focus();
});
addEventListener("hashchange", () => served.length && restore());
addEventListener("paste", (event) => {
  const image = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
  if (image) form?.picture?.load(image);
});

start();
