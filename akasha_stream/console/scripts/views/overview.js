// The cluster at a glance: how much comes in, how far behind, how fresh, and who does it.

import { sparkline, stack } from "../chart.js";
import { h, keyed, say } from "../dom.js";
import { count, counted, duration, rate } from "../figures.js";
import { OUTCOMES, ratesBetween, timeToClear } from "../rates.js";

export const title = "Overview";

const NAMES = OUTCOMES.map(([name]) => name);
const total = (rates) => NAMES.reduce((all, name) => all + rates[name], 0);

export function create() {
  const tiles = Object.fromEntries(
    [
      ["rate", "Events per second"], ["lag", "Behind the log"], ["fresh", "Until searchable, p99"],
      ["events", "Searchable events"], ["windows", "Open windows"], ["duplicates", "Duplicates dropped"],
    ].map(([name, text]) => [name, tile(name, text)]),
  );
  const throughput = plot();
  const workers = h("div", { class: "panel" });
  const notes = h("ul", { class: "note warn", hidden: true });
  let before = null;
  const element = h("div", { class: "view" },
    h("div", { class: "head" }, h("h1", { text: title })),
    notes,
    h("div", { class: "tiles" }, Object.values(tiles).map((each) => each.element)),
    throughput.element,
    workers);
  const table = workersTable(workers);

  function update({ overview, looks }) {
    const now = looks.at(-1);
    const totals = now.totals;
    notes.hidden = overview.notes.length === 0;
    keyed(notes, overview.notes, (note) => note, (note) => h("li", { text: note }), () => {});
    tiles.rate.show(now.rates ? rate(total(now.rates)) : "–", "/ s", `${count(total(totals))} since start`,
      looks.map((look) => [look.at_ms, look.rates && total(look.rates)]));
    tiles.lag.show(count(now.lagEvents), now.lagEvents === 1 ? "event" : "events", behind(now, looks),
      looks.map((look) => [look.at_ms, look.lagEvents]));
    tiles.fresh.show(...split(duration(now.p99)), now.p99 === null ? "no commit in the last minute" : `p50 ${duration(now.p50)}`,
      looks.map((look) => [look.at_ms, look.p99]));
    tiles.events.show(count(now.live), "", waiting(now), looks.map((look) => [look.at_ms, look.live]));
    tiles.windows.show(count(now.windowsOpen), "", `${count(now.windowsClosed)} closed since start`,
      looks.map((look) => [look.at_ms, look.windowsOpen]));
    tiles.duplicates.show(count(totals.duplicates), "", share(totals),
      looks.map((look) => [look.at_ms, look.totals.duplicates]));
    throughput.update(looks, totals);
    table.update(overview, before);
    if (before === null || overview.at_ms > before.at_ms) before = overview;
  }
  return { element, update };
}

function behind(now, looks) {
  if (now.lagSeconds === null) return "not measured yet";
  if (now.lagRecords === 0) return "all is read";
  const clear = timeToClear(looks);
  const until = clear === null ? "" : clear === Infinity ? (now.lagSeconds > 5 ? ", growing" : "") : `, clear in ${duration(clear)}`;
  return `${duration(now.lagSeconds)}${until}`;
}

function waiting(now) {
  const parts = [counted(now.segments, "segment")];
  if (now.indexBacklog) parts.push(`${count(now.indexBacklog)} to index`);
  if (now.spillBacklog) parts.push(`${count(now.spillBacklog)} to spill`);
  return parts.join(", ");
}

function share(totals) {
  const taken = total(totals);
  return taken ? `${((100 * totals.duplicates) / taken).toFixed(1)} % of ${count(taken)} events` : "since start";
}

/** "12 ms" in its number and its unit; longer ones stay whole. */
function split(text) {
  const parts = text.split(" ");
  return parts.length === 2 ? parts : [text, ""];
}

function tile(name, text) {
  const value = h("span"), unit = h("span", { class: "unit" }), more = h("p", { class: "more" });
  const line = sparkline(36);
  return {
    element: h("section", { class: "panel tile", "data-tile": name },
      h("h2", { text }), h("p", { class: "value" }, value, unit), more, line.element),
    show(figure, of, about, points) {
      say(value, figure);
      say(unit, of);
      say(more, about);
      line.draw(points);
    },
  };
}

function plot() {
  const chart = stack(NAMES);
  const marks = [0, 50, 100].map(() => h("span"));
  const legend = h("ul", { class: "legend" });
  const oldest = h("span");
  const figures = Object.fromEntries(OUTCOMES.map(([name, text]) => {
    const now = h("b"), all = h("span");
    legend.append(h("li", { "data-outcome": name }, h("span", { class: `swatch fill-${name}`, "aria-hidden": "true" }), `${text} `, now, all));
    return [name, { now, all }];
  }));
  chart.element.setAttribute("height", "100%");
  marks.forEach((mark, i) => (mark.style.top = `${i * 50}%`));
  const element = h("section", { class: "panel" },
    h("div", { class: "panel-head" }, h("h2", { text: "Throughput" }), h("span", { class: "muted small", text: "events per second by what became of them" })),
    h("div", { class: "panel-body" },
      h("div", { class: "plot" }, chart.element, h("div", { class: "scale", "aria-hidden": "true" }, marks),
        h("div", { class: "times", "aria-hidden": "true" }, oldest, h("span", { text: "now" }))),
      legend));
  return {
    element,
    update(looks, totals) {
      const known = looks.filter((look) => look.rates !== null);
      const { top, span } = chart.draw(known.map((look) => [look.at_ms, look.rates]));
      say(oldest, `−${duration(span / 1000)}`);
      marks.forEach((mark, i) => say(mark, rate(top * (1 - i / 2))));
      for (const [name, { now, all }] of Object.entries(figures)) {
        say(now, known.length ? rate(known.at(-1).rates[name]) : "–");
        say(all, `of ${count(totals[name])}`);
      }
    },
  };
}

function workersTable(panel) {
  const rows = h("tbody");
  const count_ = h("span", { class: "muted small" });
  panel.append(
    h("div", { class: "panel-head" }, h("h2", { text: "Workers and their shards" }), count_),
    h("div", { class: "flush" }, h("table", { class: "workers" },
      h("thead", {}, h("tr", {}, ["Worker", "Shards", "Events / s", "Behind", "Parts"].map((text, i) =>
        h("th", { scope: "col", class: i === 2 || i === 3 ? "end wide" : i === 1 ? "wide" : null, text })))),
      rows)));
  return {
    update(overview, before) {
      const topic = overview.workers.find((worker) => worker.figures)?.figures.topic_partitions ?? 0;
      const owned = new Set(overview.workers.flatMap((worker) => worker.partitions));
      const free = [...Array(topic).keys()].filter((partition) => !owned.has(partition));
      say(count_, free.length ? `no worker owns ${free.join(", ")}: their events wait in Kafka` : `${counted(topic, "partition")}, all owned`);
      count_.className = `small ${free.length ? "bad" : "muted"}`;
      keyed(rows, overview.workers, (worker) => worker.name, () => row(), (element, worker) =>
        element.querySelector("td") && fill(element, worker, overview, before));
    },
  };
}

function row() {
  return h("tr", {},
    h("td", {}, h("div", { class: "worker-name" }, h("span", { class: "dot", "aria-hidden": "true" }), h("span")), h("div", { class: "muted small" }), h("div", { class: "small bad" })),
    h("td", { class: "wide" }, h("div", { class: "shards" })), h("td", { class: "end wide" }), h("td", { class: "end wide" }),
    h("td", {}, h("ul", { class: "parts small" })));
}

function fill(element, worker, overview, before) {
  const { figures } = worker;
  const [who, shards, speed, lag, parts] = element.children;
  who.querySelector(".dot").className = `dot ${figures?.ready ? "good" : "bad"}`;
  say(who.querySelector(".worker-name span:last-child"), worker.name);
  say(who.querySelector(".muted"), [
    figures && `version ${figures.version}`, figures && `up ${duration(Math.max(0, (figures.at_ms - figures.started_at_ms) / 1000))}`,
    worker.answering ? "this node" : worker.url,
    worker.heartbeat_age_s !== null && worker.heartbeat_age_s > 5 ? `heartbeat ${duration(worker.heartbeat_age_s)} ago` : null,
  ].filter(Boolean).join(" · "));
  say(who.querySelector(".bad"), worker.error ?? "");
  keyed(shards.firstElementChild, worker.partitions, (partition) => partition,
    (partition) => h("span", { class: "badge", text: partition }), () => {});
  const one = before && ratesBetween({ workers: before.workers }, { workers: [worker] });
  if (overview.at_ms !== before?.at_ms) say(speed, one ? rate(NAMES.reduce((all, name) => all + one[name], 0)) : "–");
  const lags = figures?.partitions.filter((each) => each.lag_s !== null) ?? [];
  say(lag, lags.length ? duration(Math.max(...lags.map((each) => each.lag_s))) : "–");
  keyed(parts.firstElementChild, Object.entries(figures?.components ?? {}), ([name]) => name,
    () => h("li", {}, h("span", { class: "dot", "aria-hidden": "true" }), h("span"), h("span", { class: "muted" })),
    (item, [name, part]) => {
      item.children[0].className = `dot ${part.ok ? "good" : part.required ? "bad" : "warn"}`;
      say(item.children[1], name.replace("_", " "));
      say(item.children[2], part.ok ? part.detail || "ok" : `not ok: ${part.detail || "no detail"}`);
    });
}

