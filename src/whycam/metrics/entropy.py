import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.metric import metric


@metric("Entropy", paper="arXiv:2005.00631", better="lower", values=(0, float("inf")))
def entropy(maps: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    """How many pixels the map spreads over: the entropy of its magnitudes as shares of their sum, in nats (Bhatt et
    al., section 3.3, "complexity").

    `-sum_i p_i log p_i` with `p_i = |m_i| / sum_j |m_j|`: 0 where one pixel holds everything, the logarithm of the
    number of pixels where all are equal. Not defined, NaN, for a map that is 0 everywhere.

    Peers: Quantus takes the logarithm of signed values, which is NaN for any map that is negative somewhere, and
    divides the caller's own array.
    """
    sizes = maps.abs().flatten(1)
    spread: Tensor = torch.special.entr(sizes / sizes.sum(1, keepdim=True))
    return spread.sum(1)
