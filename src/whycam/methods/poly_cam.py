from functools import lru_cache
from itertools import product
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily, resize
from whycam.kit.masks import Baseline, shown, stand_in, to_unit, varying, weigh_channels
from whycam.kit.quantities import Result, Score
from whycam.kit.registry import method

#: What is clipped off at both ends of a channel's values before they are scaled to a mask.
CLIPPED = 0.001


@method("Poly-CAM", paper="arXiv:2204.13359", fusion="poly", stages=5)
def poly_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    inputs: Float[Tensor, "batch color *space"],
    score: Score,
    *,
    weights: Literal["plus", "minus", "both"] = "both",
    probability: bool = True,
    baseline: Baseline = "zero",
) -> Result:
    """Sum the channels, each weighted by what its mask shows of the score and what its inverse takes from it.

    With `p` the class's probability, `"plus"` (PCAM+) weighs by `p(masked)`, `"minus"` (PCAM-) by the positive part of
    `p(input) - p(inversely masked)`, `"both"` (PCAM+/-) by that of `p(masked) + p(input) - p(inversely masked)`. One
    run per channel that is not flat, two for `"both"`, and one more. The positive part of the sum is kept. In units of
    the probability times the activations; `effective_channels` says how many channels decide.

    This is the map of one layer. The method is in the product of several, from coarse to fine, which the fusion
    `"poly"` makes; unless layers are named it takes the last five stages, as the authors do in VGG and ResNet. Most
    runs go into the widest layer, which is the last.

    Masks are those of the authors' code: a channel is clipped at its 0.1 and 99.9 percentiles, scaled to [0, 1] and
    then resized (Score-CAM resizes first). It divides by the upper percentile, here by the range, which is the same
    where the channel goes down to 0 and keeps signed ones in [0, 1]. `probability=False` takes the target's own score.
    """
    maps = varying(activations)
    behind, size = stand_in(inputs, baseline), inputs.shape[2:]
    sides = {"plus": (True,), "minus": (False,), "both": (True, False)}[weights]

    @lru_cache(maxsize=1)  # both sides of one channel follow each other
    def mask(channel: int) -> Tensor:
        return resize(to_unit(_clipped(maps[:, channel])), size)

    def variant(each: tuple[int, bool] | None) -> Tensor:
        if each is None:
            return inputs
        channel, kept = each
        return shown(inputs, mask(channel) if kept else 1 - mask(channel), behind)

    variants = lazily(variant, [None, *product(range(maps.shape[1]), sides)])
    scores = score(variants, probability=probability)
    whole, *parts = scores[0], *rearrange(scores[1:], "(channel side) batch -> side channel batch", side=len(sides))
    if weights == "plus":
        gains = parts[0]
    elif weights == "minus":
        gains = (whole - parts[0]).relu()
    else:
        gains = (parts[0] + whole - parts[1]).relu()
    return weigh_channels(maps, gains, softmax=False)


def _clipped(maps: Float[Tensor, "batch *spatial"]) -> Float[Tensor, "batch *spatial"]:
    flat = maps.flatten(1)
    ends = flat.new_tensor([CLIPPED, 1 - CLIPPED])
    low, high = torch.stack([row.quantile(ends) for row in flat], 1)[..., None]  # row by row: it has a largest size
    return flat.clamp(low, high).reshape_as(maps)
