from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import Normalize
from whycam.kit.masked import masked_score
from whycam.kit.masks import Baseline
from whycam.kit.metric import Scores, metric


@metric("Average gain (%)", paper="arXiv:2301.07002", better="higher", values=(0, 100))
def average_gain(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    scores: Float[Tensor, " batch"],
    score: Scores,
    *,
    normalize: Normalize = "max",
    baseline: Baseline = "zero",
) -> Float[Tensor, " batch"]:
    """How much of what the probability lacks of 1 is gained where the picture is shown through its map, in per cent
    (Opti-CAM): `100 max(0, S(x m) - S(x)) / (1 - S(x))`, with the map `m` scaled to [0, 1].

    The counterpart of average drop: a map that keeps the picture whole has neither. Not defined, NaN, where the score
    is not below 1: of a probability that is 1 already, or of scores that are none.
    """
    shown = masked_score(maps, inputs, score, normalize, baseline)
    return (100 * (shown - scores).clamp(min=0) / (1 - scores)).where(scores < 1, scores.new_tensor(float("nan")))
