"""Pictures as the bytes of a file."""

import io
from typing import Any

from PIL import Image


def encoded(picture: Image.Image, kind: str, **how: Any) -> bytes:
    """The picture as a file of that kind, by Pillow's name of it, with Pillow's settings of how."""
    data = io.BytesIO()
    picture.save(data, kind, **how)
    return data.getvalue()
