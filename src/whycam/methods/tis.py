from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.kit.arrays import generator, lazily
from whycam.kit.options import Count, OpenShare
from whycam.kit.quantities import Score
from whycam.kit.registry import method

#: k-means ends when no point changes its cluster, or after so many rounds.
_ROUNDS = 100


@method("TIS", paper="doi:10.1109/ICCVW60793.2023.00088")
def tis(
    block_outputs: Sequence[Float[Tensor, "batch _ *spatial"]],
    score_tokens: Score,
    *,
    samples: Count = 1024,
    keep: OpenShare = 0.5,
    probability: bool = True,
    seed: int = 0,
) -> Float[Tensor, "batch *spatial"]:
    """Average random choices of a transformer's tokens, each times the score that the network gives to these alone.

    The channels of all blocks, each a vector over the patches, form `samples` clusters by k-means; each cluster's mean
    chooses the `keep` share of the patches at which it is highest. A patch's value is the mean score of the choices
    that hold it. In units of the score, a probability unless `probability=False`. What speaks for the target is where
    the map is high, not where it is positive; a patch in no choice is 0.

    A patch that is not chosen is hidden from all others in every attention, which leaves the network without it, so no
    value has to stand in its place; class and register tokens are always there. Where the network averages its patches,
    those that are not chosen would still be read, and the method is refused.

    Where there are fewer channels than `samples`, each is a cluster. k-means begins with channels drawn by `seed`, the
    same for each sample; the authors' code draws anew in each call. One run for each cluster.
    """
    channels = torch.cat([each.flatten(2) for each in block_outputs], 1)
    chosen = torch.stack([_chosen(_means(each, samples, seed), keep) for each in channels], 1)
    grid = block_outputs[0].shape[2:]
    shown = chosen.to(channels).reshape(len(chosen), len(channels), *grid)
    scores = score_tokens(lazily(lambda number: shown[number], range(len(shown))), probability=probability)
    coverage = shown.sum(0)
    summed = torch.einsum("nb,nb...->b...", scores.to(shown), shown)
    return summed / coverage.where(coverage > 0, coverage.new_ones(()))


def _chosen(means: Float[Tensor, "cluster patch"], keep: float) -> Bool[Tensor, "cluster patch"]:
    """For each cluster the patches of the highest means, at least one."""
    highest = means.topk(max(1, int(keep * means.shape[1])), dim=1).indices
    return torch.zeros_like(means, dtype=torch.bool).scatter(1, highest, True)


def _means(points: Float[Tensor, "point axis"], count: int, seed: int) -> Float[Tensor, "cluster axis"]:
    """The means of k-means' clusters, from points drawn as the first ones; an empty cluster keeps its mean."""
    drawn = torch.randperm(len(points), generator=generator(seed))[:count]
    means = points[drawn.to(points.device)]
    before = torch.full_like(points[:, 0], -1, dtype=torch.long)
    for _ in range(_ROUNDS):
        nearest = torch.cdist(points, means).argmin(1)
        if torch.equal(before, nearest):
            break
        before = nearest
        summed = torch.zeros_like(means).index_add(0, nearest, points)
        sizes = nearest.bincount(minlength=len(means))[:, None]
        means = (summed / sizes.clamp(min=1)).where(sizes > 0, means)
    return means
