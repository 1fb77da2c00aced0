from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from whycam.kit.attention import carried, with_identity
from whycam.kit.quantities import TokenGrid
from whycam.kit.registry import method


def _mean_of_positive(
    attention: Float[Tensor, "batch head query key"], attention_gradients: Float[Tensor, "batch head query key"]
) -> Tensor:
    return (attention * attention_gradients).relu_().mean(1)


@method("Generic attention explainability", paper="arXiv:2103.15679", fold=_mean_of_positive)
def generic_attention(
    folds: Sequence[Float[Tensor, "batch _ key"]],
    reading: Float[Tensor, "batch query"],
    token_grid: TokenGrid,
) -> Float[Tensor, "batch *spatial"]:
    """Chefer 2: the product over the blocks of identity + the heads' mean of positive (attention times its gradient).

    Equations 5 and 6 for self-attention, not normalized. Where the answer is read from several tokens, each of their
    rows counts alike, whatever weight the answer gives it. A token's own share of the identity is in the map only where
    a patch itself is read. Where no gradient is positive the product is the identity, and the map is flat.

    **The scale of the score counts**, since the gradient stands beside an identity: a hundred times the score (CLIP's
    logits beside its cosines) gives another map, correlated by 0.975 on one network. The authors' CLIP demo explains
    logits, so times the model's scale.

    Attention between two inputs (equations 7 to 11, DETR's queries, text that looks at a picture) is not followed.
    """
    return token_grid(carried(reading, folds, with_identity))
