"""A map laid over its photo, and pictures side by side."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from whycam.errors import WhycamError
from whycam.pictures.colormaps import NO_VALUE, colorize
from whycam.pictures.wrapping import wrapped

_STRIP, _LETTERS, _LINE = (24, 24, 24), (240, 240, 240), (90, 90, 90)


def overlay(
    image: Image.Image,
    heat: Float[Tensor, "height width"],
    *,
    colormap: str | None = None,
    opacity: float = 0.5,
    signed: bool = False,
    seen: Bool[Tensor, "height width"] | None = None,
    caption: str | None = None,
    mark: Callable[[Image.Image], Image.Image] | None = None,
) -> Image.Image:
    """Blend the colors of a map in [0, 1] (in [-1, 1] when `signed`) over a picture of the same size.

    Each pixel is `opacity * color + (1 - opacity) * picture`. In the usual colors, where no color map is named, values
    below one half fade out, so that the picture stays as it is where the map says nothing: the share of the color is
    `opacity * min(1, 2 * magnitude)`. Where `seen` is false there is no color: the picture is gray and pale, behind a
    thin line. What `mark` draws goes on top. A `caption` goes on a strip below, which makes the result taller.

    Raises `WhycamError` where `opacity` is not in [0, 1].
    """
    _check(opacity)
    pixels = np.asarray(image.convert("RGB"))
    colors = colorize(heat, colormap, signed)
    share = np.full((*pixels.shape[:2], 1), opacity, np.float32)
    if colormap is None:
        values = np.abs(heat.cpu().float().numpy())
        share *= (2 * np.where(np.isfinite(values), values, 1)).clip(0, 1)[..., None]
    blended = share * colors + (1 - share) * pixels
    picture = _outside_pale(pixels, blended, seen)
    picture = mark(picture) if mark is not None else picture
    return captioned(picture, caption) if caption else picture


def overlay_parts(
    image: Image.Image,
    strengths: Float[Tensor, "part height width"],
    colors: UInt8[np.ndarray, "part 3"],
    *,
    opacity: float = 0.5,
    seen: Bool[Tensor, "height width"] | None = None,
    legend: bool = True,
    caption: str | None = None,
) -> Image.Image:
    """Lay several maps in [0, 1] over the grays of a picture, each pixel in the color of the strongest there.

    Each pixel is `opacity * root(strength)` of that color, so that what is weak still has a hue; one hue would be no
    sign beside the picture's own, hence the grays. The rest is as for `overlay`. A `legend` below numbers the colors.
    """
    _check(opacity)
    heats = strengths.cpu().float().numpy()
    known = np.isfinite(heats).all(0)
    heats = np.where(known, heats, np.float32(0))
    pixels = np.asarray(image.convert("RGB"))
    inked = np.where(known[..., None], colors[heats.argmax(0)], np.array(NO_VALUE, np.uint8))
    share = np.float32(opacity) * np.where(known, np.sqrt(heats.max(0)), np.float32(1))[..., None]
    picture = _outside_pale(pixels, share * inked + (1 - share) * _gray(pixels)[..., None], seen)
    if legend:
        picture = _with_legend(picture, colors)
    return captioned(picture, caption) if caption else picture


def _check(opacity: float) -> None:
    if not 0 <= opacity <= 1:
        raise WhycamError(f"opacity must be from 0 (picture only) to 1 (map only), not {opacity}")


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Pictures in a row on white, with thin gaps, each at its own size."""
    gap = max(2, max(image.width for image in images) // 64)
    width = sum(image.width + gap for image in images) - gap
    sheet = Image.new("RGB", (width, max(image.height for image in images)), "white")
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + gap
    return sheet


def _outside_pale(
    pixels: UInt8[np.ndarray, "height width 3"],
    blended: Float[np.ndarray, "height width 3"],
    seen: Bool[Tensor, "height width"] | None,
) -> Image.Image:
    """The blend as a picture, and what was not seen as something outside."""
    result = np.rint(blended).astype(np.uint8)
    if seen is not None:
        inside = seen.cpu().numpy()
        pale = np.rint(0.45 * _gray(pixels) + 0.55 * 255).astype(np.uint8)
        result[~inside] = pale[~inside][:, None]
        result[_beside(inside)] = _LINE
    return Image.fromarray(result)


def _gray(pixels: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
    """How bright each pixel looks."""
    return pixels @ np.array([0.299, 0.587, 0.114], np.float32)


def _beside(inside: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The pixels outside that touch the inside."""
    padded = np.pad(inside, 1)
    near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    found: np.ndarray = near & ~inside
    return found


def captioned(image: Image.Image, caption: str) -> Image.Image:
    """The picture on a strip with wrapped text; a picture too narrow for words is put on a wider strip."""
    width, font, margin = _strip(image)
    letter = font.getlength(caption.replace("\n", " ")) / len(caption)
    text = wrapped(caption, int(0.9 * (width - 2 * margin) / letter))  # lines of wider letters fit as well
    box = ImageDraw.Draw(image).multiline_textbbox((0, 0), text, font=font)
    canvas = _on_strip(image, width, int(box[3]) + 2 * margin + 1)
    ImageDraw.Draw(canvas).multiline_text((margin, image.height + margin), text, font=font, fill=_LETTERS)
    return canvas


def _with_legend(image: Image.Image, colors: UInt8[np.ndarray, "part 3"]) -> Image.Image:
    """The picture on a strip with a patch of each color and its number, in as many rows as they take."""
    width, font, margin = _strip(image)
    patch = int(font.size)
    step = patch + margin + int(font.getlength(str(len(colors)))) + 2 * margin
    columns = max(1, (width - margin) // step)
    rows = -(-len(colors) // columns)
    canvas = _on_strip(image, width, rows * (patch + margin) + margin)
    draw = ImageDraw.Draw(canvas)
    for number, color in enumerate(colors):
        left = margin + number % columns * step
        top = image.height + margin + number // columns * (patch + margin)
        draw.rectangle((left, top, left + patch - 1, top + patch - 1), fill=tuple(map(int, color)))
        middle = (left + patch + margin, top + patch / 2)
        draw.text(middle, str(number + 1), font=font, fill=_LETTERS, anchor="lm")
    return canvas


def _strip(image: Image.Image) -> tuple[int, ImageFont.FreeTypeFont, int]:
    """How wide a strip below the picture is, and its letters and margins."""
    width = max(image.width, 160)
    font = ImageFont.load_default(size=max(11.0, min(32.0, width / 28)))
    assert isinstance(font, ImageFont.FreeTypeFont)  # what a size gives
    return width, font, max(4, width // 64)


def _on_strip(image: Image.Image, width: int, height: int) -> Image.Image:
    """The picture above an empty strip of that size."""
    canvas = Image.new("RGB", (width, image.height + height), _STRIP)
    canvas.paste(image, ((width - image.width) // 2, 0))
    return canvas
