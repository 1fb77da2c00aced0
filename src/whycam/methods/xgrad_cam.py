import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import positive, total, weighted_sum
from whycam.kit.registry import method


@method("XGrad-CAM", paper="arXiv:2008.02312", assumes_non_negative=True)
def xgrad_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
) -> Float[Tensor, "batch *spatial"]:
    """Sum the channels, each weighted by its mean gradient as weighted by its activations, and keep the positive part.

    In units of the score: before the positive part the map adds up to the sum of gradient times activation, which
    under global average pooling and one linear layer is the score less its bias.

    Built for activations of at least zero. A signed channel (after BatchNorm, SiLU, GELU or LayerNorm) can sum to
    almost nothing while its numerator is large, and that one channel then decides the picture: use HiResCAM, which
    divides by nothing and has the same total.

    A channel that sums to exactly 0 gets weight 0. The authors' code adds 1e-6 to the sum instead, which shrinks the
    weights of channels that are weak throughout.
    """
    totals = total(activations)
    attributed = total(gradients * activations)
    return positive(weighted_sum(torch.where(totals == 0, 0 * attributed, attributed / totals), activations))
