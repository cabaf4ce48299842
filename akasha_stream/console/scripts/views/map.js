// The embedding space in two dimensions: a sample of this node's events, those that mean alike near each other.

import * as api from "../api.js";
import { foreign, h, keyed } from "../dom.js";
import { openEvent } from "../event.js";
import { count, share } from "../figures.js";
import { colour, colourOf, drawing } from "../scatter.js";

export const title = "Map";

const SAMPLES = [500, 2_000, 5_000];
const MOST_LISTED = 100;

export function create() {
  const about = h("p", { class: "muted small" });
  const wrong = h("p", { class: "note bad", role: "alert", hidden: true });
  const sample = h("select", { "aria-label": "Events on the map", on: { change: () => load() } },
    SAMPLES.map((n) => h("option", { value: n, selected: n === 2_000, text: `${count(n)} events` })));
  const canvas = h("canvas", { role: "img", "aria-label": "Map of the events; the lists beside it have the same events" });
  const tip = h("div", { class: "tip", hidden: true });
  const stage = h("div", { class: "panel canvas" }, canvas, tip);
  const systems = h("div", { class: "systems", role: "group", "aria-label": "Source systems" });
  const points = h("ul", { class: "points", "aria-label": "Events on the map" });
  const listed = h("span", { class: "muted small" });
  const element = h("div", { class: "view" },
    h("div", { class: "head" }, h("h1", { text: title }), h("div", { class: "bar-actions" }, sample,
      h("button", { type: "button", on: { click: () => load() } }, "Draw again"))),
    about, wrong,
    h("div", { class: "map" }, stage,
      h("div", { class: "view" },
        h("section", { class: "panel" }, h("div", { class: "panel-head" }, h("h2", { text: "Systems" }), h("span", { class: "muted small", text: "one at a time by click" })), systems),
        h("section", { class: "panel" }, h("div", { class: "panel-head" }, h("h2", { text: "Events" }), listed), points))));
  const picture = drawing(canvas);
  let shown = [];
  let only = null;
  let asking = null;

  async function load() {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    stage.setAttribute("aria-busy", "true");
    try {
      show(await api.map(sample.value, signal));
      wrong.hidden = true;
    } catch (error) {
      if (signal.aborted) return;
      wrong.textContent = error.message;
      wrong.hidden = false;
    }
    stage.setAttribute("aria-busy", "false");
  }
  function show(answer) {
    shown = answer.points;
    const [x, y] = answer.explained;
    about.textContent = [
      shown.length < answer.rows ? `${count(shown.length)} of ${count(answer.rows)} events on this node` : `All ${count(answer.rows)} events on this node`,
      `this plane shows ${share(x + y)} of how they differ`,
      answer.left_out ? `${count(answer.left_out)} more are in the object store only` : null,
    ].filter(Boolean).join("; ") + ".";
    const bySystem = new Map();
    for (const point of shown) bySystem.set(point.source_system, (bySystem.get(point.source_system) ?? 0) + 1);
    const named = [...bySystem].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
    colour(bySystem.keys());
    if (!bySystem.has(only)) only = null;
    keyed(systems, named, ([name]) => name, ([name]) => {
      return h("button", { type: "button", "aria-pressed": "false", on: { click: () => choose(only === name ? null : name) } },
        h("span", { class: "swatch", "aria-hidden": "true" }), foreign("span", name), h("span"));
    }, (button, [name, n]) => {
      button.firstElementChild.style.color = colourOf(name);
      button.lastElementChild.textContent = count(n);
    });
    choose(only);
  }
  function choose(system) {
    only = system;
    for (const button of systems.children) button.setAttribute("aria-pressed", String(button.dataset.key === only));
    picture.show(shown, only);
    list();
  }
  function list() {
    const here = shown.filter((point) => only === null || point.source_system === only);
    listed.textContent = here.length > MOST_LISTED ? `${MOST_LISTED} of ${count(here.length)}` : count(here.length);
    points.replaceChildren(...here.slice(0, MOST_LISTED).map((point) => {
      const button = foreign("button", point.text || point.event_id, { type: "button" });
      button.addEventListener("click", () => openEvent(point.source_system, point.event_id));
      button.addEventListener("focus", () => picture.mark(point));
      button.addEventListener("blur", () => picture.mark(null));
      return h("li", {}, button);
    }));
  }
  function hover(event) {
    const found = picture.at(event.offsetX, event.offsetY);
    picture.mark(found?.point ?? null);
    canvas.style.cursor = found ? "pointer" : "";
    tip.hidden = found === null;
    if (found === null) return;
    const swatch = h("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.color = colourOf(found.point.source_system);
    tip.replaceChildren(h("div", { class: "whose" }, swatch, foreign("b", found.point.source_system)), foreign("div", found.point.text));
    const right = found.x > stage.clientWidth / 2, below = found.y > stage.clientHeight / 2;
    Object.assign(tip.style, {
      left: right ? "" : `${found.x + 12}px`, right: right ? `${stage.clientWidth - found.x + 12}px` : "",
      top: below ? "" : `${found.y + 12}px`, bottom: below ? `${stage.clientHeight - found.y + 12}px` : "",
    });
  }
  canvas.addEventListener("pointermove", hover);
  canvas.addEventListener("pointerleave", () => {
    tip.hidden = true;
    picture.mark(null);
  });
  canvas.addEventListener("click", (event) => {
    const found = picture.at(event.offsetX, event.offsetY);
    if (found) openEvent(found.point.source_system, found.point.event_id);
  });
  load();
  return { element, leave: () => { asking?.abort(); picture.stop(); } };
}
