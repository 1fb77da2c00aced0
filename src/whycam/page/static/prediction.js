// What a model says of the photo, as buttons: classes, boxes on the photo, regions.

import * as api from "./api.js";
import { make } from "./dom.js";
import { percent, placed } from "./card.js";

/**
 * What may be explained of a prediction: classes, boxes or regions, each with its target as on the command line, its
 * name, and its share, a probability or of the picture. `own` is the target where this model alone is asked.
 *
 * byLabel: whether classes are asked for by label, as two models may count them differently.
 */
export function rowsOf(prediction, byLabel) {
  const classes = (prediction.classes ?? []).map((each) => ({
    text: byLabel && each.label ? each.label : String(each.index),
    own: String(each.index),
    name: each.label ?? `class ${each.index}`,
    share: each.probability,
  }));
  const boxes = (prediction.boxes ?? []).map((each, k) => ({ text: `box:${k}`, name: each.label, share: each.score }));
  const regions = (prediction.regions ?? []).map((each) => ({ text: `region:${each.called}`, name: each.label, share: each.share }));
  return [...classes, ...boxes, ...regions];
}

/** How a target that may stand for several models is put to one: "3" is its class of that label, if one is listed. */
export const targetOf = (prediction, text) => rowsOf(prediction, true).find((each) => each.text === text)?.own ?? text;

/** The rows of `rowsOf` as buttons. targets: those explained. pick: told a target, and whether it is one more. said: where there is no row. */
export function classButtons(title, rows, targets, pick, said) {
  const top = targets.includes(null) && rows[0]?.share !== null ? rows[0] : null; // of NaN nothing is the top
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
      : make("p", { className: "soft" }, said),
    ...chips(rows, targets, pick),
  );
}

/** What is explained and is not among the buttons, such as a contrast; a press takes it away. */
function chips(rows, targets, pick) {
  const others = targets.filter((each) => each !== null && !rows.some((one) => one.text === each));
  if (!others.length) return [];
  const buttons = others.map((each) =>
    make("button", { type: "button", className: "class", "aria-pressed": "true", onclick: (event) => pick(each, event.ctrlKey) }, each),
  );
  return [make("ul", { className: "classes" }, buttons.map((each) => make("li", {}, each)))];
}

/** What is said of a prediction that has nothing to choose from. */
export function nothingIn({ error, boxes }) {
  if (error) return error;
  return boxes ? "It finds no thing in this photo." : "This model names no classes. Say below what is to be explained.";
}

/** What is explained of a model where nothing was chosen: its top class, or the first thing that it found. */
export function usualTarget(prediction) {
  if (prediction.boxes?.length) return "box:0";
  return prediction.regions?.length ? `region:${prediction.regions[0].called}` : null;
}

/** The photo; boxes on it are buttons, and where places are classified a click picks the part of the photo there. */
export function preview(photo, prediction, targets, pick, pickAt) {
  const { width, height } = photo.pixels;
  const picture = make("img", { src: api.pictureUrl(photo.id), alt: photo.name });
  const stage = make("div", { className: "stage" }, picture);
  stage.style.setProperty("--wide", String(width / height));
  for (const [k, each] of (prediction?.boxes ?? []).entries()) {
    const text = `box:${k}`;
    const button = make("button", {
      type: "button",
      className: "found",
      title: `${each.label} ${percent(each.score)}`,
      "aria-label": `Explain the box ${each.label}`,
      "aria-pressed": String(targets.includes(text)),
      onclick: (event) => pick(text, event.ctrlKey || event.shiftKey || event.metaKey),
    });
    stage.append(placed(button, each.box, photo.pixels));
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
