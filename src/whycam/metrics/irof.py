import math

import torch
from jaxtyping import Float
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
    pieces = superpixels(inputs, segments).flatten(1)
    numbers = pieces.amax(1) + 1
    sums, sizes = (maps.new_zeros(len(maps), int(numbers.max())) for _ in range(2))
    sums.scatter_add_(1, pieces, maps.flatten(1))
    sizes.scatter_add_(1, pieces, torch.ones_like(maps.flatten(1)))
    # those that a picture does not have come last: it stays as it is then
    means = (sums / sizes).where(sizes > 0, -torch.inf)
    turn = ranks(means, seed=seed).gather(1, pieces).reshape_as(maps)
    removal = Removal(inputs, baseline, seed=seed)
    rest = score(lazily(lambda gone: removal.without(turn < gone), range(1, int(numbers.max()) + 1)))
    curve = (torch.cat([scores[None], rest]) / scores).mT
    over = [
        1 - area(own[None, : n + 1], [k / n for k in range(n + 1)])[0]
        for own, n in zip(curve, numbers.tolist(), strict=True)
    ]
    return Measurement(torch.stack(over).where(scores > 0, torch.nan), parts={"segments": numbers.double()})
