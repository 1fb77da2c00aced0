"""The bright part of a map: as a mask, boxes around it, and the lengths of its runs; and a box as a mask."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.errors import missing


def bright(maps: Float[Tensor, "batch *space"], level: float) -> Bool[Tensor, "batch *space"]:
    """Where each map is above `level`, a share of its maximum; nowhere, in a map that is nowhere positive."""
    flat = maps.flatten(1)
    return (flat > level * flat.amax(1, keepdim=True)).reshape(maps.shape)


def around(mask: Bool[Tensor, "*space"]) -> Float[Tensor, "_ 4"]:
    """The box around a picture's mask, `(box, 4)`: left, top, right, bottom. An empty mask has none."""
    if mask.ndim != 2 or not bool(mask.any()):
        return torch.zeros(0, 4, dtype=torch.float64)
    rows, columns = (mask.any(axis).nonzero().flatten() for axis in (1, 0))
    return torch.tensor([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], dtype=torch.float64)


def around_parts(mask: Bool[Tensor, "height width"]) -> Float[Tensor, "_ 4"]:
    """The box around each part of a mask that hangs together, also by corners, `(box, 4)`; the largest part first."""
    try:
        from scipy import ndimage
    except ImportError:
        raise missing("SciPy", "evaluate", "boxes around the parts of a mask") from None
    labels, count = ndimage.label(mask.numpy(), np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    places = ndimage.find_objects(labels)
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in (places[k] for k in np.argsort(-areas, kind="stable"))]
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)


def within(box: Sequence[float], size: Sequence[int]) -> Bool[Tensor, "height width"]:
    """The pixels whose centers lie in a box: left, top, right, bottom."""
    left, top, right, bottom = box
    rows, columns = (torch.arange(side) + 0.5 for side in size)
    return ((rows >= top) & (rows <= bottom))[:, None] & (columns >= left) & (columns <= right)


def run_lengths(mask: Bool[Tensor, "height width"]) -> list[int]:
    """The lengths of a mask's runs down its columns, from left to right, out and in by turns, as COCO counts them.

    The first is outside: 0 where the first pixel is in.
    """
    values = mask.T.flatten().numpy()
    ends = np.flatnonzero(np.diff(values)) + 1
    lengths: list[int] = np.diff(np.concatenate([[0], ends, [len(values)]])).tolist()
    return [0, *lengths] if values[0] else lengths
