from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from whycam.kit.attention import carried, shares_with_identity
from whycam.kit.quantities import TokenGrid
from whycam.kit.registry import method


def _positive_product(
    attention: Float[Tensor, "batch head query key"], attention_gradients: Float[Tensor, "batch head query key"]
) -> Tensor:
    return (attention * attention_gradients).mean(1).relu()


@method("Gradient rollout", paper="https://github.com/jacobgil/vit-explain", fold=_positive_product)
def grad_rollout(
    folds: Sequence[Float[Tensor, "batch _ key"]],
    reading: Float[Tensor, "batch query"],
    token_grid: TokenGrid,
) -> Float[Tensor, "batch *spatial"]:
    """Attention rollout with each attention times its gradient, the mean over the heads, its positive part.

    In shares of what is read, like attention rollout. There is no paper; this is what vit-explain set out to compute.
    Its code divides columns by the rows' sums, which shows as soon as it throws small shares away.

    **The scale of the score counts**: the gradient stands beside an identity, so a hundred times the score (CLIP's
    logits beside its cosines) gives another map, correlated by 0.55 on one network. Compare scores of one scale.
    """
    return token_grid(carried(reading, folds, shares_with_identity))
