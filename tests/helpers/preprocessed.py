"""Photos of every shape, and the question whether a `Preprocess` makes of them what a library makes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import skimage.data
import torch
from PIL import Image

from whycam.pictures.photos import read_photo
from whycam.pictures.preprocess import Preprocess

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
    """To within the order of operations in float32: one level of a photo would be 4e-3 at least."""
    assert isinstance(preprocess, Preprocess), str(preprocess)
    for name, photo in photos.items():
        made, geometry = preprocess(read_photo(photo))
        wanted = torch.as_tensor(reference(photo))
        torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
        assert geometry.input_size == tuple(wanted.shape[1:])
