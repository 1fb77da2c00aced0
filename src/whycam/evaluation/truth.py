"""Where the targets are, as callers say it: masks or boxes, one for each sample."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.errors import InputError


def as_masks(masks: Any, boxes: Any, samples: int, size: Sequence[int]) -> Bool[Tensor, "batch *space"]:
    """Masks of the input's size; from boxes, the pixels whose centers lie in one.

    Raises:
        InputError: another number, another size, or boxes for other than pictures.
    """
    if masks is not None:
        several = isinstance(masks, (list, tuple))
        found = torch.stack([torch.as_tensor(each) for each in masks]) if several else torch.as_tensor(masks)
        if found.shape != (samples, *size):
            raise InputError(
                f"masks has shape {tuple(found.shape)}; where the target is takes (batch, *space), {(samples, *size)}."
            )
        return found != 0
    if len(size) != 2:
        raise InputError(f"boxes lie in pictures, and the input has {len(size)} axes; pass masks=.")
    rows, columns = (torch.arange(side) + 0.5 for side in size)
    made = torch.zeros(samples, *size, dtype=torch.bool)
    for mask, own in zip(made, as_boxes(boxes, None, samples), strict=True):
        for left, top, right, bottom in own.tolist():
            inside = (rows >= top) & (rows <= bottom)
            mask |= inside[:, None] & (columns >= left) & (columns <= right)
    return made


def as_boxes(boxes: Any, masks: Any, samples: int) -> list[Float[Tensor, "_ 4"]]:
    """For each sample its boxes; from masks, the one around each.

    Raises:
        InputError: another number of samples, or other than four numbers.
    """
    if boxes is None:
        return [_around(torch.as_tensor(each) != 0) for each in masks]
    found = [torch.as_tensor(each, dtype=torch.float64) for each in boxes]
    if len(found) != samples or any(each.numel() % 4 for each in found):
        raise InputError(
            f"boxes has for each of {samples} samples (box, 4): left, top, right, bottom in pixels of the input."
        )
    return [each.reshape(-1, 4) for each in found]


def _around(mask: Tensor) -> Tensor:
    if mask.ndim != 2 or not bool(mask.any()):
        return torch.zeros(0, 4, dtype=torch.float64)
    rows, columns = (mask.any(axis).nonzero().flatten() for axis in (1, 0))
    return torch.tensor([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], dtype=torch.float64)
