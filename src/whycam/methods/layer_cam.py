from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import channel_sum, positive
from whycam.kit.registry import method


@method("LayerCAM", paper="doi:10.1109/TIP.2021.3089943", assumes_non_negative=True)
def layer_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
) -> Float[Tensor, "batch *spatial"]:
    """Weight each location of each channel by its own positive gradient, sum the channels, keep the positive part.

    In units of the score: under global average pooling and one linear layer it is CAM with the negative head weights
    left out, divided by the number of locations.

    What speaks against the target is never subtracted, so maps of different classes look more alike than those of
    HiResCAM; gridded below a strided convolution or a max-pooling, whose gradient reaches only some locations.

    The last positive part changes nothing for activations of at least zero; the authors' code leaves it out.
    """
    return positive(channel_sum(gradients.relu() * activations))
