// Charts in SVG: a line, and areas on top of each other. x is time, at the right now; what is drawn fills the width,
// from the second minute on.

import { s } from "./dom.js";

const LEAST_SPAN_MS = 60_000;
const WIDTH = 300;
const HEIGHT = 100;

const svg = (...children) =>
  s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...children);

const spanOf = (points) => Math.max(LEAST_SPAN_MS, points.at(-1)[0] - points[0][0]);
const across = (points) => {
  const now = points.at(-1)[0], span = spanOf(points);
  return (at) => (WIDTH * (1 - (now - at) / span)).toFixed(2);
};
const y = (value, top) => (HEIGHT * (1 - value / top)).toFixed(2);

/** A line with a soft area under it. `draw([[at_ms, value]])`. */
export function sparkline(height) {
  const area = s("path", { class: "area" });
  const curve = s("path", { class: "curve" });
  const element = svg(area, curve);
  element.setAttribute("height", height);
  return {
    element,
    draw(points) {
      const known = points.filter(([, value]) => value !== null && Number.isFinite(value));
      if (known.length < 2) return;
      const x = across(known);
      // Room above: the largest value is not cut by the stroke's half width.
      const top = Math.max(...known.map(([, value]) => value)) * 1.15 || 1;
      const line = known.map(([at, value]) => `${x(at)},${y(value * 0.92 + top * 0.04, top)}`).join("L");
      curve.setAttribute("d", `M${line}`);
      area.setAttribute("d", `M${x(known[0][0])},${HEIGHT}L${line}L${WIDTH},${HEIGHT}Z`);
    },
  };
}

/** Areas on top of each other, the first at the bottom. `draw([[at_ms, {name: value}]])` gives
 * the top of the scale, and the milliseconds across. */
export function stack(names) {
  const lines = [0, 50, 100].map((at) => s("path", { class: "grid", d: `M0,${at}H${WIDTH}` }));
  const areas = names.map((name) => s("path", { class: `area fill-${name}` }));
  return {
    element: svg(...lines, ...areas.toReversed()),
    draw(points) {
      if (!points.length) return { top: 10, span: LEAST_SPAN_MS };
      const x = across(points);
      const top = nice(Math.max(...points.map(([, values]) => names.reduce((all, name) => all + values[name], 0))));
      const base = points.map(() => 0);
      names.forEach((name, i) => {
        const below = points.map(([at], j) => `${x(at)},${y(base[j], top)}`);
        points.forEach(([, values], j) => (base[j] += values[name]));
        const above = points.map(([at], j) => `${x(at)},${y(base[j], top)}`);
        areas[i].setAttribute("d", points.length < 2 ? "" : `M${above.join("L")}L${below.toReversed().join("L")}Z`);
      });
      return { top, span: spanOf(points) };
    },
  };
}

/** The next of 1, 2, 4, 5, 10, 20, …: half of it is a figure to read too. */
export function nice(value) {
  if (!(value > 0)) return 10;
  const power = 10 ** Math.floor(Math.log10(value));
  return Math.max(10, [1, 2, 4, 5, 10].find((step) => step * power >= value) * power);
}
