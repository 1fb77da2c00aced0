// The page: what is chosen, what is asked, and what is shown.

import * as api from "./api.js";
import { Asking } from "./asking.js";
import { Card } from "./card.js";
import { afterPause, announce, byId, copyable, eachFrame, make } from "./dom.js";
import { layerList, methodList, runsOften } from "./forms.js";
import { takeFiles } from "./photos.js";
import { classButtons, nothingIn, preview, rowsOf, targetOf, usualTarget } from "./prediction.js";
import { read, written } from "./state.js";

const asking = new Asking();
let about; // what the server has
let state = null;
let photos = []; // {id, name, width, height}, the samples first
let photo = null; // the one looked at, with its pixels
let predictions = []; // one for each model
let asked = 0; // how many questions there were
let cards = []; // the maps that are shown
let lost = []; // what the address asks for and is not here

// ---- what went wrong, and what goes on ----

function complain(error) {
  if (!(error instanceof api.Refused)) console.error(error); // a mistake of the page's own
  byId("problem-text").textContent = error.message;
  byId("problem").hidden = false;
}

const calm = () => (byId("problem").hidden = true);

/** For handlers: what they cannot do is said on the page. */
const guarded = (act) => async (...values) => {
  try {
    await act(...values);
  } catch (error) {
    complain(error);
  }
};

function keep() {
  history.replaceState(null, "", written(state, about));
}

// ---- photos ----

function showStrip() {
  byId("photos").replaceChildren(
    ...photos.map((each) => {
      const button = make(
        "button",
        { type: "button", title: each.name, "aria-pressed": String(each.id === state.photo), onclick: guarded(() => choosePhoto(each.id)) },
        make("img", { src: api.pictureUrl(each.id), alt: each.name, loading: "lazy" }),
      );
      return make("li", {}, button);
    }),
  );
}

const addFiles = guarded(async (files) => {
  await started;
  calm();
  const refused = [];
  let newest = null;
  for (const file of files) {
    announce(`Reading ${file.name}`);
    byId("adding").textContent = `reading ${file.name}`; // a large one takes seconds
    try {
      const added = await api.upload(file);
      photos = [...photos.filter((each) => each.id !== added.id), added];
      newest = added;
    } catch (error) {
      refused.push(error.message.startsWith(file.name) ? error.message : `${file.name}: ${error.message}`);
    }
  }
  byId("adding").textContent = "or drop them anywhere";
  if (newest) await choosePhoto(newest.id);
  if (refused.length) throw new api.Refused(refused.join("\n"));
});

async function choosePhoto(id) {
  const other = id !== state.photo;
  if (other) Object.assign(state, { photo: id, targets: [null], box: null });
  await openPhoto();
}

/** Show the state's photo, what the models say of it, and the maps of it. */
async function openPhoto() {
  clear();
  calm();
  keep();
  showStrip();
  const id = state.photo;
  const [known, pixels] = await Promise.all([api.photo(id), api.pixels(api.pictureUrl(id))]);
  if (state.photo !== id) return;
  if (!photos.some((each) => each.id === id)) photos = [...photos, known];
  photo = { ...known, pixels };
  byId("page").classList.remove("empty");
  byId("photo-name").textContent = [known.name, ...known.notes].join(". ");
  for (const k of [0, 1, 2, 3]) byId(`box-${k}`).max = [pixels.width, pixels.height][k % 2];
  showStrip();
  showPrediction();
  await openModels();
}

/** Nothing that was said of another photo, or by another model, is left standing. */
function clear() {
  asking.stop();
  asked++; // an answer under way is of no use
  [predictions, cards] = [[], []];
  byId("grid").replaceChildren();
  for (const id of ["again", "ready"]) byId(id).hidden = true;
  idle();
}

// ---- models, and what they say ----

async function openModels() {
  const id = state.photo;
  const models = state.models.join();
  const found = await Promise.allSettled(state.models.map((model) => api.predict(id, model)));
  if (state.photo !== id || state.models.join() !== models) return;
  if (found.every((each) => each.reason)) throw found[0].reason;
  predictions = found.map(({ value, reason }) => value ?? { error: reason.message });
  question();
  await Promise.all([showMethods(), showLayers()]);
}

function showPrediction() {
  const byLabel = predictions.length > 1;
  const pick = (text, more) => {
    const now = state.targets.map((each) => each ?? rowsOf(predictions[0], byLabel)[0]?.text ?? null);
    if (!more && !byId("several").checked) state.targets = [text];
    else if (!now.includes(text)) state.targets = [...now, text];
    else if (now.length > 1) state.targets = now.filter((each) => each !== text);
    question();
  };
  const title = (k) => (state.models.length > 1 ? titleOf(state.models[k]) : null);
  byId("preview").replaceChildren(preview(photo, predictions[0], state.targets, pick, pickAt));
  byId("classes").replaceChildren(
    ...predictions.map((each, k) => classButtons(title(k), rowsOf(each, byLabel), state.targets, pick, nothingIn(each))),
  );
  byId("says").textContent = state.models.length > 1 ? "The models say" : "The model says";
  const two = state.targets.filter((each) => each !== null && !each.includes(":"));
  byId("contrast").hidden = !(two.length === 2 && state.targets.length === 2);
  byId("contrast").textContent = two.length === 2 ? `Why ${nameOf(two[0])}, not ${nameOf(two[1])}?` : "";
  byId("contrast").onclick = () => {
    state.targets = [`contrast:${two[0]}/${two[1]}`];
    question();
  };
}

/** Explain the part that a segmenter sees at a place of the photo. */
const pickAt = guarded(async (x, y) => {
  const { at_point: found } = await api.predict(photo.id, state.models[0], [x, y]);
  if (!found) throw new api.Refused("The network did not see this place; click inside of what it saw.");
  const scale = photo.photo_width / photo.width; // targets count the photo's own pixels
  state.targets = [`region:${found.called}@${Math.floor(x * scale)},${Math.floor(y * scale)}`];
  question();
});

/** A class as people call it. */
function nameOf(text) {
  for (const prediction of predictions) {
    const found = (prediction.classes ?? []).find((each) => String(each.index) === text);
    if (found) return found.label ?? `class ${text}`;
  }
  return text;
}

const titleOf = (id) => about.models.find((each) => each.id === id)?.title ?? id;

function fillModels() {
  const [model, beside] = [byId("model"), byId("beside")];
  const choices = () => about.models.map((each) => make("option", { value: each.id }, each.title));
  model.replaceChildren(...choices());
  beside.replaceChildren(make("option", { value: "" }, "no other"), ...choices());
  byId("beside-field").hidden = about.models.length < 2;
  [model.value, beside.value] = [state.models[0], state.models[1] ?? ""];
  const changed = guarded(async () => {
    const two = [model.value, beside.value].filter((each, k, all) => each && all.indexOf(each) === k);
    Object.assign(state, { models: two, targets: [null], layers: null });
    if (!beside.value || two.length < 2) beside.value = "";
    keep();
    if (!photo) return;
    clear();
    showPrediction();
    await openModels();
  });
  model.onchange = changed;
  beside.onchange = changed;
}

async function showMethods() {
  const [model] = state.models;
  fillMethods(model, new Map());
  const asked = await api.methodsFor(model, state.photo);
  if (state.models[0] === model) fillMethods(model, new Map(asked.map((each) => [each.name, each.usable ? null : each.why])));
}

function fillMethods(model, able) {
  const usualMethod = about.models.find((each) => each.id === model)?.usual_method;
  const changed = (chosen) => {
    state.methods = chosen;
    sayMethods();
    later();
  };
  byId("methods").replaceChildren(
    ...methodList({ methods: about.methods, usual: [usualMethod], able, chosen: state.methods, changed }),
  );
  sayMethods();
}

function sayMethods() {
  const names = state.methods.map((each) => methodOf(each.name).title);
  byId("methods-said").textContent = names.join(", ") || "the usual one";
}

async function showLayers() {
  const found = await api.layers(state.models[0], state.photo);
  const say = () => (byId("layers-said").textContent = state.layers ? state.layers.join(", ") : "chosen by itself");
  const changed = (chosen) => {
    state.layers = chosen;
    say();
    later();
  };
  byId("layers").replaceChildren(...layerList({ layers: found, chosen: state.layers, changed }));
  say();
}

// ---- questions and answers ----

/** Ask what is chosen, at once as far as it is quick; what takes many runs waits for a press of the button. */
function question() {
  keep();
  if (predictions.length !== state.models.length) return; // it is asked once they have come
  showPrediction();
  if (state.targets.includes(null) && predictions.every((each) => !rowsOf(each, false).length)) {
    asking.stop(); // it is said beside the photo that there is nothing to choose from
    byId("ready").hidden = true;
    return idle();
  }
  const often = state.methods.filter((each) => runsOften(methodOf(each.name)));
  byId("ready").hidden = often.length === 0;
  byId("ready-text").textContent =
    `${often.map((each) => methodOf(each.name).title).join(", ")}: the network runs many times, which may take a while.`;
  if (often.length < state.methods.length || !often.length) return ask(state.methods.filter((each) => !often.includes(each)));
  asking.stop();
  idle();
}

const later = afterPause(300, () => question());

const methodOf = (name) => about.methods.find((each) => each.name === name);

const ask = guarded(async (methods) => {
  calm();
  const states = [];
  const heard = (k, job) => {
    states[k] = job;
    progress(states.filter(Boolean));
  };
  progress([]);
  const several = state.models.length > 1;
  const questions = state.models.map((model, k) => ({
    photo: state.photo,
    model,
    methods, // none: the usual one
    layers: state.layers,
    targets: state.targets.map((each) => (each === null ? usualTarget(predictions[k]) : several ? targetOf(predictions[k], each) : each)),
  }));
  const own = ++asked;
  try {
    const answers = await asking.ask(questions, heard);
    if (!answers || own !== asked) return;
    if (answers.every((each) => each.error)) throw answers[0].error;
    await showResults(answers);
  } finally {
    if (own === asked) idle();
  }
});

function progress(jobs) {
  byId("progress").hidden = false;
  byId("grid").classList.add("old");
  const ahead = Math.max(0, ...jobs.filter((each) => each.state === "waiting").map((each) => each.ahead));
  const running = jobs.filter((each) => each.state === "running");
  const [done, total] = [sum(jobs, "done"), sum(jobs, "total")];
  const left = running.length ? Math.max(...running.map((each) => each.about_seconds ?? 0)) : 0;
  const bar = byId("progress-bar");
  if (total) Object.assign(bar, { max: total, value: done });
  else bar.removeAttribute("value");
  bar.setAttribute("aria-label", "Progress");
  byId("progress-text").textContent =
    jobs.length && running.length === 0 && ahead
      ? `Waiting: ${ahead === 1 ? "one question is" : `${ahead} questions are`} ahead.`
      : `Asking the network${total ? `: ${done} of ${total} runs` : ""}${left >= 1 ? `, about ${Math.round(left)} s left` : ""}.`;
}

const sum = (jobs, name) => jobs.reduce((so, each) => so + (each[name] ?? 0), 0);

function idle() {
  byId("progress").hidden = true;
  byId("grid").classList.remove("old");
  byId("page").setAttribute("aria-busy", "false");
}

/** answers: of each model its result, or the error that stands in its place. */
async function showResults(answers) {
  const own = asked;
  const made = answers.map(({ result }, k) => (result?.maps ?? []).map((map) => new Card(map, photo, boxOf(map, k), look, setBox)));
  const all = made.flat();
  await Promise.all(all.map((each) => each.load()));
  if (own !== asked) return;
  cards = all;
  await Promise.all(cards.map((each) => each.draw()));
  const several = answers.length > 1;
  const columns = answers.map(({ result, error }, k) =>
    make(
      "section",
      {},
      several ? make("h2", {}, titleOf(state.models[k])) : null,
      grouped(made[k]),
      error ? make("p", { className: "failures" }, error.message) : null,
      result?.failures.length ? failed(result.failures) : null,
    ),
  );
  byId("grid").replaceChildren(make("div", { className: "columns" }, columns));
  byId("grid").classList.toggle("single", made.every((own) => own.length < 2));
  byId("lines").replaceChildren(
    ...answers.flatMap(({ result }, k) => {
      const of = several ? ` for ${titleOf(state.models[k])}` : "";
      return result ? [copyable(`Python${of}`, result.python), copyable(`Shell${of}`, result.shell)] : [];
    }),
  );
  byId("again").hidden = false;
  announce(`${all.length} ${all.length === 1 ? "map is" : "maps are"} ready.`);
  showBox();
}

/** The box of a detector that a map explains. */
function boxOf(map, k) {
  const [, number] = /^box:(\d+)$/.exec(map.target_text ?? "") ?? [];
  return number === undefined ? null : predictions[k].boxes?.[number]?.box;
}

/** The cards below what each of them explains; side by side where each explains something else. */
function grouped(made) {
  const groups = new Map();
  for (const card of made) groups.set(card.map.target, [...(groups.get(card.map.target) ?? []), card]);
  const sections = [...groups].map(([target, members]) =>
    make(
      "section",
      { className: "target" },
      make("h3", {}, target ? make("span", { className: "soft" }, "Why ") : null, target ?? "Whatever the class"),
      make("div", { className: "cards" }, members.map((each) => each.element)),
    ),
  );
  return make("div", { className: made.length === groups.size ? "targets" : "" }, sections);
}

function failed(failures) {
  return make(
    "section",
    { className: "failures" },
    make("h3", {}, "What could not be made"),
    make("ul", {}, failures.map((each) => make("li", {}, make("strong", {}, methodOf(each.method)?.title ?? each.method), `: ${each.reason}`))),
  );
}

// ---- how maps are drawn: nothing is asked of the server ----

function look() {
  const chosen = state.colormap ?? (state.signed ? about.default_signed_colormap : about.default_colormap);
  const found = about.colormaps.find((each) => each.name === chosen && each.signed === state.signed);
  return { ...state, levels: (found ?? about.colormaps.find((each) => each.signed === state.signed)).levels };
}

const redraw = eachFrame(guarded(() => Promise.all(cards.map((each) => each.draw()))));

function fillLook() {
  const maps = about.colormaps.filter((each) => each.signed === state.signed);
  byId("colormap").replaceChildren(...maps.map((each) => make("option", { value: each.name }, each.title ?? each.name)));
  byId("colormap").value = state.colormap ?? (state.signed ? about.default_signed_colormap : about.default_colormap);
  for (const name of ["opacity", "level", "threshold", "blend", "enlarge"]) byId(name).value = state[name];
  byId("signed").checked = state.signed;
  sayLook();
}

function sayLook() {
  byId("opacity-said").textContent = `${Math.round(100 * state.opacity)}%`;
  byId("level-said").textContent = `${Math.round(100 * state.level)}%`;
  byId("level-field").hidden = state.threshold === "off";
}

function listenToLook() {
  const keepSoon = afterPause(200, keep); // a slider moves often, and browsers refuse an address that changes as often
  const changed = () => {
    sayLook();
    redraw();
    keepSoon();
  };
  for (const name of ["opacity", "level"]) {
    byId(name).oninput = () => {
      state[name] = Number(byId(name).value);
      changed();
    };
  }
  for (const name of ["threshold", "blend", "enlarge", "colormap"]) {
    byId(name).onchange = () => {
      state[name] = byId(name).value;
      changed();
    };
  }
  byId("signed").onchange = () => {
    Object.assign(state, { signed: byId("signed").checked, colormap: null });
    fillLook();
    changed();
  };
}

// ---- the box ----

function setBox(box) {
  state.box = box;
  keep();
  showBox();
}

function showBox() {
  for (const k of [0, 1, 2, 3]) byId(`box-${k}`).value = state.box ? state.box[k] : "";
  for (const card of cards) card.measure(state.box);
}

function listenToBox() {
  byId("box").onsubmit = (event) => {
    event.preventDefault();
    const box = [0, 1, 2, 3].map((k) => byId(`box-${k}`).valueAsNumber);
    if (box.every(Number.isFinite) && box[0] < box[2] && box[1] < box[3]) setBox(box);
    else complain(new api.Refused("A box is left, top, right and bottom in pixels: left of right, top above bottom."));
  };
  byId("box-none").onclick = () => setBox(null);
  byId("boxing").onchange = () => byId("grid").classList.toggle("boxing", byId("boxing").checked);
}

// ---- from the start ----

/** Take what the address says, with what the server has. */
function fromAddress() {
  state = read(location.hash, about);
  lost = [];
  const ids = about.models.map((each) => each.id);
  const here = (known, what) => (name) => known.includes(name) || !lost.push(`${what} ${name}`);
  state.models = state.models.filter(here(ids, "model")).slice(0, 2);
  if (!state.models.length) state.models = ids.slice(0, 1);
  const method = here(about.methods.map((each) => each.name), "method");
  state.methods = state.methods.filter((each) => method(each.name));
  const colors = about.colormaps.filter((each) => each.signed === state.signed).map((each) => each.name);
  if (state.colormap !== null && !here(colors, "colors")(state.colormap)) state.colormap = null;
  state.photo ??= photos[0]?.id ?? null;
}

/** Show what the address says, and say what of it is not here. */
async function openAddress() {
  if (state.photo) await openPhoto();
  if (lost.length && byId("problem").hidden) {
    throw new api.Refused(`The address asks for what this page does not have, and which is left out: ${lost.join(", ")}.`, 0);
  }
}

const begin = guarded(async () => {
  about = await api.about();
  photos = about.samples;
  fromAddress();
  fillModels();
  fillLook();
  listenToLook();
  listenToBox();
  byId("problem-close").onclick = calm;
  document.querySelector(".skip").onclick = (event) => {
    event.preventDefault(); // the address after # is the page's state
    byId("maps").focus();
  };
  byId("cancel").onclick = () => {
    asking.stop();
    idle();
    announce("Cancelled.");
  };
  byId("run").onclick = () => {
    byId("ready").hidden = true;
    ask(state.methods);
  };
  byId("other").onsubmit = (event) => {
    event.preventDefault();
    const text = byId("other-text").value.trim();
    if (!text) return;
    state.targets = byId("several").checked ? [...new Set([...state.targets, text])] : [text];
    question();
  };
  addEventListener(
    "hashchange",
    guarded(async () => {
      fromAddress();
      fillModels();
      fillLook();
      await openAddress();
    }),
  );
  showStrip();
  idle();
});

const started = begin();
takeFiles(addFiles);
started.then(guarded(() => state && openAddress()));
