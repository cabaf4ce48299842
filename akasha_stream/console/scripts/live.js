// The figures of the cluster, asked for each second while the page can be seen.

import * as api from "./api.js";
import { ratesBetween, standing } from "./rates.js";

const EVERY_MS = 1_000;
const MOST_LOOKS = 300;
const LONGEST_PAUSE_MS = 10_000;

/** The latest answer, what it amounts to, and those of the last five minutes. */
export const live = { overview: null, looks: [], error: null };

const listeners = new Set();
let timer = null;
let asking = null;
let failures = 0;

export function follow(listener) {
  listeners.add(listener);
  if (live.overview !== null || live.error !== null) listener(live);
  return () => listeners.delete(listener);
}

export function start() {
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : look()));
  look();
}

/** Now, and each second from now on. */
export async function look() {
  stop();
  asking = new AbortController();
  const { signal } = asking;
  try {
    take(await api.overview(signal));
    failures = 0;
  } catch (error) {
    if (signal.aborted) return;
    live.error = error;
    failures += 1;
  }
  for (const listener of listeners) listener(live);
  if (document.hidden) return;
  timer = setTimeout(look, Math.min(EVERY_MS * 2 ** Math.min(failures, 4), failures ? LONGEST_PAUSE_MS : EVERY_MS));
}

function stop() {
  clearTimeout(timer);
  asking?.abort();
}

function take(overview) {
  const before = live.overview;
  live.overview = overview;
  live.error = null;
  if (before !== null && before.at_ms === overview.at_ms) return;
  const rates = before === null ? null : ratesBetween(before, overview);
  live.looks.push({ at_ms: overview.at_ms, rates, ...standing(overview) });
  if (live.looks.length > MOST_LOOKS) live.looks.shift();
}
