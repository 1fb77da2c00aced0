// One map: its canvas, what it shows in words, its downloads, and the box that is drawn on it.

import * as api from "./api.js";
import { above, colorIndices, lay, overlay } from "./drawing.js";
import { afterPause, make } from "./dom.js";

export class Card {
  /**
   * map: of a job's result. photo: {id, name, pixels}. found: the box that is explained, if one is. look: the state's,
   * read each time it draws. boxed: told a box that was drawn, or null for none.
   */
  constructor(map, photo, found, look, boxed) {
    Object.assign(this, { map, photo, look, heats: {}, found, box: null, around: [] });
    const { width, height } = photo.pixels;
    this.canvas = make("canvas", { width, height, role: "img", "aria-label": this.#words() });
    this.rectangle = make("div", { className: "box", hidden: true });
    this.stage = make("div", { className: "stage" }, this.canvas, this.rectangle);
    if (found) this.stage.append(placed(make("div", { className: "mark" }), found, photo.pixels));
    this.stage.style.setProperty("--wide", String(width / height));
    this.colors = make("canvas", { width: 256, height: 1, "aria-hidden": "true" });
    this.scale = make("p", { className: "scale", hidden: map.drawn === "picture" });
    this.inside = make("p", { className: "inside", hidden: true });
    this.bright = make("p", { className: "inside", hidden: true });
    this.lookForBoxes = afterPause(150, () => this.#around()); // a slider moves often
    this.element = make("article", { className: "card", "data-map": map.id }, this.stage, this.#text());
    drawnBox(this.stage, photo.pixels, (box) => this.#frame(box), boxed);
  }

  /** Fetch the map's numbers; afterwards drawing asks for nothing, until the map is enlarged in another way. */
  async load() {
    const { map } = this;
    if (map.drawn === "picture") return;
    const { enlarge } = this.look();
    const level = api.floats(api.mapUrl(map.id, "level.f32"));
    await Promise.all([level, ...[false, true].map((signed) => this.#heat({ signed, enlarge }))]);
    this.level = this.#laid(await level);
  }

  #laid(values) {
    const { heat, geometry } = this.map;
    return lay(values, heat.height, heat.width, geometry);
  }

  /** The map's values for colors on the photo, kept for each sort: {key, laid, end}. */
  #heat({ signed, enlarge }) {
    const key = `${enlarge} ${signed}`;
    this.heats[key] ??= api.heat(this.map.id, signed, enlarge).then(
      ({ values, end }) => ({ key, laid: this.#laid(values), end }),
      (error) => {
        delete this.heats[key]; // asked for again the next time
        throw error;
      },
    );
    return this.heats[key];
  }

  /** Draw with the look as it is now. */
  async draw() {
    const heat = this.level ? await this.#heat(this.look()) : null;
    const look = this.look();
    const context = this.canvas.getContext("2d");
    if (heat) {
      if (heat !== (await this.#heat(look))) return this.draw(); // the look changed while it was fetched
      const key = `${look.levels.length} ${heat.key}`;
      if (this.key !== key) {
        this.indices = colorIndices(heat.laid.values, look.levels.length, look.signed);
        this.key = key;
      }
      const region = look.threshold === "off" ? null : above(this.level, look.level);
      this.#showScale(look, heat.end);
      context.putImageData(overlay(this.photo.pixels, heat.laid, this.indices, look, region), 0, 0);
    } else {
      const { opacity, signed, enlarge } = look;
      const asked = new URLSearchParams({ opacity, signed: Number(signed), enlarge });
      context.putImageData(await api.pixels(api.mapUrl(this.map.id, `overlay.png?${asked}`)), 0, 0);
    }
    if (look.threshold === "boxes" || !this.bright.hidden) this.lookForBoxes();
    this.canvas.dataset.drawn = "yes";
  }

  /** Show a box, and how much of the evidence lies in it. */
  async measure(box) {
    this.#frame(box);
    this.inside.hidden = !box;
    if (!box) return;
    const { width, height } = this.photo.pixels;
    const inside = (from, to, most) => Math.max(0, Math.min(to, most) - Math.max(from, 0)) / most;
    const area = inside(box[0], box[2], width) * inside(box[1], box[3], height);
    try {
      const { share } = await api.share(this.map.id, box);
      this.inside.textContent =
        share === null
          ? "This map holds no evidence to share."
          : `${percent(share)} of the evidence is in the box, which is ${percent(area)} of the picture.`;
    } catch (error) {
      this.inside.textContent = error.message;
    }
  }

  /** Boxes around what is above the threshold, where these are to be shown. */
  async #around() {
    const { threshold, level } = this.look();
    this.bright.hidden = threshold !== "boxes";
    this.around = [];
    if (!this.bright.hidden) {
      try {
        const found = await api.boxes(this.map.id, level);
        this.around = found.boxes;
        const parts = found.boxes.length === 1 ? "one part" : `${found.boxes.length} parts`;
        this.bright.textContent = `${percent(found.share_of_area)} of the picture is above ${percent(level)}, in ${parts}.`;
      } catch (error) {
        this.bright.textContent = error.message;
      }
    }
    for (const each of this.stage.querySelectorAll(".around")) each.remove();
    this.stage.append(...this.around.map((box) => placed(make("div", { className: "mark around" }), box, this.photo.pixels)));
  }

  /** What the first and the last color stand for. */
  #showScale({ levels, signed }, end) {
    const strip = new ImageData(256, 1);
    for (let i = 0; i < 256; i++) strip.data.set([...levels[Math.min(i, levels.length - 1)], 255], 4 * i);
    this.colors.getContext("2d").putImageData(strip, 0, 0);
    const low = signed ? number(-end) : "0";
    this.scale.replaceChildren(make("span", {}, low), this.colors, make("span", {}, number(end)));
  }

  #frame(box) {
    this.box = box;
    this.rectangle.hidden = !box;
    if (box) placed(this.rectangle, box, this.photo.pixels);
  }

  /** The picture as it is seen, with the boxes that lie over the canvas. */
  #withBoxes() {
    const { width, height } = this.canvas;
    const picture = make("canvas", { width, height });
    const context = picture.getContext("2d");
    context.drawImage(this.canvas, 0, 0);
    const line = Math.max(1, Math.round(Math.max(width, height) / 250));
    for (const [left, top, right, bottom] of [this.found, this.box, ...this.around].filter(Boolean)) {
      for (const [strokeStyle, lineWidth] of [["#000", line + 2], ["#fff", line]]) {
        Object.assign(context, { strokeStyle, lineWidth });
        context.strokeRect(left, top, right - left, bottom - top);
      }
    }
    return picture;
  }

  #words() {
    const { map } = this;
    return `${map.title}: where the evidence for ${map.target} lies. ${map.status.ok ? "" : map.status.message}`;
  }

  #text() {
    const { map } = this;
    const status = map.status.ok
      ? make("p", { className: "good" }, "ok")
      : make("p", { className: "status" }, make("strong", {}, sentence(map.status.kind)), " ", map.status.message);
    const facts = [
      ["Layer", map.layer?.short ?? map.layer?.name, map.layer?.why],
      ["Score", number(map.score)],
      ["Cost", map.cost?.text],
      ["Map", map.raw_shape?.join(" × ")],
    ].filter(([, value]) => value);
    return make(
      "div",
      { className: "card-text" },
      make("h4", {}, map.title),
      status,
      this.inside,
      this.bright,
      this.scale,
      make("dl", {}, facts.map(([name, value, why]) => make("div", { title: why ?? "" }, make("dt", {}, name), make("dd", {}, value)))),
      map.layer?.why || map.notes?.length
        ? make(
            "details",
            {},
            make("summary", {}, "Why this layer, and notes"),
            ...[map.layer?.why, ...(map.notes ?? [])].filter(Boolean).map((note) => make("p", {}, note)),
          )
        : null,
      this.#downloads(),
    );
  }

  #downloads() {
    const link = (what, text) => make("a", { href: api.mapUrl(this.map.id, what), download: "" }, text);
    const picture = make("button", { type: "button", className: "link", "aria-label": `Save ${this.map.title} as PNG` }, "PNG");
    picture.onclick = () =>
      this.#withBoxes().toBlob((blob) => {
        const address = URL.createObjectURL(blob);
        make("a", { href: address, download: `${plain(this.photo.name)}.${this.map.method}.png` }).click();
        setTimeout(() => URL.revokeObjectURL(address), 10_000);
      });
    return make(
      "p",
      { className: "downloads" },
      "Save ",
      picture,
      link("raw.npy", "raw map .npy"),
      link("record.json", "record .json"),
    );
  }
}

/** A box by dragging: a mouse at any time, a finger where `stage` has the class `boxing`, so that pages still scroll. */
function drawnBox(stage, size, shown, boxed) {
  let from = null;
  const at = (event) => {
    const area = stage.getBoundingClientRect();
    const inside = (value, most) => Math.round(Math.min(Math.max(value, 0), 1) * most);
    return [
      inside((event.clientX - area.left) / area.width, size.width),
      inside((event.clientY - area.top) / area.height, size.height),
    ];
  };
  const box = (to) => [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])];
  stage.onpointerdown = (event) => {
    if (event.button || (event.pointerType !== "mouse" && !stage.closest(".boxing"))) return;
    event.preventDefault();
    from = at(event);
    stage.setPointerCapture(event.pointerId);
  };
  stage.onpointermove = (event) => {
    if (from) shown(box(at(event)));
  };
  stage.onpointerup = (event) => {
    if (!from) return;
    const drawn = box(at(event));
    from = null;
    boxed(drawn[2] - drawn[0] > 2 && drawn[3] - drawn[1] > 2 ? drawn : null);
  };
  stage.onpointercancel = () => {
    from = null;
    shown(null);
  };
}

/** An element over a part of a picture: left, top, right, bottom in the picture's pixels. */
export function placed(element, [left, top, right, bottom], { width, height }) {
  const sides = { left: left / width, top: top / height, right: 1 - right / width, bottom: 1 - bottom / height };
  for (const [side, value] of Object.entries(sides)) element.style.setProperty(side, `${100 * value}%`);
  return element;
}

export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)}%`;

export function number(value) {
  if (value === null || value === undefined) return null;
  const small = value !== 0 && Math.abs(value) < 0.001;
  return small ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

/** Of a photo's name what any file system takes. */
const plain = (name) => name.replace(/\.[a-z0-9]{1,5}$/i, "").replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 80) || "photo";
