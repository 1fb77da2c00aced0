"""Strips below a picture: words, numbered colors, and the scale of its colors."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from whycam.pictures.colormaps import palette
from whycam.pictures.wrapping import wrapped

_STRIP, _LETTERS = (24, 24, 24), (240, 240, 240)


@dataclass(frozen=True)
class Scale:
    """What the colors of a map mean.

    Attributes:
        low, high: the raw values that the first color and the last one stand for. `words`: what is measured.
    """

    low: float
    high: float
    words: str


def captioned(image: Image.Image, caption: str) -> Image.Image:
    """The picture on a strip with wrapped text; a picture too narrow for words is put on a wider strip."""
    width, font, margin = _strip(image)
    text = _fitted(caption, width - 2 * margin, font)
    box = ImageDraw.Draw(image).multiline_textbbox((0, 0), text, font=font)
    canvas = _on_strip(image, width, int(box[3]) + 2 * margin + 1)
    ImageDraw.Draw(canvas).multiline_text((margin, image.height + margin), text, font=font, fill=_LETTERS)
    return canvas


def with_numbers(image: Image.Image, colors: UInt8[np.ndarray, "part 3"]) -> Image.Image:
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


def with_scale(image: Image.Image, scale: Scale, colormap: str | None = None, signed: bool = False) -> Image.Image:
    """The picture on a strip with a bar of the colors between the raw values at its ends, and what they measure."""
    width, font, margin = _strip(image)
    text = _fitted(scale.words, width - 2 * margin, font)
    ends = [f"{value:.3g}" for value in (scale.low, scale.high)]
    high = int(font.size)
    box = ImageDraw.Draw(image).multiline_textbbox((0, 0), text, font=font)
    canvas = _on_strip(image, width, high + int(box[3]) + 3 * margin + 1)
    draw = ImageDraw.Draw(canvas)
    top = image.height + margin
    left, right = (int(font.getlength(end)) + 2 * margin for end in ends)
    bar = Image.fromarray(palette(colormap, signed)[None]).resize((max(1, width - left - right), high))
    canvas.paste(bar, (left, top))
    draw.text((margin, top + high / 2), ends[0], font=font, fill=_LETTERS, anchor="lm")
    draw.text((width - margin, top + high / 2), ends[1], font=font, fill=_LETTERS, anchor="rm")
    draw.multiline_text((margin, top + high + margin), text, font=font, fill=_LETTERS)
    return canvas


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text in lines of that width; those of wider letters fit as well."""
    letter = font.getlength(text.replace("\n", " ")) / len(text)
    return wrapped(text, int(0.9 * width / letter))


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
