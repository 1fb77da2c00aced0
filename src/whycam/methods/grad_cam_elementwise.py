from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import channel_sum
from whycam.kit.registry import method


@method("Grad-CAM element-wise", paper="pytorch-grad-cam")
def grad_cam_elementwise(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
) -> Float[Tensor, "batch *spatial"]:
    """Multiply gradients and activations location by location, keep the positive products, and sum the channels.

    In units of the score: HiResCAM's map without its negative terms, hence nowhere below it. For activations of at
    least zero it equals LayerCAM.

    Rarely near zero: with many channels of either sign some product is positive everywhere, which shows as a haze
    over the whole image.

    A variant of the library pytorch-grad-cam, without a paper.
    """
    return channel_sum((gradients * activations).relu())
