// Partitions along the offset axis: each a bar, cut into its segments by where and how they are kept.

import { h, keyed, say } from "../dom.js";
import { bytes, count, counted, duration, whole } from "../figures.js";

export const title = "Shards and tiers";

const KINDS = [
  ["growing", "Growing", "being written"],
  ["sealed", "Sealed", "finished, its index is being built"],
  ["indexed", "Indexed", "finished, with its HNSW index"],
  ["hot", "Spilled, hot", "in the object store only"],
  ["warm", "Spilled, warm", "in the object store only"],
  ["cold", "Spilled, cold", "in the object store only"],
  ["archived", "Archived", "to be restored before it can be read"],
];
const ABOUT = Object.fromEntries(KINDS.map(([kind, , about]) => [kind, about]));

const kindOf = (segment) => (segment.archived ? "archived" : segment.kind === "spilled" ? segment.tier : segment.kind);

export function create() {
  const legend = h("ul", { class: "legend" });
  const logs = h("div", { class: "panel-body" });
  const totals = h("span", { class: "muted small" });
  const detail = h("p", { class: "segment-detail", "aria-live": "polite" });
  let chosen = null;
  const choose = (segment) => {
    chosen = segment;
    detail.classList.toggle("chosen", segment !== null);
    say(detail, segment === null ? "Point at a segment, or tab to a bar and use the arrow keys." : words(segment));
  };
  choose(null);
  const element = h("div", { class: "view" },
    h("div", { class: "head" }, h("h1", { text: title }), totals),
    h("section", { class: "panel" }, h("div", { class: "panel-head" }, legend), detail, logs));

  function update({ overview }) {
    const shards = overview.workers
      .flatMap((worker) => (worker.figures?.partitions ?? []).map((partition) => ({ ...partition, owner: worker.name })))
      .sort((a, b) => a.partition - b.partition || a.owner.localeCompare(b.owner));
    const segments = shards.flatMap((shard) => shard.segments.map((each) => ({ ...each, partition: shard.partition })));
    say(totals, `${counted(segments.length, "segment")}, ${count(sum(segments, "live_rows"))} events, ${bytes(sum(segments, "bytes"))}`);
    keyed(legend, KINDS, ([kind]) => kind, legendItem, (item, [kind]) => {
      const found = segments.filter((segment) => kindOf(segment) === kind);
      say(item.querySelector("b"), count(found.length));
      say(item.lastElementChild, found.length ? bytes(sum(found, "bytes")) : "");
    });
    if (!legend.querySelector("[data-extra]"))
      legend.append(
        h("li", { "data-extra": true }, h("span", { class: "swatch unread", "aria-hidden": "true" }), "Not read yet"),
        h("li", { "data-extra": true }, h("span", { class: "swatch of of-hot", "aria-hidden": "true" }), "Line below: the object store has it too"));
    const first = Math.min(...shards.map((shard) => shard.segments[0]?.start ?? shard.next_offset));
    const last = Math.max(first + 1, ...shards.map((shard) => Math.max(shard.end_offset ?? 0, shard.next_offset)));
    const at = (offset) => (100 * (offset - first)) / (last - first);
    keyed(logs, shards, (shard) => `${shard.partition} ${shard.owner}`, (shard) => log(shard, choose), (row, shard) => row.update(shard, at));
    const same = segments.find((each) => each.partition === chosen?.partition && each.name === chosen?.name);
    if (same) choose(same);
    if (!shards.length) logs.replaceChildren(h("p", { class: "empty", text: "No worker owns a partition yet." }));
  }
  return { element, update };
}

const sum = (items, field) => items.reduce((all, item) => all + (item[field] ?? 0), 0);

function legendItem([kind, text, about]) {
  return h("li", { title: about }, h("span", { class: `swatch of of-${kind}`, "aria-hidden": "true" }), text, h("b"), h("span"));
}

function log(shard, choose) {
  const about = h("span", { class: "muted" });
  const bar = h("div", { class: "bar", role: "group", "aria-label": `Segments of partition ${shard.partition}; arrow keys go through them` });
  const unread = h("div", { class: "unread", hidden: true });
  const element = h("div", { class: "log" },
    h("div", { class: "log-head" }, h("h2", { text: `Partition ${shard.partition}` }), about), bar);
  const parts = h("div");
  parts.className = "segments";
  bar.append(parts, unread);
  let segments = [];

  const show = (name) => choose({ ...segments.find((each) => each.name === name), partition: shard.partition });
  const go = (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1 };
    const all = [...parts.children];
    const here = all.indexOf(document.activeElement);
    const to = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : event.key in steps ? here + steps[event.key] : null;
    if (to === null || here < 0 || !all[to]) return;
    event.preventDefault();
    all[here].tabIndex = -1;
    all[to].tabIndex = 0;
    all[to].focus();
  };
  bar.addEventListener("keydown", go);

  element.update = (now, at) => {
    segments = now.segments.filter((segment) => segment.rows > 0 || segment.kind !== "growing" || now.segments.length === 1);
    say(about, [
      `offsets ${whole(segments[0]?.start ?? 0)} to ${whole(now.next_offset)}`, `${count(now.live_rows)} events`,
      bytes(sum(now.segments, "bytes")), `owner ${now.owner}`,
      now.lag_records ? `${counted(now.lag_records, "record")} behind, ${duration(now.lag_s)}` : null,
    ].filter(Boolean).join(" · "));
    keyed(parts, segments, (segment) => segment.name,
      (segment) => h("button", { type: "button", tabindex: -1, on: {
        focus: () => show(segment.name), mouseenter: () => show(segment.name), click: () => show(segment.name) } }),
      (button, segment) => {
        button.className = `segment of-${kindOf(segment)}${segment.stored && segment.tier === "local" ? " stored" : ""}`;
        button.style.left = `${at(segment.start)}%`;
        button.style.width = `${Math.max(0, at(segment.end) - at(segment.start))}%`;
        const name = words({ ...segment, partition: shard.partition });
        if (button.getAttribute("aria-label") !== name) button.setAttribute("aria-label", name);
      });
    if (!parts.querySelector('[tabindex="0"]') && parts.firstElementChild) parts.firstElementChild.tabIndex = 0;
    unread.hidden = !now.lag_records;
    unread.style.left = `${at(now.next_offset)}%`;
    unread.style.width = `${Math.max(0, at(Math.max(now.end_offset ?? 0, now.next_offset)) - at(now.next_offset))}%`;
  };
  return element;
}

function words(segment) {
  const masked = segment.rows - segment.live_rows;
  return [
    `Partition ${segment.partition}`,
    `${KINDS.find(([kind]) => kind === kindOf(segment))[1]} (${ABOUT[kindOf(segment)]})`,
    `offsets ${whole(segment.start)} to ${whole(segment.end)}`,
    `${whole(segment.live_rows)} events${masked ? ` and ${whole(masked)} replaced or deleted` : ""}`,
    bytes(segment.bytes),
    segment.stored && segment.tier === "local" ? "the object store has it too" : null,
  ].filter(Boolean).join(" · ");
}
