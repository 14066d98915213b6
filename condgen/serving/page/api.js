// The server's API: every answer, or a Problem with the server's own sentence.

/** What went wrong: a sentence, the field of the request that it is about ("" for none), and whether to try again. */
export class Problem extends Error {
  constructor(message, { field = "", status = 0, again = false } = {}) {
    super(message);
    Object.assign(this, { field, status, again });
  }
}

const GONE = "The server does not answer. It may have been stopped, or the network is away.";

let token = "";
try {
  token = sessionStorage.getItem("token") ?? "";
} catch {
  // a browser that keeps nothing asks again
}

/** Send this token from now on, until the tab is closed. */
export function useToken(value) {
  token = value;
  try {
    sessionStorage.setItem("token", value);
  } catch {
    // it is kept as long as the page is
  }
}

/** Return whether requests carry a token, which code that is copied has to name. */
export const hasToken = () => token !== "";

async function call(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(GONE, { again: true });
  }
  if (!answer.ok) throw await refused(answer);
  return answer;
}

async function refused(answer) {
  let said = {};
  try {
    said = (await answer.json()).error ?? {};
  } catch {
    // something between this page and the server answered
  }
  const wait = Number(answer.headers.get("Retry-After"));
  const message = said.message ?? `The server answered with status ${answer.status} and no sentence.`;
  const again = answer.status === 429 || answer.status >= 500;
  const hint = answer.status === 429 && wait > 0 ? ` Try again in ${wait} s.` : "";
  return new Problem(message + hint, { field: said.field ?? "", status: answer.status, again });
}

/** Return the models that are served. */
export async function models() {
  return (await (await call("v1/models")).json()).models;
}

/** Return the file, a Blob, that a request gives in the format "png" or "npz". */
export async function file(request, format, signal) {
  const answer = await call("v1/samples", post({ ...request, format }, "*/*", signal));
  return answer.blob();
}

function post(body, accept, signal) {
  return {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: accept },
    body: JSON.stringify(body),
    signal,
  };
}

/**
 * Draw samples and return the server's result.
 *
 * `told(event, data)` hears of each "progress" and "preview" on the way. An aborted `signal` closes the
 * connection, which cancels the work.
 */
export async function draw(request, signal, told) {
  const answer = await call("v1/samples", post(request, "text/event-stream", signal));
  if (!answer.headers.get("Content-Type")?.startsWith("text/event-stream")) return answer.json();
  try {
    for await (const [event, data] of events(answer.body)) {
      if (event === "result") return data;
      if (event === "error") throw new Problem(data.error.message, { field: data.error.field ?? "" });
      told(event, data);
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof Problem) throw error;
    throw new Problem(GONE, { again: true });
  }
  throw new Problem(GONE, { again: true });
}

/** Yield [event, data] of a stream of server-sent events. (EventSource can't POST.) */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n").map((line) => /^(\w+): ?(.*)$/.exec(line)).filter(Boolean);
      const of = (name) => lines.filter((line) => line[1] === name).map((line) => line[2]);
      if (of("data").length) yield [of("event")[0] ?? "message", JSON.parse(of("data").join("\n"))];
    }
  }
}
