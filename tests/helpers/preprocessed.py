"""Photos of every shape, and the question whether a preprocessing makes of them what a library makes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import skimage.data
import torch
from PIL import Image

_CAT = skimage.data.chelsea()

#: Wide, high, tiny, noise of odd sides, and one so thin that a side must be padded.
PHOTOS = {
    "landscape": Image.fromarray(_CAT),
    "portrait": Image.fromarray(np.ascontiguousarray(skimage.data.coffee()[:, :311].transpose(1, 0, 2))),
    "tiny": Image.fromarray(_CAT[100:117, 180:211].copy()),
    "noise": Image.fromarray(np.random.default_rng(0).integers(0, 256, (97, 213, 3), dtype=np.uint8)),
    "thin": Image.fromarray(_CAT[:7, :90].copy()),
}


def assert_agree(
    preprocess: Any, reference: Callable[[Image.Image], Any], photos: dict[str, Image.Image] = PHOTOS
) -> None:
    """The numbers are the library's own."""
    for name, photo in photos.items():
        made, wanted = torch.as_tensor(preprocess(photo)), torch.as_tensor(reference(photo))
        torch.testing.assert_close(made, wanted, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")


def size_of(preprocess: Any) -> tuple[int, ...]:
    """The size of the input that is made of a photo."""
    return tuple(preprocess(PHOTOS["landscape"]).shape[1:])
