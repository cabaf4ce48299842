// Numbers as people read them. All are at most a few characters wide.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });
const DATE = new Intl.DateTimeFormat("en-CA", {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

/** 1,234; from a million on 1.23M. */
export function count(n) {
  return n === null || n === undefined ? "–" : Math.abs(n) >= 1e6 ? SHORT.format(n) : WHOLE.format(n);
}

export function whole(n) {
  return n === null || n === undefined ? "–" : WHOLE.format(n);
}

/** Of events a second. */
export function rate(n) {
  if (n === null || n === undefined) return "–";
  if (n > 0 && n < 9.95) return n.toFixed(1);
  return count(Math.round(n));
}

/** "1 event", "2 events". */
export function counted(n, word) {
  return `${count(n)} ${word}${n === 1 ? "" : "s"}`;
}

export function bytes(n) {
  if (n === null || n === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = n, unit = 0;
  while (value >= 999.5 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toPrecision(value < 9.95 ? 2 : 3)} ${units[unit]}`;
}

/** Seconds: 12 ms, 3.4 s, 5 min, 2 h 10 min. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 0.9995) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.round(hours / 24)} d`;
}

/** 2026-07-23 10:04:05, in this browser's zone. */
export function moment(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? "–" : DATE.format(date).replace(",", "");
}

export function share(part) {
  return `${(part * 100).toFixed(part < 0.0995 ? 1 : 0)} %`;
}
