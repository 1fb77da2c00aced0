from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import channel_sum, precise
from whycam.kit.options import NonNegative
from whycam.kit.registry import method


@method("FEM", paper="doi:10.1109/IPTA50016.2020.9286629", assumes_non_negative=True)
def fem(
    activations: Float[Tensor, "batch channel *spatial"],
    *,
    k: NonNegative = 2.0,
) -> Float[Tensor, "batch *spatial"]:
    """Mark where each channel lies more than k standard deviations above its mean, and add its mean there.

    In units of the activations: each value is the sum of the means of the channels that stand out at that location,
    hence between 0 and the sum of all means for activations of at least zero.

    No value can lie more than k deviations above the mean of `k ** 2 + 1` values or fewer: with the default, a layer
    of 2 x 2 gives an empty map. Enlarge the input or lower k.

    The deviation is over all locations (divided by their number), and a value at the threshold does not count, as in
    the copies of the authors' notebook; xplique counts it, so that a constant channel marks everything.
    pytorch-grad-cam computes something else under this name: activations weighted by the marked fraction.
    """
    values = precise(activations).flatten(2)
    means = values.mean(-1, keepdim=True)
    unusual = values > means + k * values.std(-1, correction=0, keepdim=True)
    varied = values.amax(-1, keepdim=True) > values.amin(-1, keepdim=True)  # a constant's mean may round below it
    return channel_sum(means * (unusual & varied)).to(activations.dtype).reshape_as(activations[:, 0])
