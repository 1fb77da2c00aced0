// Lists to choose from, made from what the server says there is: methods with their options, and layers.

import { make } from "./dom.js";

/** For these the network, or a part of it, runs again and again. */
const MANY_RUNS = ["score", "score_from", "score_dimmed", "score_tokens", "prompts", "trace", "differentiate", "relevance"];

export const runsOften = (method) => method.needs.some((need) => MANY_RUNS.includes(need));

/**
 * The methods as a list with a search field; those chosen show their options.
 *
 * methods: of the registry. usual: the names of those taken where none is chosen. able: by name, null or why the model
 * cannot be asked. chosen: [{name, options}]. changed: told the new choice.
 */
export function methodList({ methods, usual, able, chosen, changed }) {
  const options = new Map(chosen.map((each) => [each.name, each.options]));
  const tell = () => changed(methods.filter((each) => options.has(each.name)).map(choiceOf));
  const choiceOf = (each) => ({ name: each.name, options: options.get(each.name) });
  const rows = [...methods].sort((a, b) => Boolean(able.get(a.name)) - Boolean(able.get(b.name))).map((method) => {
    const reason = able.get(method.name);
    const box = make("input", {
      type: "checkbox",
      checked: options.has(method.name),
      disabled: Boolean(reason),
      "aria-label": method.title,
    });
    const form = make("div", { className: "options" });
    const show = () => form.replaceChildren(...(box.checked ? optionFields(method, options.get(method.name), tell) : []));
    box.onchange = () => {
      if (box.checked) options.set(method.name, {});
      else options.delete(method.name);
      show();
      tell();
    };
    show();
    const hint = reason ?? [usual.includes(method.name) ? "usual here" : "", method.class_specific ? "" : "of no class"]
      .filter(Boolean)
      .join(", ");
    const label = make("label", {}, box, make("span", {}, method.title, hint ? make("small", {}, hint) : null));
    const row = make("li", { title: method.paper }, label, form);
    return { row, often: runsOften(method), text: `${method.name} ${method.title} ${method.paper}`.toLowerCase() };
  });
  const groups = [
    group("Quick: a pass or two", rows.filter((each) => !each.often)),
    group("Patient: many runs of the network", rows.filter((each) => each.often)),
  ];
  return searchable(`Search ${methods.length} methods`, rows, groups);
}

/** The layers as a list: chosen for each method, or those that are marked. */
export function layerList({ layers, chosen, changed }) {
  const marked = new Set(chosen ?? []);
  const rows = layers.filter((each) => each.usable || marked.has(each.name)).map((layer) => {
    const box = make("input", { type: "checkbox", checked: marked.has(layer.name) });
    box.onchange = () => {
      if (box.checked) marked.add(layer.name);
      else marked.delete(layer.name);
      changed(marked.size ? [...marked] : null);
    };
    const hint = layer.chosen ? "chosen by itself" : "";
    const label = make("label", {}, box, make("span", {}, layer.short ?? layer.name, hint ? make("small", {}, hint) : null));
    return { row: make("li", { title: layer.why ?? "" }, label), text: `${layer.name} ${layer.short ?? ""}`.toLowerCase() };
  });
  return searchable(`Search ${rows.length} layers`, rows, [group(null, rows)]);
}

function group(title, rows) {
  const list = make("ul", {}, rows.map((each) => each.row));
  if (!title) return { element: list, rows };
  return { element: make("fieldset", {}, make("legend", {}, title), list), rows };
}

function searchable(words, rows, groups) {
  const search = make("input", { type: "search", placeholder: words, "aria-label": words });
  const nothing = make("p", { className: "soft", hidden: true }, "Nothing of that name.");
  search.oninput = () => {
    const wanted = search.value.trim().toLowerCase();
    for (const each of rows) each.row.hidden = !each.text.includes(wanted);
    for (const each of groups) each.element.hidden = each.rows.every((one) => one.row.hidden);
    nothing.hidden = rows.some((each) => !each.row.hidden);
  };
  return [search, make("div", { className: "choices" }, groups.map((each) => each.element), nothing)];
}

function optionFields(method, values, tell) {
  return method.options.map((option) => {
    const given = option.name in values ? values[option.name] : option.default;
    const set = (value) => {
      if (value === undefined || JSON.stringify(value) === JSON.stringify(option.default)) delete values[option.name];
      else values[option.name] = value;
      tell();
    };
    const field = option.choices ? chosenOf(option, given, set) : typed(option, given, set);
    const hint = option.doc || option.kind;
    return make("label", { className: "option", title: hint ?? "" }, make("span", {}, option.name.replaceAll("_", " ")), field);
  });
}

function chosenOf(option, given, set) {
  const spelled = option.choices.map((each) => JSON.stringify(each));
  const field = make("select", { onchange: () => set(JSON.parse(field.value)) });
  for (const [k, text] of spelled.entries()) field.append(make("option", { value: text }, String(option.choices[k])));
  field.value = JSON.stringify(given);
  return field;
}

function typed(option, given, set) {
  if (typeof option.default === "boolean") {
    const field = make("input", { type: "checkbox", checked: given, onchange: () => set(field.checked) });
    return field;
  }
  const number = typeof option.default === "number";
  const text = given === null || given === undefined ? "" : typeof given === "object" ? JSON.stringify(given) : String(given);
  const field = make("input", { type: number ? "number" : "text", value: text, placeholder: option.kind ?? "" });
  if (number) field.step = "any";
  field.onchange = () => set(field.value.trim() === "" ? undefined : parsed(field.value.trim()));
  return field;
}

/** A number, a list or a truth value if it reads as one, else text. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
