"""A map laid over its photo, and pictures side by side."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from whycam.errors import WhycamError
from whycam.pictures.colours import colourise


def overlay(
    image: Image.Image,
    heat: Float[Tensor, "height width"] | Float[np.ndarray, "height width"],
    *,
    colormap: str | None = None,
    opacity: float = 0.5,
    signed: bool = False,
    seen: Bool[Tensor, "height width"] | Bool[np.ndarray, "height width"] | None = None,
    caption: str | None = None,
) -> Image.Image:
    """Blend the colours of a map in [0, 1] (in [-1, 1] when `signed`) over a picture of the same size.

    Each pixel is `opacity * colour + (1 - opacity) * picture`. Where `seen` is false there is no colour: the picture is
    grey, dim and hatched. A `caption` goes on a strip below, which makes the result taller than the picture.

    Raises `WhycamError` where sizes differ, or `opacity` is not in [0, 1].
    """
    size = (image.height, image.width)
    if tuple(heat.shape) != size or (seen is not None and tuple(seen.shape) != size):
        mask = "" if seen is None else f" and the mask {tuple(seen.shape)}"
        raise WhycamError(f"the picture is {size} (height, width), the map {tuple(heat.shape)}{mask}; make them equal")
    if not 0 <= opacity <= 1:
        raise WhycamError(f"opacity must be from 0 (picture only) to 1 (map only), not {opacity}")
    pixels = np.asarray(image.convert("RGB"))
    colours = colourise(heat, colormap, signed)
    blended = np.float32(opacity) * colours + np.float32(1 - opacity) * pixels
    result = np.rint(blended).astype(np.uint8)
    if seen is not None:
        unseen = ~(seen.cpu().numpy() if isinstance(seen, Tensor) else seen)
        result[unseen] = _hatched(pixels)[unseen]
    picture = Image.fromarray(result)
    return _captioned(picture, caption) if caption else picture


def contact_sheet(images: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """Pictures in rows on white, with thin gaps; `columns` `None` puts all in one row. Pictures keep their size."""
    if not images:
        raise WhycamError("a contact sheet needs at least one picture")
    columns = min(columns or len(images), len(images))
    if columns < 1:
        raise WhycamError(f"columns must be at least 1, not {columns}")
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    widths = [max(image.width for image in images[column::columns]) for column in range(columns)]
    heights = [max(image.height for image in row) for row in rows]
    gap = max(2, max(widths) // 64)
    sheet = Image.new("RGB", (sum(widths) + gap * (columns - 1), sum(heights) + gap * (len(rows) - 1)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for image, width in zip(row, widths, strict=False):  # the last row may be short
            sheet.paste(image, (left + (width - image.width) // 2, top))
            left += width + gap
        top += height + gap
    return sheet


def _hatched(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    """A picture as something outside: grey, pulled towards the middle tones, under fine diagonals."""
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    dim = 0.4 * grey + 40
    height, width = grey.shape
    period = max(6, min(height, width) // 48)
    lines = np.add.outer(np.arange(height), np.arange(width)) % period < max(1, period // 6)
    return np.repeat((dim + np.where(lines, np.float32(48), np.float32(0))).astype(np.uint8)[..., None], 3, axis=2)


def _captioned(image: Image.Image, caption: str) -> Image.Image:
    """The picture on a strip with wrapped text; a picture too narrow for words is put on a wider strip."""
    width = max(image.width, 160)
    font = ImageFont.load_default(size=max(11.0, min(32.0, width / 28)))
    margin = max(4, width // 64)
    text = "\n".join(_wrapped(caption, font, width - 2 * margin))
    box = ImageDraw.Draw(image).multiline_textbbox((0, 0), text, font=font)
    strip = int(box[3]) + 2 * margin + 1
    canvas = Image.new("RGB", (width, image.height + strip), (24, 24, 24))
    canvas.paste(image, ((width - image.width) // 2, 0))
    ImageDraw.Draw(canvas).multiline_text((margin, image.height + margin), text, font=font, fill=(240, 240, 240))
    return canvas


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """Lines no wider than `width` pixels: broken at spaces, and inside a word only if it is wider than a line."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}" if line else word
            if font.getlength(longer) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            while len(word) > 1 and font.getlength(word) > width:
                fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or font.getlength(word[:n]) <= width)
                lines.append(word[:fits])
                word = word[fits:]
            line = word
        lines.append(line)
    return lines
