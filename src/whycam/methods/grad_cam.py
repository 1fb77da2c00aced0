from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import pool, positive, weighted_sum
from whycam.kit.registry import method


@method("Grad-CAM", paper="arXiv:1610.02391", side="before")
def grad_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
) -> Float[Tensor, "batch *spatial"]:
    """Sum the channels, each weighted by its mean gradient, and keep the positive part (eqs. 1 and 2).

    In units of the score: under global average pooling and one linear layer, the sum before the positive part is
    CAM divided by the number of locations, and adds up over them to the score less its bias.

    Zero everywhere when the score ignores these locations, as after the last block of a ViT read through its class
    token; record an earlier layer there. Zero too where all evidence is negative: use HiResCAM to see it.

    The layer chosen for it lies before the last activation function; in VGG-16 that is `features.28`. The authors look
    behind the ReLU there (relu5_3): `layer="features.29"`.

    The authors' code sums the gradients where the paper takes their mean: the same map times the number of locations.
    """
    return positive(weighted_sum(pool(gradients), activations))
