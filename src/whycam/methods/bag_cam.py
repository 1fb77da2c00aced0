from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import channel_sum, pool
from whycam.kit.quantities import Result
from whycam.kit.registry import method
from whycam.kit.status import Status


@method("BagCAM", paper="arXiv:2207.07818")
def bag_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
    scores: Float[Tensor, " batch"],
) -> Result:
    """Add up each channel's products of activation and gradient of the log score, times one plus their mean.

    In parts of the score, not in its units: the gradient of `log(score)` is that of the score divided by it, so a
    score multiplied by 10 gives the same map, and a score plus a constant another. Only positive terms count. Under
    global average pooling the factors differ little from 1; the map then is close to the element-wise Grad-CAM over
    the score.

    A score of 0 or below has no logarithm. Here the gradient is divided by the score's magnitude, so that positive
    values still speak for the target, and the status says so; at 0 the map is 0. The authors' code divides by the score
    itself: below 0 its map shows what speaks against the target.

    The authors' code also passes positive gradients only through every ReLU module above the layer, as guided backprop
    does; here gradients are what they are, which is the same where no ReLU lies between layer and score. It scales the
    map to [0, 1].
    """
    sizes = scores.abs().reshape(-1, *[1] * (activations.ndim - 1))
    products = (activations * gradients / sizes).masked_fill(sizes == 0, 0)
    factors = 1 + pool(products).reshape(*products.shape[:2], *[1] * (products.ndim - 2))
    return Result(channel_sum((factors * products).relu()), status=[_status(score) for score in scores.tolist()])


def _status(score: float) -> Status:
    if score > 0 or score != score:
        return Status()
    return Status(
        "score not positive",
        f"BagCAM takes the logarithm of the score, which is {score:.4g} here; its magnitude stands in for it"
        + (", and at 0 the map is 0." if score == 0 else "."),
    )
