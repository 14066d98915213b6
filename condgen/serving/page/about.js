// What is known of a model: its card, and its figures beside what real images get.

import { h, title } from "./dom.js";

const FIRST = ["family", "data", "data_terms", "data_url", "licence", "condition", "space", "parameters", "compute", "limits"];
const ELSEWHERE = ["name", "figures", "command", "example", "options", "hub", "bits", "bytes"]; // on the page, or for programs

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
  return String(Number.isInteger(value) ? value : Number(value.toPrecision(4))).replace("-", "−");
}

function facts(model) {
  const card = { ...model.card, family: model.card?.family ?? model.family };
  const text = (value) => (Array.isArray(value) ? value.join(", ") : typeof value === "number" ? value.toLocaleString("en") : value);
  const names = [...new Set([...FIRST, ...Object.keys(card)])].filter((name) => !ELSEWHERE.includes(name));
  const rows = names.map((name) => [title(name), text(card[name])]).filter(([, value]) => value && typeof value === "string");
  if (card.command) rows.push(["Trained by", h("code", {}, card.command)]);
  if (model.weights) rows.push(["Weights", h("code", { title: "sha256" }, model.weights)]);
  return h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}
