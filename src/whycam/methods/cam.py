from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import weighted_sum
from whycam.kit.registry import method


@method("CAM", paper="arXiv:1512.04150")
def cam(
    activations: Float[Tensor, "batch channel *spatial"],
    head_weights: Float[Tensor, "batch channel"],
) -> Float[Tensor, "batch *spatial"]:
    """Sum the channels, each weighted as the linear head weighs it for the target, signed.

    In units of the score times the number of locations: where the network averages these activations over space and
    applies that one linear layer, the mean over the map is the score less its bias.

    Defined for such networks only, at the layer that is pooled; with another layer or a deeper head the weights do
    not belong to the channels. Grad-CAM needs neither and gives the same map there, divided by the number of
    locations, its negative part dropped.

    The authors' code rescales each map to [0, 1], which hides where zero lies; raw values are kept here.
    """
    return weighted_sum(head_weights, activations)
