"use strict";
// The page of a study. It knows what is asked and what may be answered, never what is right.

const part = (id) => document.getElementById(id);
const KEYS = {
  real: ["r", "ArrowLeft"], generated: ["g", "ArrowRight"], left: ["ArrowLeft", "l"], right: ["ArrowRight", "r"],
};
const NAMES = { real: "Real", generated: "Generated", left: "Left", right: "Right" };
let study, state, busy = false;

// --- asking the server ---

async function ask(path, body) {
  let response, content;
  try {
    response = await fetch(path, body && {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    content = await response.json();
  } catch {
    throw Error("The study cannot be reached. It may have been ended; your answers so far are kept.");
  }
  if (!response.ok) throw Object.assign(Error(content.error.message), { status: response.status });
  return content;
}

async function attempt(action) {
  if (busy) return;
  busy = true;
  part("trouble").hidden = true;
  try {
    await action();
  } catch (error) {
    part("trouble").textContent = error.message;
    part("trouble").hidden = false;
  } finally {
    busy = false;
    for (const button of document.querySelectorAll("main button")) button.disabled = false;
  }
}

// --- what is seen ---

function show(id) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
}

function make(tag, attributes, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}

function welcome() {
  const title = study.paired ? "Which of the two?" : study.questions[0] === "real" ? "Real or generated?" : "What is shown?";
  document.title = title;
  part("welcome").querySelector("h1").textContent = title;
  part("about").textContent = {
    real: study.paired
      ? `You will see ${study.trials} pairs of pictures. Say each time which one looks more real.`
      : `You will see ${study.trials} pictures. Some are real, others were made by a computer: say which.`,
    condition: study.paired
      ? `You will see ${study.trials} pairs of pictures. Say each time which one shows better what was asked for.`
      : `You will see ${study.trials} pictures. Say each time what is shown.`,
    both: study.paired
      ? `You will see ${study.trials} pairs of pictures. Say each time which one looks more real, and which one shows better what was asked for.`
      : `You will see ${study.trials} pictures. Some are real, others were made by a computer: say which, and what is shown.`,
  }[study.questions.length > 1 ? "both" : study.questions[0]] + " Take as long as you like, and stop whenever you like.";
  show("welcome");
  part("name").focus();
}

function question(task) {
  if (task.question === "condition") {
    return study.paired ? `Which one shows this better: ${task.condition}?` : "What is shown?";
  }
  return study.paired ? "Which one looks more real?" : "Is this picture real or generated?";
}

function trial() {
  const task = state.task;
  show("trial");
  part("progress").max = state.questions;
  part("progress").value = state.answered;
  part("place").textContent = `${task.trial} of ${study.trials}`;
  part("question").textContent = question(task);
  const sources = task.pictures.join();
  if (part("pictures").dataset.shown !== sources) {
    part("pictures").dataset.shown = sources;
    part("pictures").replaceChildren(...task.pictures.map((source, i) => picture(task, source, i)));
  }
  part("pictures").className = study.paired ? "pair" : "";
  part("choices").replaceChildren(...(study.paired ? [] : task.choices.map((choice, i) => button(choice, i))));
  const digits = task.choices.length === 10 && task.choices.every((choice) => choice.length === 1);
  part("choices").className = digits ? "digits" : task.choices.length > 2 ? "many" : "";
  part("hint").textContent = hint(task);
  part("question").focus({ preventScroll: true });
}

function picture(task, source, i) {
  const side = study.paired ? ` ${task.choices[i]}` : "";
  const image = make("img", { src: source, alt: `Picture ${task.trial}${side}`, draggable: false });
  if (!study.paired) return image;
  return make("button", { type: "button", onclick: () => answer(task.choices[i]), ariaLabel: NAMES[task.choices[i]] }, image);
}

function button(choice, i) {
  const key = NAMES[choice] && state.task.question === "real" ? KEYS[choice][0].toUpperCase() : "";
  const face = state.task.question === "real" ? NAMES[choice] : choice;
  const hint = key ? [make("kbd", { textContent: key, ariaHidden: "true" })] : [];
  return make("button", { type: "button", onclick: () => answer(choice) }, face, ...hint);
}

function hint(task) {
  if (study.paired) return "Click a picture, or press ← or →.";
  if (task.question === "real") return "Keys: R or ← for real, G or → for generated.";
  return keyed(task) ? "Keys: the first letter or digit." : "";
}

// Whether each choice begins with a letter of its own, which can be its key.
function keyed(task) {
  return new Set(task.choices.map((choice) => choice[0].toLowerCase())).size === task.choices.length;
}

function end(stopped) {
  const left = state.questions - state.answered;
  part("end").querySelector("h1").textContent = stopped ? "Stopped" : "Done, thank you";
  part("thanks").textContent = stopped
    ? `Thank you: your ${state.answered} answers are kept. As “${state.person}” you can go on later; ${left} are left.`
    : `All ${state.answered} answers of “${state.person}” are kept.`;
  part("result").replaceChildren(...(stopped || !state.result ? [] : [table(state.result)]));
  part("again").hidden = !stopped;
  show("end");
  part("end").querySelector("h1").focus();
}

function table(rows) {
  const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
  const head = ["", "You", "By chance"].map((text) => make("th", { textContent: text, scope: "col" }));
  const lines = rows.map((row) => make("tr", {},
    make("th", { textContent: row.title, scope: "row" }),
    make("td", {}, percent(row.count / row.of), make("small", { textContent: `${row.count} of ${row.of}` }),
      make("small", { textContent: `${percent(row.low)} to ${percent(row.high)}` })),
    make("td", { textContent: percent(row.chance) })));
  const caption = make("caption", { className: "faint" },
    "The last line of each figure is its 95\u00a0% interval: how far so few answers leave it open.");
  return make("table", {}, caption, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines));
}

// --- what is done ---

function proceed() {
  sessionStorage.setItem("person", state.person);
  if (state.task) trial();
  else end(false);
}

const begin = (person) => attempt(async () => {
  state = await ask("api/people", { person });
  proceed();
});

const answer = (choice) => attempt(async () => {
  for (const button of part("trial").querySelectorAll("button")) button.disabled = true;
  const { trial: number, question: asked } = state.task;
  try {
    state = await ask("api/answers", { person: state.person, trial: number, question: asked, answer: choice });
  } catch (error) {
    if (error.status !== 409) throw error;
    state = await ask("api/people", { person: state.person });
  }
  proceed();
});

function pressed(event) {
  if (part("trial").hidden || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const { choices, question: asked } = state.task;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const own = (choice) => (study.paired || asked === "real" ? KEYS[choice].includes(key)
    : keyed(state.task) && choice[0].toLowerCase() === key);
  const choice = choices.find(own);
  if (choice === undefined) return;
  event.preventDefault();
  answer(choice);
}

part("welcome").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  begin(part("name").value);
});
part("stop").addEventListener("click", () => {
  sessionStorage.removeItem("person");
  end(true);
});
part("again").addEventListener("click", () => begin(state.person));
document.addEventListener("keydown", pressed);
attempt(async () => {
  study = await ask("api/study");
  welcome();
  const known = sessionStorage.getItem("person");
  if (known) {
    state = await ask("api/people", { person: known });
    proceed();
  }
});
