// What can be taken along: a link that restores everything, and the request as curl and as Python.

const LONGEST = 64 * 1024; // letters of a picture that goes into a link

/** Return the fragment of an address that `fromHash` reads. It is never sent to the server. */
export function toHash(state) {
  const fields = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (value === null || value === undefined || value === "" || value === false) continue;
    if (name === "image" && value.length > LONGEST) continue;
    fields.set(name, name === "image" || name === "model" ? value : JSON.stringify(value));
  }
  return `#${fields}`;
}

/** Return whether a picture, base64, is small enough for a link. */
export const fits = (image) => !image || image.length <= LONGEST;

/** Read a fragment; what it says wrongly is left out, as if it were not there. */
export function fromHash(hash) {
  const state = {};
  for (const [name, text] of new URLSearchParams(hash.slice(1))) {
    try {
      state[name] = name === "image" || name === "model" ? text : JSON.parse(text);
    } catch {
      // not written by `toHash`
    }
  }
  const whole = (value, least) => (Number.isSafeInteger(value) && value >= least ? value : undefined);
  const object = (value) => (value !== null && typeof value === "object" ? value : undefined);
  return {
    model: state.model,
    condition: object(state.condition),
    to: object(state.to),
    count: whole(state.count, 1),
    seed: whole(state.seed, 0),
    sampling: Array.isArray(state.sampling) ? undefined : object(state.sampling),
    image: typeof state.image === "string" && fits(state.image) ? state.image : undefined,
    locked: state.locked === true,
  };
}

/** Return a request as a command; a token is named, not shown. */
export function curl(address, request, token) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  return [
    `curl -f ${quoted(address)}`,
    ...(token ? ['-H "Authorization: Bearer $CONDGEN_TOKEN"'] : []),
    "-H 'Content-Type: application/json'",
    `-d ${quoted(JSON.stringify(request))}`,
    `-o samples.${request.format}`,
  ].join(" \\\n  ");
}

/** Return a request as Python that needs only the standard library; a token is named, not shown. */
export function python(address, request, token) {
  const lines = Object.entries(request).map(([name, value]) => `    ${literal(name)}: ${literal(value)},`);
  const key = token ? ', "Authorization": "Bearer " + os.environ["CONDGEN_TOKEN"]' : "";
  return `import json
${token ? "import os\n" : ""}import urllib.request

wanted = {
${lines.join("\n")}
}
headers = {"Content-Type": "application/json"${key}}
address = ${literal(address)}
request = urllib.request.Request(address, json.dumps(wanted).encode(), headers)
with urllib.request.urlopen(request) as answer, open("samples.${request.format}", "wb") as file:
    file.write(answer.read())
`;
}

/** Write a value of JSON as Python does. */
function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, part]) => `${JSON.stringify(name)}: ${literal(part)}`).join(", ")}}`;
}

/** Put a text on the clipboard; false where the browser does not let a page do so. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // over plain http from another machine, say
  }
}
