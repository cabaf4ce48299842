// Filters as they are typed, into those of the API.

const CONDITION = /^\s*([^\s=<>!]+)\s*(!=|>=|<=|=|>|<)\s*(.*?)\s*$/s;
const OPERATORS = { "!=": "ne", ">=": "gte", "<=": "lte", ">": "gt", "<": "lt" };

/** "section=doc, priority>=3" → {section: "doc", priority: {gte: 3}}. Raises an Error that names what is wrong. */
export function metadata(text) {
  const found = {};
  for (const part of text.split(/,(?=(?:[^"]*"[^"]*")*[^"]*$)/)) {
    if (!part.trim()) continue;
    const match = CONDITION.exec(part);
    if (match === null) throw new Error(`“${part.trim()}” is no condition; write key=value, key!=value, key>=3 …`);
    const [, name, operator, written] = match;
    if (operator === "=") found[name] = value(written);
    else found[name] = { ...(typeof found[name] === "object" ? found[name] : {}), [OPERATORS[operator]]: value(written) };
  }
  return found;
}

/** A number, true, false, null where it reads as one; in quotes, and else, a string. */
function value(text) {
  if (/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text)) return Number(text);
  if (text === "true" || text === "false") return text === "true";
  if (text === "null") return null;
  return text.replace(/^"(.*)"$/s, "$1");
}

/** The request for an address's parameters; null where they ask for nothing. */
export function request(params) {
  const asked = { k: Number(params.get("k")) || 10 };
  if (params.get("text")) asked.text = params.get("text");
  else if (params.get("system") && params.get("id"))
    asked.like = { source_system: params.get("system"), event_id: params.get("id") };
  else return null;
  if (params.get("threshold")) asked.threshold = Number(params.get("threshold"));
  const filters = {};
  const systems = (params.get("systems") ?? "").split(",").map((name) => name.trim()).filter(Boolean);
  if (systems.length) filters.systems = systems;
  for (const name of ["created_after", "created_before"])
    if (params.get(name)) filters[name] = new Date(params.get(name)).toISOString();
  const conditions = metadata(params.get("metadata") ?? "");
  if (Object.keys(conditions).length) filters.metadata = conditions;
  if (Object.keys(filters).length) asked.filters = filters;
  return asked;
}
