// One event in the dialog, and links to it.

import * as api from "./api.js";
import { close, open, toast } from "./dialog.js";
import { foreign, h } from "./dom.js";
import { moment } from "./figures.js";

export const likeHash = (system, id) => `#/search?${new URLSearchParams({ system, id })}`;

/** Show an event. Its neighbours are a link away. */
export async function openEvent(system, id) {
  let event;
  try {
    event = await api.event(system, id);
  } catch (error) {
    toast(error.message);
    return;
  }
  open("Event", [
    event.needs_restore
      ? h("p", { class: "note warn", text: "Its object is archived: the content is there again after a restore." })
      : foreign("pre", event.content ?? "", { class: "bytes", tabindex: "0", "aria-label": "Content" }),
    h("dl", { class: "pairs" },
      pair("System", foreign("span", event.source_system)),
      pair("Id", foreign("code", event.event_id)),
      pair("Created", h("time", { datetime: event.created_at, text: moment(event.created_at) })),
      pair("Model", foreign("span", event.model ?? "–")),
      pair("Position", h("span", { text: position(event.position) })),
      pair("Found by", h("span", { text: event.answered_from === "lookups" ? "the table in Redis" : "the shard" }))),
    event.metadata && Object.keys(event.metadata).length
      ? h("div", {}, h("h3", { class: "label", text: "Metadata" }),
          foreign("pre", JSON.stringify(event.metadata, null, 2), { class: "bytes", tabindex: "0", "aria-label": "Metadata" }))
      : null,
    h("div", { class: "actions" },
      h("button", { class: "primary", type: "button", on: { click: () => {
        close();
        location.hash = likeHash(system, id);
      } } }, "More like this"),
      h("button", { type: "button", on: { click: () => copy(event) } }, "Copy as JSON")),
  ]);
}

export const position = (at) => `partition ${at.partition}, offset ${at.offset}, place ${at.index}`;

function pair(term, value) {
  return [h("dt", { text: term }), h("dd", {}, value)];
}

async function copy(event) {
  try {
    await navigator.clipboard.writeText(JSON.stringify(event, null, 2));
    toast("Copied.");
  } catch {
    toast("The browser did not allow it (pages over plain http may not).");
  }
}
