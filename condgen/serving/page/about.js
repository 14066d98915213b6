// What is known of a model: its card, and its figures beside what real images get.

import { h } from "./dom.js";

const WORDS = { data: "Data", licence: "Licence", family: "Family", condition: "Condition", compute: "Compute", limits: "Limits" };

/** Return what is shown of a model of the server's list. */
export function about(model) {
  return [figures(model.figures ?? []), facts(model)].filter(Boolean);
}

function figures(all) {
  if (!all.length) return h("p", { class: "hint" }, "No figures came with this model.");
  const head = ["Figure", "This model", "Real images", "Protocol"];
  const cell = (value) => (value === null || value === undefined ? "–" : typeof value === "number" ? number(value) : String(value));
  const row = ({ name, value, floor, protocol }) =>
    h("tr", {}, h("th", { scope: "row" }, name), ...[value, floor, protocol].map((part) => h("td", {}, cell(part))));
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "Figures" },
    h(
      "table",
      {},
      h("caption", {}, "Measured, beside what real images get under the same protocol"),
      h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, ...all.map(row)),
    ),
  );
}

/** Write a figure with four digits, and no zeros that say nothing. */
function number(value) {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

function facts(model) {
  const card = { ...model.card, family: model.card?.family ?? model.family };
  const known = new Set(["name", "figures", "command"]);
  const text = (value) => (Array.isArray(value) ? value.join(", ") : String(value));
  const plain = ([name, value]) => !known.has(name) && (Array.isArray(value) || ["string", "number"].includes(typeof value));
  const rows = Object.entries(card).filter(plain).map(([name, value]) => [WORDS[name] ?? name.replaceAll("_", " "), text(value)]);
  if (card.command) rows.push(["Trained by", h("code", {}, card.command)]);
  if (model.weights) rows.push(["Weights", h("code", { title: "sha256" }, model.weights)]);
  return h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}
