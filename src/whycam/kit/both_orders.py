"""Pictures without a share of their pixels: those of most evidence, and those of least."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily
from whycam.kit.metric import Answers
from whycam.kit.ranking import ranks
from whycam.kit.removal import Filling, Removal


def without_most_and_least(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    answers: Answers,
    shares: Sequence[float],
    baseline: Filling,
    seed: int,
) -> tuple[Float[Tensor, "2 share batch"], Float[Tensor, "2 share batch"]]:
    """The scores, and whether the target is the top class: first without the most relevant pixels, then without the
    least. Exactly `int(share * pixels)` of them are removed. Asked once for all metrics that want the same.
    """
    rank, removal = ranks(maps, seed=seed), Removal(inputs, baseline, seed=seed)
    pixels = rank[0].numel()

    def variant(key: tuple[Tensor, bool, int, Filling, int]) -> Tensor:
        _, least, count, *_ = key
        return removal.without(rank >= pixels - count if least else rank < count)

    over = [(maps, least, int(share * pixels), baseline, seed) for least in (False, True) for share in shares]
    scores, tops = answers(lazily(variant, over, shared=True))
    return torch.stack(scores.chunk(2)), torch.stack(tops.chunk(2))
