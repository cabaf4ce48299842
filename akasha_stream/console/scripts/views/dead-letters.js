// What could not be stored, and why; to be looked at, and published again.

import * as api from "../api.js";
import { open, toast } from "../dialog.js";
import { foreign, h, keyed } from "../dom.js";
import { bytes, count, counted, moment } from "../figures.js";

export const title = "Dead letters";

export function create() {
  const about = h("span", { class: "muted small" });
  const reason = h("select", { "aria-label": "Reason", on: { change: () => load() } }, h("option", { value: "", text: "Every reason" }));
  const send = h("button", { type: "button", class: "primary", disabled: true, on: { click: () => publish([...chosen]) } }, "Requeue selected");
  const all = h("input", { type: "checkbox", "aria-label": "Select all shown", on: { change: () => {
    for (const box of rows.querySelectorAll("input")) if (box.checked !== all.checked) box.click();
  } } });
  const rows = h("tbody");
  const table = h("table", { class: "letters" },
    h("thead", {}, h("tr", {}, h("th", {}, all),
      ["Letter", "Reason", "Value", "Written"].map((text, i) => h("th", { scope: "col", class: i > 1 ? "wide" : null, text })),
      h("td", {}))),
    rows);
  const empty = h("p", { class: "empty", text: "Reading the topic …" });
  const wrong = h("p", { class: "note bad", role: "alert", hidden: true });
  const element = h("div", { class: "view" },
    h("div", { class: "head" }, h("h1", { text: title }), about,
      h("div", { class: "bar-actions" }, reason,
        h("button", { type: "button", on: { click: () => load() } }, "Read again"), send)),
    wrong, h("section", { class: "panel" }, h("div", { class: "flush" }, table), empty));
  const chosen = new Set();
  let asking = null;
  let seen = null;

  async function load() {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    try {
      show(await api.letters({ reason: reason.value }, signal));
      wrong.hidden = true;
    } catch (error) {
      if (signal.aborted) return;
      wrong.textContent = error.message;
      wrong.hidden = false;
      empty.hidden = true;
    }
  }
  function show(answer) {
    about.textContent = answer.letters.length < answer.matching
      ? `the latest ${answer.letters.length} of ${count(answer.matching)}` : counted(answer.matching, "letter");
    if (reason.value === "")
      reason.replaceChildren(h("option", { value: "", text: `Every reason (${count(answer.matching)})` }),
        ...Object.entries(answer.reasons).map(([name, n]) => h("option", { value: name, text: `${name} (${count(n)})` })));
    const shown = new Set(answer.letters.map((letter) => letter.letter));
    for (const letter of chosen) if (!shown.has(letter)) chosen.delete(letter);
    keyed(rows, answer.letters, (letter) => letter.letter, row, refresh);
    empty.textContent = reason.value ? "None has this reason." : "None: everything that came could be stored.";
    empty.hidden = answer.letters.length > 0;
    table.hidden = !empty.hidden;
    choice();
  }
  function row(letter) {
    const box = h("input", { type: "checkbox", "aria-label": `Select ${letter.letter}`, on: { change: () => {
      if (box.checked) chosen.add(letter.letter);
      else chosen.delete(letter.letter);
      choice();
    } } });
    return h("tr", {},
      h("td", {}, box),
      h("td", {},
        h("button", { class: "link mono", type: "button", "aria-label": `Show ${letter.letter}`, on: { click: () => details(letter) } }, letter.letter),
        h("div", { class: "from muted small", text: origin(letter) }), foreign("div", letter.system || "no key", { class: "muted small" })),
      h("td", {}, h("div", {}, foreign("span", letter.reason, { class: "badge warn" }), " ", h("span", { class: "badge accent", "data-state": true })),
        foreign("div", letter.detail, { class: "small" })),
      h("td", { class: "wide" }, foreign("div", letter.preview || "(empty)", { class: "preview mono small" }), h("div", { class: "muted small", text: bytes(letter.bytes) })),
      h("td", { class: "wide small", text: moment(letter.timestamp_ms) }),
      h("td", { class: "end" }, h("button", { type: "button", "aria-label": `Requeue ${letter.letter}`, on: { click: () => publish([letter.letter]) } }, "Requeue")));
  }
  function refresh(element, letter) {
    const state = element.querySelector("[data-state]");
    state.textContent = letter.requeued ? "requeued" : letter.requeued_from ? "died again" : "";
    state.hidden = state.textContent === "";
    for (const control of element.querySelectorAll("input, td:last-child button")) control.disabled = letter.requeued !== null || letter.left_out;
  }
  function choice() {
    send.disabled = chosen.size === 0;
    send.textContent = chosen.size ? `Requeue ${count(chosen.size)} selected` : "Requeue selected";
    const boxes = [...rows.querySelectorAll("input:not(:disabled)")];
    all.disabled = boxes.length === 0;
    all.checked = boxes.length > 0 && boxes.every((box) => box.checked);
  }
  async function publish(letters) {
    send.disabled = true;
    try {
      const done = await api.requeue(letters);
      const skipped = done.skipped.map((each) => `${each.letter}: ${each.why}`);
      toast([`${counted(done.sent.length, "letter")} published again.`, ...skipped].join(" "));
      for (const letter of letters) chosen.delete(letter);
      for (const box of rows.querySelectorAll("input:checked")) box.checked = false;
    } catch (error) {
      toast(error.message);
    }
    await load();
  }
  async function details(letter) {
    let found;
    try {
      found = await api.letter(letter.partition, letter.offset);
    } catch (error) {
      toast(error.message);
      return;
    }
    open(`Dead letter ${found.letter}`, letterDetails(found, () => publish([found.letter])));
  }
  function update({ looks }) {
    // Read again when one more has come; reading the topic each second would be too much.
    const dead = looks.at(-1).totals.dead;
    if (seen !== null && dead > seen) load();
    seen = dead;
  }
  load();
  return { element, update, leave: () => asking?.abort() };
}

const origin = (letter) =>
  letter.origin.partition === null || letter.origin.offset === null ? "another program's"
    : `from ${letter.origin.partition}:${letter.origin.offset}${letter.origin.index === null ? "" : `#${letter.origin.index}`}`;

function letterDetails(letter, again) {
  const pairs = [
    ["Reason", foreign("span", letter.reason)],
    ["Detail", foreign("span", letter.detail || "–")],
    ["Origin", foreign("span", `${letter.origin.topic ?? "–"}, ${origin(letter)}`)],
    ["Key", foreign("span", letter.key_base64 === null ? "none" : letter.system)],
    ["Written", h("span", { text: moment(letter.timestamp_ms) })],
    ["Events", h("span", { text: count(letter.events) })],
    ...(letter.requeued ? [["Requeued", foreign("span", `${moment(letter.requeued.timestamp_ms)}, as ${letter.requeued.to}`)]] : []),
    ...(letter.requeued_from ? [["Was", foreign("span", `${letter.requeued_from}, published again, and died again`)]] : []),
    ...letter.headers.map(([name, value]) => [foreign("span", name, { class: "mono small" }), foreign("span", value, { class: "mono small" })]),
  ];
  const shown = Math.floor(((letter.value_base64 ?? "").length * 3) / 4);
  return [
    h("dl", { class: "pairs" }, pairs.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("div", {},
      h("h3", { class: "label", text: `Value, ${bytes(letter.bytes)}${shown < letter.bytes - 2 ? `, the first ${bytes(shown)}` : ""}` }),
      letter.left_out ? h("p", { class: "note warn", text: "Its bytes did not fit into this topic; they are at its origin alone." })
        : foreign("pre", hex(letter.value_base64), { class: "bytes", tabindex: 0, "aria-label": "Bytes of the value" })),
    h("div", { class: "actions" }, h("button", { class: "primary", type: "button", disabled: letter.requeued !== null || letter.left_out, on: {
      click: (event) => {
        event.target.disabled = true;
        again();
      } } }, "Requeue")),
  ];
}

/** The first bytes, 16 a line, and as text where they are ASCII. */
function hex(base64, most = 2_048) {
  if (!base64) return "(no value)";
  const content = atob(base64);
  const lines = [];
  for (let at = 0; at < Math.min(content.length, most); at += 16) {
    const part = [...content.slice(at, Math.min(at + 16, most))].map((each) => each.charCodeAt(0));
    const digits = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    const text = part.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${digits}  ${text}`);
  }
  if (content.length > most) lines.push(`… and ${count(content.length - most)} bytes more`);
  return lines.join("\n");
}
