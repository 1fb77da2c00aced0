// What is looked at, kept in the address after #, so that a copied address shows the same.

/** What is not said in an address. `about` says how opaque colors are. */
export function usual(about) {
  return {
    photo: null,
    models: [],
    methods: [], // {name, options}; none: the one that is usual for the model
    layers: null, // null: chosen for each method
    targets: [null], // as on the command line; null: the top class
    signed: false,
    opacity: about.opacity,
    colormap: null, // null: the usual one
    blend: "map",
    enlarge: "cubic", // or bilinear, nearest
    threshold: "off", // or contour, mask, boxes
    level: 0.5,
    box: null, // left, top, right, bottom, in pixels of the drawn photo
  };
}

export function read(fragment, about) {
  const state = usual(about);
  const said = new URLSearchParams(fragment.replace(/^#/, ""));
  state.photo = said.get("photo");
  state.models = said.getAll("model");
  state.methods = said.getAll("method").map(readMethod);
  if (said.has("layer")) state.layers = said.getAll("layer");
  if (said.has("target")) state.targets = said.getAll("target").map((text) => text || null);
  state.signed = said.get("signed") === "1";
  state.opacity = share(said.get("opacity"), state.opacity);
  state.colormap = said.get("colormap");
  if (said.get("blend") === "even") state.blend = "even";
  if (["bilinear", "nearest"].includes(said.get("enlarge"))) state.enlarge = said.get("enlarge");
  if (["contour", "mask", "boxes"].includes(said.get("threshold"))) state.threshold = said.get("threshold");
  state.level = share(said.get("level"), state.level);
  const box = (said.get("box") ?? "").split(",").map(Number);
  if (box.length === 4 && box.every(Number.isFinite)) state.box = box;
  return state;
}

export function written(state, about) {
  const said = new URLSearchParams();
  const plain = usual(about);
  if (state.photo) said.set("photo", state.photo);
  for (const model of state.models) said.append("model", model);
  for (const method of state.methods) said.append("method", writtenMethod(method));
  for (const layer of state.layers ?? []) said.append("layer", layer);
  if (state.targets.some((target) => target !== null)) {
    for (const target of state.targets) said.append("target", target ?? "");
  }
  if (state.signed) said.set("signed", "1");
  for (const name of ["opacity", "colormap", "blend", "enlarge", "threshold", "level"]) {
    if (state[name] !== plain[name]) said.set(name, state[name]);
  }
  if (state.box) said.set("box", state.box.join(","));
  return `#${said}`;
}

function share(text, otherwise) {
  const value = Number.parseFloat(text);
  return value >= 0 && value <= 1 ? value : otherwise;
}

function readMethod(text) {
  const [name, options] = text.split(/:(.*)/s);
  try {
    const given = options ? JSON.parse(options) : {};
    if (Object.prototype.toString.call(given) === "[object Object]") return { name, options: given };
  } catch {
    // no JSON
  }
  return { name: text, options: {} }; // which no method is called, so that it is said
}

function writtenMethod({ name, options }) {
  return Object.keys(options).length ? `${name}:${JSON.stringify(options)}` : name;
}
