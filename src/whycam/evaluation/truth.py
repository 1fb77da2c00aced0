"""Where the targets are, as callers say it: masks or boxes, one for each sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.errors import InputError
from whycam.kit.regions import around, within


def as_masks(masks: Any, boxes: Any, samples: int, size: Sequence[int]) -> Bool[Tensor, "batch *space"]:
    """Masks of the input's size; from boxes, the pixels whose centers lie in one.

    Raises:
        InputError: another number, another size, or boxes for other than pictures.
    """
    if masks is not None:
        found = entries("masks", masks)
        if len(found) != samples or any(each.shape != tuple(size) for each in found):
            shapes = ", ".join(sorted({str(tuple(each.shape)) for each in found}))
            raise InputError(
                f"masks holds {len(found)} of shape {shapes}; where the targets are takes one for each of {samples} "
                f"samples, of the input's shape {tuple(size)}."
            )
        return torch.stack([each.cpu() != 0 for each in found])
    if len(size) != 2:
        raise InputError(f"boxes lie in pictures, and the input has {len(size)} axes; pass masks=.")
    made = torch.zeros(samples, *size, dtype=torch.bool)
    for mask, own in zip(made, as_boxes(boxes, None, samples), strict=True):
        for box in own.tolist():
            mask |= within(box, size)
    return made


def as_boxes(boxes: Any, masks: Any, samples: int) -> list[Float[Tensor, "_ 4"]]:
    """For each sample its boxes; from masks, the one around each.

    Raises:
        InputError: another number of samples, other than four numbers, or boxes whose ends are turned round.
    """
    if boxes is None:
        return [around(each != 0) for each in entries("masks", masks)]
    found = [each.double() for each in entries("boxes", boxes)]
    if len(found) != samples or any(each.numel() % 4 for each in found):
        raise InputError(
            f"boxes has for each of {samples} samples (box, 4): left, top, right, bottom in pixels of the input."
        )
    made = [each.reshape(-1, 4) for each in found]
    if turned := [own.tolist() for each in made for own in each if not bool((own[:2] <= own[2:]).all())]:
        raise InputError(
            f"boxes are left, top, right, bottom, and {turned[0]} ends before it begins. From left, top, width, height "
            "add the first two to the others."
        )
    return made


def entries(name: str, values: Any) -> list[Tensor]:
    """What there is for each sample, as tensors, whatever holds it.

    Raises:
        InputError: something else than numbers.
    """
    try:
        return [each if isinstance(each, Tensor) else torch.from_numpy(np.array(each)) for each in values]
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds something else than numbers, or rows of different lengths: {error}") from None
