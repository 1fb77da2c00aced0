import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.metric import metric


@metric("Sparseness", paper="arXiv:1810.06583", better="higher", values=(0, 1))
def sparseness(maps: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    """How few pixels hold the map: the Gini index of its magnitudes (Chalasani et al., section 4).

    `sum_i (2 i - n - 1) a_i / (n sum_i a_i)` over the `n` magnitudes in ascending order: 0 where all are equal,
    `(n - 1) / n` where one holds everything. Not defined, NaN, for a map that is 0 everywhere.

    It says nothing of whether the map is right: a single random pixel scores best.

    Peers: Quantus adds 1e-7 to the caller's own array, so the map is another one afterwards, and one of zeros scores 0.
    """
    sizes = maps.abs().flatten(1).sort(dim=1).values
    count = sizes.shape[1]
    weights = 2 * torch.arange(1, count + 1, device=sizes.device) - count - 1
    return (weights * sizes).sum(1) / (count * sizes.sum(1))
