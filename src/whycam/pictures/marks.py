"""Lines over a picture: what is explained (the box bold and the others thin, a region, a point), and outlines."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

#: A light line between two dark ones shows on any photo and any color of a map.
_DARK, _LIGHT, _OTHERS = (0, 0, 0), (255, 255, 255), (200, 200, 200)
Corners = tuple[float, float, float, float]
#: x and y of the input -> x and y of the picture.
Place = Callable[[float, float], tuple[float, float]]


def marked(
    image: Image.Image,
    place: Place,
    *,
    box: Corners | None = None,
    others: Sequence[Corners] = (),
    region: Bool[np.ndarray, "height width"] | None = None,
    point: tuple[float, float] | None = None,
    text: str = "",
) -> Image.Image:
    """A copy of the picture with what is explained marked on it.

    Args:
        place: where a place of the input lies on the picture.
        region: of the picture's size, true inside.
    """
    picture = image.copy()
    draw = ImageDraw.Draw(picture)
    line = _width(image)
    for each in others:
        _rectangle(draw, each, place, 1, _OTHERS)
    if region is not None:
        picture = _outlined(picture, region, line)
        draw = ImageDraw.Draw(picture)
    if box is not None:
        _rectangle(draw, box, place, line + 2, _DARK, 1)
        _rectangle(draw, box, place, line, _LIGHT)
        if text:
            _label(draw, picture, place(box[0], box[1]), text)
    if point is not None:
        (x, y), size = place(*point), 4 * line
        for width, color in ((line + 2, _DARK), (line, _LIGHT)):
            draw.line((x - size, y, x + size, y), fill=color, width=width)
            draw.line((x, y - size, x, y + size), fill=color, width=width)
    return picture


def outlined(image: Image.Image, inside: Bool[Tensor, "height width"] | None) -> Image.Image:
    """The picture with a line around what is inside, if anything; on a transparent one the line is opaque."""
    return image if inside is None else _outlined(image, inside.cpu().numpy(), _width(image))


def _outlined(image: Image.Image, inside: Bool[np.ndarray, "height width"], line: int) -> Image.Image:
    levels = np.asarray(image).copy()
    for width, color in ((line + 1, _DARK), (line, _LIGHT)):
        levels[_rim(inside, width)] = (*color, 255)[: levels.shape[-1]]
    return Image.fromarray(levels)


def _width(image: Image.Image) -> int:
    """Of a line, in pixels."""
    return max(1, round(max(image.size) / 250))


def _rectangle(
    draw: ImageDraw.ImageDraw, box: Corners, place: Place, width: int, color: tuple[int, int, int], wider: int = 0
) -> None:
    (left, top), (right, bottom) = place(box[0], box[1]), place(box[2], box[3])
    corners = [left - wider, top - wider, right + wider, bottom + wider]
    if corners[0] <= corners[2] and corners[1] <= corners[3]:
        draw.rectangle(corners, outline=color, width=width)


def _rim(region: Bool[np.ndarray, "height width"], width: int) -> Bool[np.ndarray, "height width"]:
    """The pixels inside that are within a distance of the outside; the picture's own border is no outline."""
    inner = np.pad(region, 1, mode="edge")
    for _ in range(width):
        inner[1:-1, 1:-1] = inner[1:-1, 1:-1] & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    rim: np.ndarray = region & ~inner[1:-1, 1:-1]
    return rim


def _label(draw: ImageDraw.ImageDraw, picture: Image.Image, at: tuple[float, float], text: str) -> None:
    """A text above the corner of a box, or inside it where there is no room."""
    font = ImageFont.load_default(size=max(9, round(max(picture.size) / 40)))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    x = min(max(0.0, at[0]), max(0.0, picture.width - width))
    y = at[1] - height if at[1] >= height else at[1]
    draw.rectangle((x, y, x + width, y + height), fill=_DARK)
    draw.text((x + 3 - left, y + 3 - top), text, font=font, fill=_LIGHT)
