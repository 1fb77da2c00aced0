"""Pictures inside a page, as data URIs: few bytes each, since a page holds hundreds."""

import base64
from dataclasses import dataclass
from typing import Any

from PIL import Image

from whycam.pictures.encoding import encoded

#: Without blocks that one sees at the size at which pages show photos, at a seventh of PNG's bytes.
_JPEG = {"quality": 75, "optimize": True, "progressive": True}
#: Heat is smooth: a tenth of PNG's bytes, and no step of a palette is off by more than the eye tells.
_WEBP = {"quality": 80, "alpha_quality": 90, "method": 3}
_PNG = {"optimize": True}


@dataclass(frozen=True)
class Inline:
    """A picture with its pixels in its address, and its size in pixels."""

    source: str
    width: int
    height: int


def photo(image: Image.Image) -> Inline:
    """A photo, or what is drawn on one, as JPEG."""
    return _inline(image.convert("RGB"), "jpeg", _JPEG)


def layer(image: Image.Image) -> Inline:
    """A smooth picture that is partly transparent, as WebP."""
    return _inline(image, "webp", _WEBP)


def cells(image: Image.Image) -> Inline:
    """A picture of few pixels, each of which counts, as PNG."""
    return _inline(image, "png", _PNG)


def _inline(image: Image.Image, kind: str, how: dict[str, Any]) -> Inline:
    data = base64.b64encode(encoded(image, kind, **how)).decode()
    return Inline(f"data:image/{kind};base64,{data}", *image.size)
