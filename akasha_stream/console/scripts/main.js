// The page: its views by the part of the address after the #, and what is around them.

import { startAccess } from "./access.js";
import { close } from "./dialog.js";
import { h, say } from "./dom.js";
import { count } from "./figures.js";
import { follow, live, look, start } from "./live.js";
import { startTheme } from "./theme.js";
import * as deadLetters from "./views/dead-letters.js";
import * as map from "./views/map.js";
import * as overview from "./views/overview.js";
import * as search from "./views/search.js";
import * as storage from "./views/storage.js";

// Each has `title`, and `create(params)`, which gives `element`, and perhaps `update(live)`, `params(params)`, `leave()`.
const VIEWS = { overview, search, storage, map, "dead-letters": deadLetters };
const FIGURES = new Set(["overview", "storage"]);
const main = document.getElementById("main");
const state = document.getElementById("state");

let shown = null;
const badge = h("span", { class: "badge bad", hidden: true });

document.getElementById("views").append(
  ...Object.entries(VIEWS).map(([name, view]) =>
    h("li", {}, h("a", { href: `#/${name}`, "data-view": name }, view.title, name === "dead-letters" ? badge : null))),
);

function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const name = path in VIEWS ? path : "overview";
  const params = new URLSearchParams(query);
  close();
  if (shown?.name === name && shown.view.params) {
    shown.view.params(params);
    return;
  }
  const first = shown === null;
  shown?.view.leave?.();
  shown = { name, view: VIEWS[name].create(params) };
  main.replaceChildren(shown.view.element);
  document.title = `${VIEWS[name].title} · akasha-stream`;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view !== name) {
      link.removeAttribute("aria-current");
      continue;
    }
    link.setAttribute("aria-current", "page");
    link.scrollIntoView({ block: "nearest", inline: "center" }); // the bar of a phone is too narrow for all
  }
  if (live.overview !== null) shown.view.update?.(live);
  if (!first) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function around({ overview, error }) {
  const [kind, text] = standing(overview, error);
  if (state.firstElementChild?.className !== `dot ${kind}` || state.textContent !== text)
    state.replaceChildren(h("span", { class: `dot ${kind}`, "aria-hidden": "true" }), h("span", { text }));
  const dead = overview?.workers.reduce((all, worker) => all + (worker.figures?.dead_letters ?? 0), 0) ?? 0;
  badge.hidden = dead === 0;
  say(badge, count(dead));
  badge.title = "since the workers started";
  if (error === null) shown?.view.update?.(live);
  else if (error.status === 403 && FIGURES.has(shown?.name)) main.replaceChildren(h("p", { class: "note bad", role: "alert", text: error.message }));
}

function standing(overview, error) {
  if (error !== null) return ["bad", error.status === 401 ? "An API key is needed" : error.status === 403 ? "This key may not see the figures" : "No answer; trying again"];
  const workers = overview.workers;
  const bad = workers.filter((worker) => !worker.figures?.ready);
  if (bad.length) return ["bad", `${bad.length} of ${workers.length} workers not ready`];
  if (workers.some((worker) => Object.values(worker.figures.components).some((part) => !part.ok)))
    return ["warn", "Working, with a fault"];
  return ["good", workers.length === 1 ? "Ready" : `${workers.length} workers ready`];
}

startTheme(document.getElementById("theme"));
startAccess(document.getElementById("key"), () => {
  look();
  shown?.view.leave?.();
  shown = null;
  route();
});
addEventListener("hashchange", route);
route();
follow(around);
start();
