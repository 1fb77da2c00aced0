import itertools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import WhycamError
from whycam.kit.arrays import lazily
from whycam.kit.masks import Baseline, stand_in
from whycam.kit.quantities import Score
from whycam.kit.registry import method

#: Pixels along every axis (an int), a share of each axis (a float), or one of these for each axis.
Extent: TypeAlias = int | float | Sequence[int | float]


@method("Occlusion", paper="arXiv:1311.2901")
def occlusion(
    inputs: Float[Tensor, "batch color *space"],
    score: Score,
    *,
    window: Extent = 0.2,
    stride: Extent | None = None,
    baseline: Baseline = "zero",
    probability: bool = True,
) -> Float[Tensor, "batch *space"]:
    """Slide a window of nothing over the input, and give each pixel the mean drop of the score over the windows on it.

    In units of the score, a probability unless `probability=False`. Positive where hiding lowers the score; under a
    score that is linear in the inputs each value is the mean sum of `weight * (input - baseline)` over the windows.

    `window` and `stride` are in pixels, or as floats in shares of each axis; a stride is half the window unless given.
    The default window of a fifth of each axis takes 81 to 100 runs for a picture. Whatever is smaller than the window
    is smeared over it; evidence found twice in the picture shows nowhere, as one window leaves the other standing.

    Zeiler and Fergus draw the probability over the place of a gray square (section 4.2; no code), so that evidence is
    dark. Here it is the drop, and windows that overlap are averaged, both as in captum: the first window lies in the
    corner, the last of each axis may be cut off by the border. `baseline` fills the window: 0 is the data set's mean
    color in normalized inputs.
    """
    space = inputs.shape[2:]
    windows = _pixels("window", window, space)
    strides = [math.ceil(side / 2) for side in windows] if stride is None else _pixels("stride", stride, space)
    for wide, step, length in zip(windows, strides, space, strict=True):
        if step > wide < length:
            raise WhycamError(f"a stride of {step} pixels leaves gaps between windows of {wide}.")
    axes = [
        [slice(start, start + wide) for start in range(0, length - wide + step, step)]
        for wide, step, length in zip(windows, strides, space, strict=True)
    ]
    places: list[tuple[Any, ...]] = [(..., *place) for place in itertools.product(*axes)]
    behind = stand_in(inputs, baseline)

    def hide(place: tuple[Any, ...] | None) -> Tensor:
        if place is None:
            return inputs
        variant = inputs.clone()
        variant[place] = behind[place]
        return variant

    # what nothing hides is scored beside the rest, so that all scores come from batches of one kind
    whole, *hidden = score(lazily(hide, [None, *places]), probability=probability).to(inputs)
    maps = torch.zeros_like(inputs[:, 0])
    covered = torch.zeros_like(inputs[0, 0])
    for place, left in zip(places, hidden, strict=True):
        maps[place] += (whole - left).reshape(-1, *[1] * len(space))
        covered[place] += 1
    return maps / covered


def _pixels(name: str, extent: Extent, space: Sequence[int]) -> list[int]:
    """The extent along each axis in pixels, at least one."""
    extents: list[Any] = list(extent) if isinstance(extent, (list, tuple)) else [extent] * len(space)
    if len(extents) != len(space):
        raise WhycamError(f"{name} has {len(extents)} numbers for inputs with {len(space)} spatial axes.")
    for each, length in zip(extents, space, strict=True):
        number = isinstance(each, (int, float)) and not isinstance(each, bool)
        if not number or not 0 < each <= (1 if isinstance(each, float) else length):
            raise WhycamError(
                f"{name} is a number of pixels, at most {length} here, or a share above 0 and up to 1, not {each!r}."
            )
    return [
        max(1, round(each * length)) if isinstance(each, float) else each
        for each, length in zip(extents, space, strict=True)
    ]
