from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import total, weighted_sum
from whycam.kit.registry import method


@method("LIFT-CAM", paper="arXiv:2102.05228", assumes_non_negative=True)
def lift_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    contributions: Float[Tensor, "batch channel *spatial"],
) -> Float[Tensor, "batch *spatial"]:
    """Sum the channels, each weighted by its DeepLIFT contribution to the score, and keep the positive part.

    The weights are in units of the score and add up to the score less that of a layer of zeros (class tokens take their
    share of it); they stand for the Shapley values of the channels, at the price of one backward pass. The map is
    weights times activations. Under global average pooling and one linear layer the weights are CAM's times each
    channel's mean, as Ablation-CAM's are up to a factor.

    A channel counts as a whole: its contribution, summed over the locations, is spread over them by its activations,
    so a channel that speaks for the target in one place and against it in another cancels. What each location
    contributes is in the contributions themselves.

    Zero where no channel contributes to the target. Formula and positive part are the authors' code's, which lets
    captum compute the contributions of the part above the layer.
    """
    return weighted_sum(total(contributions), activations).relu()
