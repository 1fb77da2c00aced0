// Maps in color over a photo, pixel for pixel as whycam.pictures.geometry and whycam.pictures.overlay draw them:
// single precision where they have it (Math.fround), halves rounded to even (what a clamped array does by itself).

const f = Math.fround;
const NO_VALUE = [128, 128, 128];
const LINE = [90, 90, 90];
const GRAY = [f(0.299), f(0.587), f(0.114)];

/**
 * A map of the input's size laid over the photo, linear between pixel centers (`Geometry.to_photo`).
 *
 * Returns its values, row by row, and which pixels of the photo the network saw (null where it saw all).
 */
export function lay(values, height, width, geometry) {
  if (!geometry) return { values, height, width, seen: null };
  const [tall, wide] = geometry.photo_size;
  const [top, left, bottom, right] = geometry.seen;
  const rows = places(tall, height, geometry.scale[0], geometry.offset[0], top, bottom);
  const columns = places(wide, width, geometry.scale[1], geometry.offset[1], left, right);
  const between = new Float32Array(tall * width);
  for (let y = 0; y < tall; y++) {
    const [a, b] = [rows.below[y] * width, rows.above[y] * width];
    const [share, rest] = [rows.share[y], f(1 - rows.share[y])];
    for (let x = 0; x < width; x++) {
      between[y * width + x] = f(f(values[a + x] * rest) + f(values[b + x] * share));
    }
  }
  const laid = new Float32Array(tall * wide);
  const seen = new Uint8Array(tall * wide);
  for (let y = 0; y < tall; y++) {
    if (!rows.inside[y]) continue;
    for (let x = 0; x < wide; x++) {
      if (!columns.inside[x]) continue;
      const [a, b] = [between[y * width + columns.below[x]], between[y * width + columns.above[x]]];
      laid[y * wide + x] = f(f(a * f(1 - columns.share[x])) + f(b * columns.share[x]));
      seen[y * wide + x] = 1;
    }
  }
  return { values: laid, height: tall, width: wide, seen };
}

function places(photoLength, length, scale, offset, from, to) {
  const below = new Int32Array(photoLength);
  const above = new Int32Array(photoLength);
  const share = new Float32Array(photoLength);
  const inside = new Uint8Array(photoLength);
  for (let i = 0; i < photoLength; i++) {
    const center = i + 0.5;
    const index = Math.min(Math.max((center - offset) / scale - 0.5, 0), length - 1);
    below[i] = Math.floor(index);
    above[i] = Math.min(below[i] + 1, length - 1);
    share[i] = index - below[i];
    inside[i] = center >= from && center < to ? 1 : 0;
  }
  return { below, above, share, inside };
}

/** The number of the color of each value among `count`, or -1 where there is no value (`colormaps.colorize`). */
export function colorIndices(values, count, signed) {
  const indices = new Int16Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (!Number.isFinite(value)) {
      indices[i] = -1;
      continue;
    }
    const share = signed ? f(f(value + 1) / 2) : value;
    indices[i] = Math.min(Math.max(Math.trunc(f(share * count)), 0), count - 1);
  }
  return indices;
}

/**
 * The overlay of one map on a photo's pixels (an ImageData), as a new ImageData.
 *
 * laid: from `lay`. indices: from `colorIndices`. look: levels, opacity, blend. region: where the map is above the
 * threshold, if that is shown; as "contour" it gets a line, as "mask" all else is pale.
 */
export function overlay(photo, laid, indices, look, region = null) {
  const { values, seen } = laid;
  const drawn = new ImageData(photo.width, photo.height);
  const [from, to] = [photo.data, drawn.data];
  const opacity = f(look.opacity);
  for (let i = 0, p = 0; i < values.length; i++, p += 4) {
    to[p + 3] = 255;
    if ((seen && !seen[i]) || (region && look.threshold === "mask" && !region[i])) {
      to[p] = to[p + 1] = to[p + 2] = pale(from, p);
      continue;
    }
    const known = indices[i] >= 0;
    const color = known ? look.levels[indices[i]] : NO_VALUE;
    let share = opacity;
    if (look.blend === "map" && known) share = f(opacity * Math.min(f(2 * Math.abs(values[i])), 1));
    const rest = f(1 - share);
    for (let c = 0; c < 3; c++) to[p + c] = f(f(share * color[c]) + f(rest * from[p + c]));
  }
  if (seen) lineAround(seen, photo.width, photo.height, to);
  if (region && look.threshold === "contour") outline(region, photo.width, photo.height, to);
  return drawn;
}

function pale(from, p) {
  const gray = f(f(f(from[p] * GRAY[0]) + f(from[p + 1] * GRAY[1])) + f(from[p + 2] * GRAY[2]));
  return f(f(f(0.45) * gray) + f(0.55 * 255));
}

/** The pixels outside that touch the inside. */
function lineAround(seen, width, height, to) {
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (seen[i]) continue;
      const touches =
        (y > 0 && seen[i - width]) ||
        (y < height - 1 && seen[i + width]) ||
        (x > 0 && seen[i - 1]) ||
        (x < width - 1 && seen[i + 1]);
      if (touches) to.set(LINE, 4 * i);
    }
  }
}

/** Where a map in [0, 1] is above a level. */
export function above(laid, level) {
  const region = new Uint8Array(laid.values.length);
  const least = f(level);
  for (let i = 0; i < region.length; i++) region[i] = laid.values[i] > least ? 1 : 0;
  return region;
}

/** A light line beside a dark one, inside a region; the picture's own border is no outline (`marks.outlined`). */
function outline(region, width, height, to) {
  const line = Math.max(1, halfToEven(Math.max(width, height) / 250));
  const depth = depths(region, width, height, line + 1);
  for (let i = 0; i < region.length; i++) {
    if (!region[i] || depth[i] === 0) continue;
    to.set(depth[i] <= line ? [255, 255, 255] : [0, 0, 0], 4 * i);
  }
}

/** How many steps each pixel of a region is from the outside, 1 at its rim; 0 where they are more than `most`. */
function depths(region, width, height, most) {
  const depth = new Uint8Array(region.length);
  let inner = region;
  for (let step = 1; step <= most; step++) {
    const next = new Uint8Array(inner.length);
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        if (!inner[i]) continue;
        const whole =
          (y === 0 || inner[i - width]) &&
          (y === height - 1 || inner[i + width]) &&
          (x === 0 || inner[i - 1]) &&
          (x === width - 1 || inner[i + 1]);
        if (whole) next[i] = 1;
        else depth[i] = step;
      }
    }
    inner = next;
  }
  return depth;
}

function halfToEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}
