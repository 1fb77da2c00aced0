from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily
from whycam.kit.masks import window
from whycam.kit.quantities import Score
from whycam.kit.registry import method


@method("ViT-ReciproCAM", paper="arXiv:2310.02588")
def vit_recipro_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    score_dimmed: Score,
    *,
    gaussian: bool = True,
    probability: bool = False,
) -> Float[Tensor, "batch *spatial"]:
    """Score each place of a transformer alone: the tokens around it dimmed by a window, all others 0.

    The window is Gaussian over 3 x 3 tokens: 1/4 in the middle, 1/8 beside it, 1/16 at the corners, cut off at the
    border; `gaussian=False` leaves one token as it is. It is laid on the tokens that come to a block and, by itself, on
    what the block's norm makes of them: a norm brings every token back to one length, and would take away a factor on
    the tokens alone. Class and register tokens stay as they are. The usual layer is what the last block is given, as in
    OpenVINO's code, which this follows.

    In units of the score, or of the class's probability with `probability=True`. Nothing is subtracted, so look at
    differences: what the class token says by itself is in every value. Runs the part above the layer once for each
    token.
    """
    space = activations.shape[2:]

    def alone(location: tuple[int, ...]) -> Tensor:
        factors = torch.zeros_like(activations[:, 0])
        for place, share in window(location, space) if gaussian else [(location, 1.0)]:
            at: tuple[Any, ...] = (..., *place)
            factors[at] = share
        return factors

    scores = score_dimmed(lazily(alone, list(product(*map(range, space)))), probability=probability)
    return scores.mT.reshape_as(activations[:, 0])
