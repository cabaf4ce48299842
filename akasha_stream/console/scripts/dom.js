// Elements, made without markup: whatever an event holds becomes text, never an element.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `props`: attributes; `on` is event → listener, `text` its text, and null or false leaves one out. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Likewise, of SVG. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "text") element.textContent = value;
    else if (value !== null && value !== false && value !== undefined)
      element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Text from an event: it stays in its box, whatever it holds. */
export function foreign(tag, text, props) {
  const { class: more = "", ...rest } = props ?? {};
  return h(tag, { dir: "auto", ...rest, class: `foreign ${more}`.trim(), text });
}

/** Set an element's text, and touch nothing where it is that already: a selection and a screen reader stay calm. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Make `parent`'s children those of `items`, in order; elements of known keys stay, so that focus does. */
export function keyed(parent, items, key, make, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let previous = null;
  for (const item of items) {
    const name = String(key(item));
    let element = known.get(name);
    if (element === undefined) {
      element = make(item);
      element.dataset.key = name;
    }
    known.delete(name);
    update(element, item);
    const place = previous === null ? parent.firstElementChild : previous.nextElementSibling;
    if (place !== element) parent.insertBefore(element, place);
    previous = element;
  }
  for (const gone of known.values()) gone.remove();
}
