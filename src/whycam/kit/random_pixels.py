"""Random sets of pixels, for metrics that ask whether a map adds up to what the score loses without them."""

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import generator, lazily
from whycam.kit.likeness import pearson
from whycam.kit.metric import Scores
from whycam.kit.removal import Filling, Removal


def sums_and_drops(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    score: Scores,
    *,
    share: float,
    samples: int,
    baseline: Filling,
    seed: int,
) -> Float[Tensor, " batch"]:
    """How the map's sum over random sets of pixels goes with what the score loses without them: Pearson's correlation.

    All sets hold `share` of the pixels, one at least, and are the same for each sample. What is left of the score does
    not hang on the map, and is asked once for all methods and metrics.
    """
    pixels = maps[0].numel()
    count = max(1, round(share * pixels))
    sets = [
        torch.randperm(pixels, generator=generator(seed, number))[:count].to(maps.device) for number in range(samples)
    ]
    removal = Removal(inputs, baseline, seed=seed)

    def variant(key: tuple[str, int, int, Filling, int]) -> Tensor:
        gone = torch.zeros_like(maps, dtype=torch.bool)
        gone.flatten(1)[:, sets[key[2]]] = True
        return removal.without(gone)

    over = [("random pixels", count, number, baseline, seed) for number in range(samples)]
    left = score(lazily(variant, over, shared=True))
    return pearson(torch.stack([maps.flatten(1)[:, each].sum(1) for each in sets], 1), -left.mT)
