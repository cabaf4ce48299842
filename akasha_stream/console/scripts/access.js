// Where the API asks for a key: it is asked for here, kept in this tab alone, and sent as a bearer token.

import { key } from "./api.js";
import { close, open } from "./dialog.js";
import { h } from "./dom.js";

let asking = false;

export function startAccess(button, again) {
  const show = () => (button.hidden = key.get() === null);
  const askFor = (why) => {
    if (asking) return;
    asking = true;
    const field = h("input", { id: "api-key", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
    const form = h("form", { class: "query", on: { submit } },
      h("p", { text: why }),
      h("label", {}, h("span", { text: "API key or bearer token" }), field),
      h("p", { class: "muted small", text: "Kept in this tab until it is closed, and sent to this node alone." }),
      h("div", { class: "actions" },
        h("button", { class: "primary", type: "submit" }, "Use it"),
        key.get() === null ? null : h("button", { type: "button", on: { click: () => set(null) } }, "Forget the key")));
    function submit(event) {
      event.preventDefault();
      if (field.value.trim()) set(field.value.trim());
    }
    open("API key", form, () => (asking = false));
    field.focus();
  };
  const set = (value) => {
    key.set(value);
    close();
    show();
    again();
  };
  button.addEventListener("click", () => askFor("This node answers those who have a key."));
  // Only where somebody looks for it: a poll in the background asks once, not each second.
  let refused = null;
  window.addEventListener("akasha:unauthenticated", () => {
    button.hidden = false;
    if (refused === key.get() && refused !== null) return;
    refused = key.get() ?? "";
    askFor(key.get() === null ? "This node asks for an API key." : "This key is not valid here.");
  });
  show();
}
