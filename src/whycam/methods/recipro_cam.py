from itertools import product
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily
from whycam.kit.masks import window
from whycam.kit.quantities import Score
from whycam.kit.registry import method

#: What is left of the layer in each run: one location; its values spread over the locations around it; or these with
#: values of their own.
Show = Literal["location", "spread", "neighbors"]


@method("Recipro-CAM", paper="arXiv:2209.14074")
def recipro_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    score_from: Score,
    *,
    show: Show = "location",
    probability: bool = True,
) -> Float[Tensor, "batch *spatial"]:
    """Score each location alone, everything else at the layer set to 0.

    In units of the score: of the class's probability, as in the authors' code, or with `probability=False` of the
    target's own score, as in OpenVINO's. Nothing is subtracted: a location that says nothing has the score of an empty
    layer and not 0, so look at differences (`normalize="minmax"`, which the authors apply). Under global average
    pooling and one linear layer the score is CAM divided by the number of locations, plus the bias.

    Flat where one location is too little for the network to see anything in: early layers, large grids. `show` says
    what is left of the layer. The 3 x 3 window is Gaussian (1/4 in the middle, 1/8 beside it, 1/16 at the corners, and
    the like in one and three dimensions) and is cut off at the border. With `"spread"` it holds the values of the
    location in its middle, as in the authors' code (which has it switched off), with `"neighbors"` each location's
    own, as OpenVINO has it for transformers. What no map shows, such as class tokens, stays as it is.

    Every sample has its own class; the authors' code explains the first sample's for all. Runs the part above the
    layer once for every location.
    """
    space = activations.shape[2:]

    def alone(location: tuple[int, ...]) -> Tensor:
        kept = torch.zeros_like(activations)
        for place, share in window(location, space) if show != "location" else [(location, 1.0)]:
            at: tuple[Any, ...] = (..., *place)
            source: tuple[Any, ...] = at if show == "neighbors" else (..., *location)
            kept[at] = activations[source] * share
        return kept

    scores = score_from(lazily(alone, list(product(*map(range, space)))), probability=probability)
    return scores.mT.reshape_as(activations[:, 0])
