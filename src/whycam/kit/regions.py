"""The bright part of a map: as a mask, the box around it, and the lengths of its runs."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


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


def run_lengths(mask: Bool[Tensor, "height width"]) -> list[int]:
    """The lengths of a mask's runs down its columns, from left to right, out and in by turns, as COCO counts them.

    The first is outside: 0 where the first pixel is in.
    """
    values = mask.T.flatten().numpy()
    ends = np.flatnonzero(np.diff(values)) + 1
    lengths: list[int] = np.diff(np.concatenate([[0], ends, [len(values)]])).tolist()
    return [0, *lengths] if values[0] else lengths
