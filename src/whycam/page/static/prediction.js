// What a model says of the photo, as buttons: classes, boxes on the photo, regions.

import * as api from "./api.js";
import { make } from "./dom.js";
import { percent } from "./card.js";

/**
 * The classes, regions or boxes of one prediction, each a button.
 *
 * targets: those explained, as on the command line. pick: told a target, and whether it is one more. byLabel: whether
 * classes are asked for by label, as two models may count them differently.
 */
export function classButtons(title, prediction, targets, pick, byLabel) {
  const rows = [];
  for (const each of prediction.classes ?? []) {
    const text = byLabel && each.label ? each.label : String(each.index);
    rows.push(row(text, each.label ?? `class ${each.index}`, each.probability));
  }
  for (const [k, each] of (prediction.boxes ?? []).entries()) rows.push(row(`box:${k}`, each.label, each.score));
  for (const each of prediction.regions ?? []) rows.push(row(`region:${each.label}`, each.label, each.share ?? null));
  const top = targets.includes(null) ? rows[0] : null;
  const buttons = rows.map((each) => {
    const pressed = each === top || targets.includes(each.text);
    const button = make(
      "button",
      { type: "button", className: "class", "aria-pressed": String(pressed), "data-target": each.text },
      make("span", {}, each.name),
      each.share === null ? null : make("span", { className: "share" }, percent(each.share)),
    );
    button.style.setProperty("--share", `${100 * (each.share ?? 0)}%`);
    button.onclick = (event) => pick(each.text, event.ctrlKey || event.shiftKey || event.metaKey);
    return make("li", {}, button);
  });
  return make(
    "div",
    {},
    title ? make("h3", {}, title) : null,
    rows.length
      ? make("ul", { className: "classes" }, buttons)
      : make("p", { className: "soft" }, "This model names no classes. Say below what is to be explained."),
    ...chips(rows, targets, pick),
  );
}

const row = (text, name, share) => ({ text, name, share });

/** What is explained and is not among the buttons, such as a contrast; a press takes it away. */
function chips(rows, targets, pick) {
  const others = targets.filter((each) => each !== null && !rows.some((one) => one.text === each));
  if (!others.length) return [];
  const buttons = others.map((each) =>
    make("button", { type: "button", className: "class", "aria-pressed": "true", onclick: (event) => pick(each, event.ctrlKey) }, each),
  );
  return [make("ul", { className: "classes" }, buttons.map((each) => make("li", {}, each)))];
}

/** The photo; boxes on it are buttons, and where places are classified a click picks the part of the photo there. */
export function preview(photo, prediction, targets, pick, pickAt) {
  const { width, height } = photo.pixels;
  const picture = make("img", { src: api.pictureUrl(photo.id), alt: photo.name });
  const stage = make("div", { className: "stage" }, picture);
  stage.style.setProperty("--wide", String(width / height));
  for (const [k, each] of (prediction?.boxes ?? []).entries()) {
    const [left, top, right, bottom] = each.box;
    const text = `box:${k}`;
    const button = make("button", {
      type: "button",
      className: "found",
      title: `${each.label} ${percent(each.score)}`,
      "aria-label": `Explain the box ${each.label}`,
      "aria-pressed": String(targets.includes(text)),
      onclick: (event) => pick(text, event.ctrlKey || event.shiftKey || event.metaKey),
    });
    const sides = { left: left / width, top: top / height, width: (right - left) / width, height: (bottom - top) / height };
    for (const [side, value] of Object.entries(sides)) button.style.setProperty(side, `${100 * value}%`);
    stage.append(button);
  }
  if (prediction?.regions?.length) {
    stage.classList.add("pointing");
    picture.onclick = (event) => {
      const area = picture.getBoundingClientRect();
      pickAt(((event.clientX - area.left) / area.width) * width, ((event.clientY - area.top) / area.height) * height);
    };
  }
  return stage;
}
