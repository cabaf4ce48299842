// A search by text, or by an event that is stored. What is asked stands in the address: a search can be kept and sent.

import * as api from "../api.js";
import { foreign, h, keyed } from "../dom.js";
import { likeHash, openEvent } from "../event.js";
import { bytes, counted, duration, moment, whole } from "../figures.js";
import { request } from "../filters.js";
import { live } from "../live.js";

export const title = "Search";

const MOST_REASONS = 4;
const FIELDS = ["systems", "created_after", "created_before", "metadata", "threshold", "k"];

export function create(first) {
  const fields = {};
  const field = (name, label, props) => {
    fields[name] = h("input", { name, autocomplete: "off", spellcheck: "false", ...props });
    return h("label", {}, h("span", { text: label }), fields[name]);
  };
  const byText = h("div", {}, field("text", "Text", { type: "search", placeholder: "What the events say" }));
  const byEvent = h("div", { class: "two" },
    field("system", "Source system", { placeholder: "laptop-7" }), field("id", "Event id", { placeholder: "its id" }));
  const modes = h("fieldset", { class: "modes", "aria-label": "Search by" },
    mode("text", "Text"), mode("like", "Like an event"));
  const missing = h("p", { class: "note warn", hidden: true });
  const more = h("details", {}, h("summary", { text: "Filters" }),
    h("div", { class: "filters" },
      field("systems", "Source systems, by commas"),
      field("metadata", "Metadata", { placeholder: "section=doc, priority>=3" }),
      field("created_after", "Created at or after", { type: "datetime-local", step: 1 }),
      field("created_before", "Created before", { type: "datetime-local", step: 1 }),
      field("threshold", "Least similarity", { type: "number", min: -1, max: 1, step: 0.01, placeholder: "none" }),
      field("k", "Hits at most", { type: "number", min: 1, max: 100, placeholder: "10" })));
  const form = h("form", { class: "query", role: "search", on: { submit } },
    modes, h("div", { class: "ask" }, h("div", {}, byText, byEvent), h("button", { class: "primary", type: "submit" }, "Search")),
    missing, more);
  const results = h("div", { class: "view", "aria-live": "polite", "aria-busy": "false" });
  const element = h("div", { class: "view" },
    h("div", { class: "head" }, h("h1", { text: title })), h("section", { class: "panel" }, h("div", { class: "panel-body" }, form)), results);
  let asking = null;

  function mode(name, text) {
    const input = h("input", { type: "radio", name: "mode", value: name, on: { change: () => choose(name) } });
    return h("label", {}, input, h("span", { text }));
  }
  function choose(name) {
    modes.querySelector(`[value="${name}"]`).checked = true;
    byText.hidden = name !== "text";
    byEvent.hidden = name !== "like";
    explain();
  }
  function explain() {
    const me = live.overview?.workers.find((worker) => worker.answering)?.figures;
    const lacking = me !== undefined && me !== null && me.embedder === null;
    missing.hidden = !lacking || byText.hidden;
    missing.textContent =
      "This node has no embedder, so it can't turn a text into a vector. Install the local one " +
      "(pip install 'akasha-stream[onnx]'), or set embedder.kind. Searching by an event needs none.";
  }
  function submit(event) {
    event.preventDefault();
    const asked = new URLSearchParams();
    for (const name of [...(byText.hidden ? ["system", "id"] : ["text"]), ...FIELDS]) {
      const value = name === "id" || name === "system" ? fields[name].value : fields[name].value.trim();
      if (value) asked.set(name, value);
    }
    const hash = `#/search?${asked}`;
    if (location.hash === hash) run(asked);
    else location.hash = hash;
  }
  function params(asked) {
    for (const [name, input] of Object.entries(fields)) input.value = asked.get(name) ?? "";
    choose(asked.get("system") || asked.get("id") ? "like" : "text");
    more.open = more.open || FIELDS.some((name) => asked.get(name));
    run(asked);
  }
  async function run(asked) {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    let wanted;
    try {
      wanted = request(asked);
    } catch (error) {
      results.replaceChildren(h("p", { class: "note bad", text: error.message }));
      return;
    }
    if (wanted === null) {
      results.replaceChildren();
      return;
    }
    results.setAttribute("aria-busy", "true");
    try {
      show(await api.search(wanted, signal), wanted);
    } catch (error) {
      if (signal.aborted) return;
      results.replaceChildren(h("p", { class: "note bad", role: "alert" }, error.message));
    }
    results.setAttribute("aria-busy", "false");
  }
  function show(answer, wanted) {
    results.replaceChildren(...[
      answer.complete ? null : incomplete(answer.incomplete),
      h("section", { class: "panel" },
        h("div", { class: "panel-head" },
          h("h2", { text: counted(answer.hits.length, "hit") }),
          h("span", { class: "muted small" }, ...about(answer, wanted))),
        answer.hits.length ? h("ol", { class: "hits" }, answer.hits.map(hit))
          : h("p", { class: "empty", text: wanted.filters || wanted.threshold !== undefined
            ? "Nothing passes these filters." : "Nothing is stored here yet." })),
      plan(answer.plan),
    ].filter(Boolean));
  }
  params(first);
  return { element, params, update: explain, leave: () => asking?.abort() };
}

function about(answer, wanted) {
  const took = `in ${duration(answer.took_ms / 1000)}`;
  if (!wanted.like) return [took];
  return [`${took}, nearest to `, foreign("span", `${wanted.like.source_system} / ${wanted.like.event_id}`)];
}

function incomplete(reasons) {
  const list = (shown) => h("ul", {}, shown.map((each) => foreign("li", each.detail)));
  return h("div", { class: "note warn", role: "status" },
    h("p", {}, h("b", { text: "Events may be missing from this answer." })),
    list(reasons.slice(0, MOST_REASONS)),
    reasons.length > MOST_REASONS
      ? h("details", {}, h("summary", { text: `and ${counted(reasons.length - MOST_REASONS, "reason")} more` }), list(reasons.slice(MOST_REASONS)))
      : null);
}

function hit(found) {
  const similarity = found.similarity.toFixed(3);
  const bar = h("i");
  bar.style.width = `${Math.max(0, Math.min(1, found.similarity)) * 100}%`;
  return h("li", { class: "hit" },
    h("div", { class: "score", title: found.needs_restore ? "estimated: its object is archived" : "cosine similarity" },
      found.needs_restore ? `≈ ${similarity}` : similarity, h("div", { class: "meter", "aria-hidden": "true" }, bar)),
    found.needs_restore ? h("p", { class: "muted", text: "Archived: its text is there again after a restore." })
      : foreign("p", found.content ?? "", { class: "content" }),
    h("div", { class: "about" },
      foreign("span", found.source_system), h("time", { datetime: found.created_at ?? "", text: moment(found.created_at) }),
      ...Object.entries(found.metadata ?? {}).slice(0, 4).map(([name, value]) =>
        foreign("span", `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`))),
    h("div", { class: "links small" },
      h("button", { class: "link", type: "button", on: { click: () => (location.hash = likeHash(found.source_system, found.event_id)) } }, "More like this"),
      h("button", { class: "link", type: "button", on: { click: () => openEvent(found.source_system, found.event_id) } }, "Details")));
}

function plan(segments) {
  if (!segments.length) return null;
  const names = ["Segment", "Tier", "By", "Rows", "Matching", "Compared", "Read"];
  const rows = h("tbody");
  keyed(rows, segments, (each) => `${each.partition}/${each.segment}`, (each) => h("tr", {},
    h("td", {}, h("span", { class: "mono", text: `${each.partition} / ${each.segment.replace(/-0+(?=\d)/, "-")}` }), each.note ? foreign("div", each.note, { class: "muted small" }) : null),
    h("td", { text: each.tier }), h("td", { text: each.index }),
    ...[whole(each.rows), whole(each.matching), whole(each.considered), each.bytes_read ? bytes(each.bytes_read) : "–"]
      .map((text) => h("td", { class: "end", text }))), () => {});
  return h("details", { class: "panel" },
    h("summary", { class: "panel-body", text: `Plan: ${counted(segments.length, "segment")}` }),
    h("div", { class: "flush", tabindex: 0, role: "region", "aria-label": "Plan" }, h("table", {},
      h("thead", {}, h("tr", {}, names.map((text, i) => h("th", { scope: "col", class: i > 2 ? "end" : null, text })))), rows)));
}
