from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import SAME, Normalize
from whycam.kit.masked import masked_score
from whycam.kit.masks import Baseline
from whycam.kit.metric import Scores, metric


@metric("Increase in confidence (%)", paper="arXiv:1710.11063", better="higher", values=(0, 100))
def increase_in_confidence(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    scores: Float[Tensor, " batch"],
    score: Scores,
    *,
    normalize: Normalize = "max",
    baseline: Baseline = "zero",
) -> Float[Tensor, " batch"]:
    """How often the probability is higher where the picture is shown through its map, in per cent (Grad-CAM++,
    section 4.1): 100 for a sample with `S(x m) > S(x)`, and 0 otherwise, with the map `m` scaled to [0, 1].

    How much higher is not counted: `average_gain` does that. What rounding may change from one run of a network to the
    next, 1.2e-5 of the score, is no increase, so a map of ones has none.

    Peers: torchcam and pytorch-grad-cam agree up to the score that they are given, logits unless told; xplique takes
    the map's magnitude first.
    """
    shown = masked_score(maps, inputs, score, normalize, baseline)
    return 100 * (shown - scores > SAME[0] * scores.abs()).to(scores)
