// What the page asks of its server. Every address is relative, so that it works behind a prefix.

/** A refusal, with the sentence that the server gave for it. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Is `whycam serve` still running? Start it again, then reload.", 0);
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Refused(said.error ?? `The server answered ${response.status} ${response.statusText}.`, response.status);
}

const json = async (path, options) => (await ask(path, options)).json();
const sent = (method, value) => ({
  method,
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(value),
});
const part = encodeURIComponent;

export const about = () => json("api/about");
export const upload = (file) =>
  json(`api/photos?name=${part(file.name)}`, {
    method: "POST",
    headers: { "Content-Type": "application/octet-stream" },
    body: file,
  });
export const photo = (id) => json(`api/photos/${part(id)}`);
export const pictureUrl = (photo) => `api/photos/${part(photo)}/picture.png`;
export const layers = (model, photo) => json(`api/models/${part(model)}/layers?photo=${part(photo)}`);
export const methodsFor = (model, photo) => json(`api/models/${part(model)}/methods?photo=${part(photo)}`);
/** point: x and y in pixels of the drawn photo, if it is asked what lies there. */
export const predict = (photo, model, point) => json("api/predictions", sent("POST", { photo, model, point }));
export const start = (question) => json("api/jobs", sent("POST", question));
export const job = (id) => json(`api/jobs/${part(id)}`);
export const cancel = (id) => ask(`api/jobs/${part(id)}`, { method: "DELETE" });
export const mapUrl = (id, what) => `api/maps/${part(id)}/${what}`;
export const boxes = (id, level) => json(mapUrl(id, `boxes?level=${level}`));
export const share = (id, box) => json(mapUrl(id, "share"), sent("POST", { box }));

/** The pixels of a picture, exactly as the server has them. */
export async function pixels(url) {
  const blob = await (await ask(url)).blob();
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

/** Numbers of four bytes each. */
export async function floats(url) {
  return new Float32Array(await (await ask(url)).arrayBuffer());
}

/** A map's values for colors, and the raw value at which these end. */
export async function heat(map, signed, enlarge) {
  const response = await ask(mapUrl(map, `heat.f32?signed=${Number(signed)}&enlarge=${enlarge}`));
  return { values: new Float32Array(await response.arrayBuffer()), end: Number(response.headers.get("color-end")) };
}
