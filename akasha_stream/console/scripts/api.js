// The HTTP API of the node that served this page.

const KEY = "akasha-stream.key";

/** What the API answered instead (RFC 9457); status 0: it did not. */
export class Problem extends Error {
  constructor(status, detail, title = "") {
    super(detail);
    this.status = status;
    this.title = title;
  }
}

/** Of this tab alone: gone when it is closed. */
export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** The JSON that a path answers with. Raises Problem; AbortError where `signal` ends it. */
export async function ask(path, { body, signal } = {}) {
  const headers = {};
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      body: body === undefined ? undefined : JSON.stringify(body),
      headers, signal, cache: "no-store", credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The node does not answer.");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  if (response.status === 401) window.dispatchEvent(new CustomEvent("akasha:unauthenticated"));
  throw new Problem(response.status, answer?.detail ?? `HTTP ${response.status}`, answer?.title);
}

export const search = (asked, signal) => ask("v1/search", { body: asked, signal });
export const overview = (signal) => ask("v1/overview", { signal });
export const map = (sample, signal) => ask(`v1/map?sample=${sample}`, { signal });
export const letter = (partition, offset) => ask(`v1/dead-letters/${partition}/${offset}`);
export const requeue = (letters, again = false) => ask("v1/dead-letters/requeue", { body: { letters, again } });

export function letters({ reason, limit = 100 }, signal) {
  const asked = new URLSearchParams({ limit });
  if (reason) asked.append("reason", reason);
  return ask(`v1/dead-letters?${asked}`, { signal });
}

export function event(system, id) {
  if ([system, id].some((part) => part === "." || part === ".."))
    throw new Problem(0, "A browser takes “.” and “..” in an address for steps: ask for this event with akasha-stream get.");
  return ask(`v1/events/${encodeURIComponent(system)}/${encodeURIComponent(id)}`);
}
