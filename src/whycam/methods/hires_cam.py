from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import channel_sum
from whycam.kit.registry import method


@method("HiResCAM", paper="arXiv:2011.08891")
def hires_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
) -> Float[Tensor, "batch *spatial"]:
    """Multiply gradients and activations location by location and sum over the channels, signed.

    In units of the score: under global average pooling and one linear layer the map adds up to the score less its
    bias, and wherever the layers above are linear each value is that location's share of it.

    Gridded below a strided convolution or a max-pooling, whose gradient reaches only some locations. Near zero in
    total just before a normalization that ignores scale: what it adds in one place it takes in another.

    No positive part is taken, as in the authors' code: negative values speak against the target.
    """
    return channel_sum(gradients * activations)
