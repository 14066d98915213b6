// What can be taken along from the wall: files, a link, and the request as code.

import { Problem, file, hasToken } from "./api.js";
import { byId, save, say } from "./dom.js";
import { copy, curl, fits, python } from "./share.js";

/**
 * Make the buttons below the pictures work.
 *
 * - `last()`: the request that was drawn; `own()`: the format of a sample's own file
 * - `complain(problem, retry)`: says what is wrong
 */
export function takeAlong(last, own, complain) {
  /** Save the pictures as the server's file of them. */
  const take = async (format, button) => {
    button.disabled = true;
    try {
      save(await file(last(), format), `${last().model}-${last().seed}.${format}`);
      say(`Saved as ${format}.`);
    } catch (error) {
      complain(error, () => take(format, button));
    } finally {
      button.disabled = false;
      button.focus();
    }
  };
  for (const format of ["png", "npz", "wav", "txt"]) byId(format).addEventListener("click", ({ target }) => take(format, target));
  byId("link").addEventListener("click", ({ target }) => {
    if (!fits(last().image)) complain(new Problem("The picture is too large for a link; all else is in it."));
    copied(location.href, target);
  });
  byId("code").addEventListener("click", () => code(last(), own()));
  byId("close-written").addEventListener("click", () => byId("written").close());
}

/** Copy a text and say so on the button for a moment. */
async function copied(text, button) {
  const done = await copy(text);
  button.dataset.name ??= button.textContent;
  button.textContent = done ? "Copied" : "Not allowed here";
  say(done ? "Copied." : "This browser does not let the page copy: select the text instead.");
  setTimeout(() => (button.textContent = button.dataset.name), 1500);
}

/** Show a request as code. */
function code(asked, format) {
  const address = new URL("v1/samples", document.baseURI).href;
  const request = { ...asked, format };
  const texts = [curl(address, request, hasToken()), python(address, request, hasToken())];
  const dialog = byId("written");
  dialog.querySelectorAll("pre").forEach((place, i) => (place.textContent = texts[i]));
  byId("copy-curl").onclick = ({ target }) => copied(texts[0], target);
  byId("copy-python").onclick = ({ target }) => copied(texts[1], target);
  dialog.showModal();
}
