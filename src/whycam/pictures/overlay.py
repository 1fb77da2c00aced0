"""The colors of a map, laid over its photo or by themselves, and pictures side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from whycam.errors import OptionError
from whycam.pictures.blends import OPACITY
from whycam.pictures.colormaps import NO_VALUE, colorize
from whycam.pictures.marks import outlined

#: Which pixels, or all of them.
Seen: TypeAlias = Bool[Tensor, "height width"] | None

_LINE = (90, 90, 90)


@dataclass(frozen=True)
class Paint:
    """The color of each pixel and its share of what is seen there; `on_gray`: over the picture's grays alone."""

    colors: UInt8[np.ndarray, "height width 3"]
    share: Float[np.ndarray, "height width"]
    on_gray: bool = False

    def over(self, image: Image.Image, seen: Seen = None, outline: Seen = None) -> Image.Image:
        """A picture of the same size in these colors: `share * color + (1 - share) * picture`.

        Where `seen` is false there is no color: the picture is gray and pale, behind a thin line. Then comes the line
        around `outline`.
        """
        ground, share = self._ground(image), self.share[..., None]
        picture = _outside_pale(np.rint(share * self.colors + (1 - share) * ground).astype(np.uint8), image, seen)
        return outlined(picture, outline)

    def backdrop(self, image: Image.Image, seen: Seen = None) -> Image.Image:
        """What `over` lays the colors on."""
        ground = self._ground(image)
        return _outside_pale(np.rint(np.broadcast_to(ground, self.colors.shape)).astype(np.uint8), image, seen)

    def alone(self, seen: Seen = None, outline: Seen = None) -> Image.Image:
        """The colors without a picture, RGBA, as opaque as their share."""
        share = self.share if seen is None else np.where(seen.cpu().numpy(), self.share, 0)
        return outlined(Image.fromarray(np.dstack([self.colors, np.rint(255 * share).astype(np.uint8)])), outline)

    def _ground(self, image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image.convert("RGB"))
        return _gray(pixels)[..., None] if self.on_gray else pixels


def paint(
    heat: Float[Tensor, "height width"],
    *,
    colormap: str | None = None,
    opacity: float = OPACITY,
    signed: bool = False,
    blend: str = "map",
) -> Paint:
    """The colors of a map in [0, 1], or in [-1, 1] when `signed`.

    With `blend="map"` values below one half fade out, so that a picture stays as it is where the map says nothing: the
    share of the color is `opacity * min(1, 2 * magnitude)`. With `"even"` it is `opacity` everywhere.

    Raises:
        OptionError: an `opacity` that is not in [0, 1], or another `blend`.
    """
    _check(opacity)
    if blend not in ("map", "even"):
        raise OptionError(f"blend is 'map' (as opaque as the map is strong) or 'even', not {blend!r}.")
    share = np.full(tuple(heat.shape), opacity, np.float32)
    if blend == "map":
        values = np.abs(heat.cpu().float().numpy())
        share *= (2 * np.where(np.isfinite(values), values, 1)).clip(0, 1)
    return Paint(colorize(heat, colormap, signed), share)


def paint_parts(
    strengths: Float[Tensor, "part height width"], colors: UInt8[np.ndarray, "part 3"], *, opacity: float = OPACITY
) -> Paint:
    """Each pixel in the color of the strongest of several maps in [0, 1], over the grays of a picture.

    The share is `opacity * root(strength)`, so that what is weak still has a hue; one hue would be no sign beside the
    picture's own, hence the grays.
    """
    _check(opacity)
    heats = strengths.cpu().float().numpy()
    known = np.isfinite(heats).all(0)
    heats = np.where(known, heats, np.float32(0))
    inked = np.where(known[..., None], colors[heats.argmax(0)], np.array(NO_VALUE, np.uint8))
    share = np.float32(opacity) * np.where(known, np.sqrt(heats.max(0)), np.float32(1))
    return Paint(inked, share, on_gray=True)


def _check(opacity: float) -> None:
    if not 0 <= opacity <= 1:
        raise OptionError(f"opacity must be from 0 (picture only) to 1 (map only), not {opacity}.")


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Pictures in a row on white, or on nothing, with thin gaps, each at its own size; one by itself as it is."""
    if len(images) == 1:
        return images[0]
    gap = max(2, max(image.width for image in images) // 64)
    width = sum(image.width + gap for image in images) - gap
    ground = "white" if images[0].mode == "RGB" else (0, 0, 0, 0)
    sheet = Image.new(images[0].mode, (width, max(image.height for image in images)), ground)
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + gap
    return sheet


def _outside_pale(levels: UInt8[np.ndarray, "height width 3"], image: Image.Image, seen: Seen) -> Image.Image:
    """The picture, and what of it was not seen as something outside."""
    if seen is not None:
        inside = seen.cpu().numpy()
        gray = _gray(np.asarray(image.convert("RGB")))
        levels[~inside] = np.rint(0.45 * gray[~inside] + 0.55 * 255).astype(np.uint8)[:, None]
        levels[_beside(inside)] = _LINE
    return Image.fromarray(levels)


def _gray(pixels: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
    """How bright each pixel looks."""
    return pixels @ np.array([0.299, 0.587, 0.114], np.float32)


def _beside(inside: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The pixels outside that touch the inside."""
    padded = np.pad(inside, 1)
    near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    found: np.ndarray = near & ~inside
    return found
