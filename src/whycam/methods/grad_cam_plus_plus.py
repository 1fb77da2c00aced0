from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import positive, total, weighted_sum
from whycam.kit.registry import method


@method("Grad-CAM++", paper="arXiv:1710.11063", assumes_non_negative=True)
def grad_cam_plus_plus(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
    *,
    normalize_alpha: bool = False,
) -> Float[Tensor, "batch *spatial"]:
    """Sum the channels, each weighted by its positive gradients times alpha (eq. 19), and keep the positive part.

    Alpha is `1 / (2 + gradient * total activation of the channel)` where the gradient is positive, and 0 elsewhere:
    eq. 19 divided through by the squared gradient, which needs no epsilon. For activations of at least zero, a
    channel's weight lies between 0 and half the sum of its positive gradients, and is at most their number over the
    channel's total.

    Not in units of the score, and not invariant to its scale: a score multiplied by 10 gives another map, not 10
    times this one. Compare maps of one score only.

    The paper explains `exp(score)`; its factor is the same for all channels, overflows in float32 from a score of 89,
    and is left out. Where a signed layer takes the denominator to 0 or below, on which the paper is silent, alpha is
    0. `normalize_alpha=True` does what the authors' code does and the paper does not: it divides a channel's alphas
    by their sum, so that the weight becomes a weighted mean of the positive gradients.
    """
    slopes = gradients.flatten(2).relu()
    denominators = 2 + slopes * total(activations)[..., None]
    weights = (slopes / denominators).masked_fill(denominators <= 0, 0).sum(-1)
    if normalize_alpha:
        alphas = (1 / denominators).masked_fill((slopes <= 0) | (denominators <= 0), 0).sum(-1)
        weights = (weights / alphas).masked_fill(alphas == 0, 0)
    return positive(weighted_sum(weights, activations))
