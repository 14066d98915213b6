// One picture, large, with its sound where it has one: arrows go on, Escape goes back.

import { byId, bytes, say } from "./dom.js";

const dialog = byId("large");
let items = [];
let at = 0;
let name = "picture";
let reuse = null;

/** Show items[i], { src, label, sound }; `save`: the name of its file; `again(blob)`: starts from it, null where nothing can. */
export function open(all, i, { save, again }) {
  [items, name, reuse] = [all, save, again];
  byId("reuse").hidden = !reuse;
  go(i);
  if (!dialog.open) dialog.showModal();
}

function go(i) {
  at = (i + items.length) % items.length;
  const { src, label, sound } = items[at];
  const image = dialog.querySelector("img");
  image.onload = () => fit(image);
  image.src = src;
  image.alt = label ? `Generated: ${label}` : "A generated picture";
  const player = byId("sound");
  player.hidden = !sound;
  if (sound) {
    player.src = sound;
    player.play().catch(() => {}); // a browser may want to be asked first
  } else player.removeAttribute("src");
  const where = `${at + 1} of ${items.length}`;
  byId("caption").textContent = label ? `${label}, ${where}` : where;
  for (const id of ["previous", "next"]) byId(id).hidden = items.length < 2;
  byId("save").href = sound ?? src;
  byId("save").textContent = sound ? "Save WAV" : "Save PNG";
  byId("save").download = `${name}-${String(at + 1).padStart(2, "0")}.${sound ? "wav" : "png"}`;
  say(byId("caption").textContent);
}

/** Enlarge a small picture by whole pixels, as far as there is room. */
function fit(image) {
  const room = Math.min(innerWidth - 64, innerHeight - 220, 640);
  const small = image.naturalWidth < 128;
  const scale = room / Math.max(image.naturalWidth, image.naturalHeight);
  const whole = small ? Math.max(1, Math.floor(scale)) : Math.min(scale, 2);
  image.classList.toggle("pixels", small);
  image.width = Math.round(image.naturalWidth * whole);
  image.height = Math.round(image.naturalHeight * whole);
}

byId("previous").addEventListener("click", () => go(at - 1));
byId("next").addEventListener("click", () => go(at + 1));
byId("close").addEventListener("click", () => dialog.close());
byId("reuse").addEventListener("click", () => {
  dialog.close();
  const { src, sound } = items[at];
  reuse(new Blob([bytes((sound ?? src).split(",")[1])], { type: sound ? "audio/wav" : "image/png" }));
});
dialog.addEventListener("close", () => byId("sound").pause());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") go(at - 1);
  if (event.key === "ArrowRight") go(at + 1);
});
