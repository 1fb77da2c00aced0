import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whycam.kit.arrays import lazily
from whycam.kit.metric import Measurement, Scores, metric
from whycam.kit.options import Count
from whycam.kit.ranking import area, ranks
from whycam.kit.removal import Filling, Removal
from whycam.kit.superpixels import superpixels


@metric("IROF", paper="arXiv:2003.08747", better="higher", values=(-math.inf, 1))
def irof(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    scores: Float[Tensor, " batch"],
    score: Scores,
    *,
    segments: Count = 100,
    baseline: Filling = "mean",
    seed: int = 0,
) -> Measurement:
    """Remove superpixels one after the other, those of the highest mean first, and give the area over the curve of the
    probability, in parts of the whole picture's (Rieger and Hansen).

    Neighboring pixels say much the same, so that whole pieces of the picture go: SLIC's, about `segments` of them, in
    whose place is the picture's mean color. The curve begins with nothing removed and ends with all, and its area is
    divided by the number of pieces, so that pictures of more pieces weigh no more. `parts` holds that number.

    Below 0 where the probability rises on the way. Not defined, NaN, where the score is not above 0.

    Peers: Quantus leaves out the first point and does not divide, and fails on pictures in color.
    """
    pieces = superpixels(inputs, segments)
    numbers = (pieces.flatten(1).amax(1) + 1).tolist()
    turn = torch.stack([_turns(*each, seed) for each in zip(maps, pieces, strict=True)])
    removal = Removal(inputs, baseline, seed=seed)
    # a picture of fewer pieces than others stays as it is then
    rest = score(lazily(lambda gone: removal.without(turn < gone), range(1, max(numbers) + 1)))
    curve = (torch.cat([scores[None], rest]) / scores).mT
    under = [area(own[None, : n + 1], [k / n for k in range(n + 1)]) for own, n in zip(curve, numbers, strict=True)]
    values = (1 - torch.cat(under)).where(scores > 0, torch.nan)
    return Measurement(values, parts={"segments": values.new_tensor(numbers)})


def _turns(values: Float[Tensor, "*space"], pieces: Int[Tensor, "*space"], seed: int) -> Int[Tensor, "*space"]:
    """When each pixel's piece goes, from 0; pieces of one mean in an order that no other picture changes."""
    places = pieces.flatten()
    means = places.bincount(values.flatten()) / places.bincount()
    return ranks(means[None], seed=seed)[0][pieces]
