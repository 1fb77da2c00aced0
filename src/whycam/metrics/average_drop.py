from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import Normalize
from whycam.kit.masked import share_lost
from whycam.kit.masks import Baseline
from whycam.kit.metric import Scores, metric


@metric("Average drop (%)", paper="arXiv:1710.11063", better="lower", values=(0, 100))
def average_drop(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    scores: Float[Tensor, " batch"],
    score: Scores,
    *,
    normalize: Normalize = "max",
    baseline: Baseline = "zero",
) -> Float[Tensor, " batch"]:
    """How much of the probability is lost where the picture is shown through its map, in per cent (Grad-CAM++,
    section 4.1): `100 max(0, S(x) - S(x m)) / S(x)`, with the map `m` scaled to [0, 1].

    A map that is bright everywhere loses nothing: read it beside the controls. Not defined, NaN, where the score is not
    above 0, as scores that are no probability may be.

    Peers: pytorch-grad-cam does not divide by the score; torchcam adds 1e-7 to it and takes logits unless told, whose
    drops may be negative; xplique takes the map's magnitude first, so what speaks against the target counts for it.
    """
    return 100 * share_lost(maps, inputs, scores, score, normalize, baseline)
