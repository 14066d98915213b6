// The few things that every other module needs of the document.

/** Return the element with an id. */
export const byId = (id) => document.getElementById(id);

/**
 * Make an element: `h("label", { class: "chip", on: { click } }, child, "text")`. Text stays text: nothing is read as HTML.
 * What is null, undefined or false is left out, and so are such children.
 */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Tell whoever listens to the page instead of looking at it. */
export function say(text) {
  byId("status").textContent = text;
}

let used = 0;

/** Return an id that no other element has. */
export function freshId(name) {
  used += 1;
  return `${name.replace(/[^\w-]/g, "_")}-${used}`;
}

/** Return "1 picture" or "8 pictures". */
export function counted(n, one, many = `${one}s`) {
  return `${n} ${n === 1 ? one : many}`;
}

/** Return the name of a field as a title: "data_terms" as "Data terms". */
export function title(name) {
  return name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
}

/** Have the browser save bytes under a name. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Return bytes from base64. */
export function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

export const MOST = 64 * 1024 * 1024; // bytes of a file that is not even looked at

/** Call `load` with a file that is dropped on an element. */
export function dropped(element, load) {
  element.addEventListener("dragover", (event) => event.preventDefault());
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) load(event.dataTransfer.files[0]);
  });
}
