import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.metric import Measurement, Scores, metric
from whycam.kit.options import Count, Shares
from whycam.kit.random_pixels import sums_and_drops
from whycam.kit.removal import Filling


@metric("Sensitivity-n", paper="arXiv:1711.06104", better="higher", values=(-1, 1), domain="score")
def sensitivity_n(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    score: Scores,
    *,
    shares: Shares = (0.01, 0.03, 0.1, 0.3, 0.8),
    samples: Count = 50,
    baseline: Filling = "zero",
    seed: int = 0,
) -> Measurement:
    """Faithfulness correlation for sets of several sizes, and its mean over these (Ancona and others).

    A map has sensitivity-n where its sum over any n pixels is what the score loses without them, so that the
    correlation is 1. `curve` is the correlation for each share of the pixels. Read from the target's own score. Not
    defined, NaN, of a map that is flat, or where the score never moves.

    Peers: Quantus' metric of this name is another: it removes the top pixels one after the other, and correlates across
    images, of the first batch alone.
    """
    curve = torch.stack(
        [
            sums_and_drops(maps, inputs, score, share=share, samples=samples, baseline=baseline, seed=seed)
            for share in shares
        ],
        1,
    )
    return Measurement(curve.mean(1), curve, shares)
