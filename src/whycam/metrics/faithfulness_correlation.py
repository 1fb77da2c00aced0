from jaxtyping import Float
from torch import Tensor

from whycam.kit.metric import Scores, metric
from whycam.kit.options import Count, OpenShare
from whycam.kit.random_pixels import sums_and_drops
from whycam.kit.removal import Filling


@metric("Faithfulness correlation", paper="arXiv:2005.00631", better="higher", values=(-1, 1), domain="score")
def faithfulness_correlation(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    score: Scores,
    *,
    share: OpenShare = 0.1,
    samples: Count = 100,
    baseline: Filling = "zero",
    seed: int = 0,
) -> Float[Tensor, " batch"]:
    """Whether the map's sum over random pixels goes with what the score loses without them (Bhatt and others):
    Pearson's correlation over sets of one size.

    Pixels are removed in all colors at once; the map has one number for each. Read from the target's own score, which a
    probability near 1 would hide. Not defined, NaN, of a map that is flat, or where the score never moves.

    The map's ranking is not asked but its sums: one that is right up to a curve, or brighter than evidence adds up to,
    loses. 100 sets leave an error of about 0.1 for each sample. They are the same for all maps, and scored once.

    Peers: xplique calls it mu-fidelity, and takes Spearman's correlation over sets of random size; Quantus picks values
    of single colors, 224 of them.
    """
    return sums_and_drops(maps, inputs, score, share=share, samples=samples, baseline=baseline, seed=seed)
