from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from whycam.kit.attention import carried, shares_with_identity
from whycam.kit.quantities import TokenGrid
from whycam.kit.registry import method

#: How the heads of a block become one matrix.
Heads = Literal["mean", "max", "min"]


def _over_heads(attention: Float[Tensor, "batch head query key"], *, heads: Heads) -> Tensor:
    if heads == "mean":
        return attention.mean(1)
    return attention.amax(1) if heads == "max" else attention.amin(1)


@method("Attention rollout", paper="arXiv:2005.00928", fold=_over_heads)
def attention_rollout(
    folds: Sequence[Float[Tensor, "batch _ key"]],
    reading: Float[Tensor, "batch query"],
    token_grid: TokenGrid,
    *,
    heads: Heads = "mean",
) -> Float[Tensor, "batch *spatial"]:
    """Follow attention back from what is read of the last block to the patches, half of each block passing around it.

    The product over the blocks of (mean attention + identity), each row divided by its sum (section 3). In shares:
    over all tokens it sums to 1, and what went to class and register tokens is missing from the map.

    It explains no class and reads no value: what a token holds does not count, only who looks at it. `heads` is how
    the heads become one matrix, `"mean"` in the paper; `"max"` and `"min"` are those of vit-explain, which also throws
    the smallest shares away.

    The authors divide by the row's sum after adding the identity, as here. Read at the class token, or averaged over
    the tokens that the answer is read from; of a learned pool (SigLIP) by that pool's own attention. At a layer before
    the last, the product ends there.
    """
    return token_grid(carried(reading, folds, shares_with_identity))
