// The one dialog of the page, and the short messages at its corner.

import { h } from "./dom.js";

const dialog = document.getElementById("dialog");
const toasts = document.getElementById("toasts");
let closed = null;

dialog.addEventListener("close", () => {
  dialog.replaceChildren();
  closed?.();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // the backdrop
});

/** Show `body` under `title`, instead of what is shown. `onClose`: when it is closed, however that comes. */
export function open(title, body, onClose = null) {
  closed = null;
  const close = h("button", { type: "button", class: "quiet", on: { click: () => dialog.close() } }, "Close");
  dialog.replaceChildren(
    h("div", { class: "dialog-head" }, h("h2", { id: "dialog-title", text: title }), close),
    h("div", { class: "dialog-body" }, body),
  );
  if (!dialog.open) dialog.showModal();
  closed = onClose;
}

export function close() {
  if (dialog.open) dialog.close();
}

export function toast(text) {
  const element = h("p", { class: "toast", text });
  toasts.append(element);
  setTimeout(() => element.remove(), 6_000);
}
