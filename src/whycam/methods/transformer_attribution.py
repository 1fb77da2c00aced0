from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from whycam.kit.attention import carried, with_identity
from whycam.kit.quantities import TokenGrid
from whycam.kit.registry import method


def _mean_of_positive(
    attention_relevance: Float[Tensor, "batch head query key"],
    attention_gradients: Float[Tensor, "batch head query key"],
) -> Tensor:
    return (attention_relevance * attention_gradients).relu().mean(1)


@method("Transformer attribution", paper="arXiv:2012.09838", fold=_mean_of_positive)
def transformer_attribution(
    folds: Sequence[Float[Tensor, "batch _ key"]],
    reading: Float[Tensor, "batch query"],
    token_grid: TokenGrid,
) -> Float[Tensor, "batch *spatial"]:
    """Chefer 1: the product over the blocks of identity + the heads' mean of positive (relevance times gradient).

    Relevance of a block's attention is what of the score comes back to it by rules of its own (section 3.1): linear
    layers hand back by their positive products, two branches in proportion to their magnitudes in each sample, and of a
    product each factor gets half. The authors' code adds the branches up over the whole batch, which is the same for
    one image. Products of blocks are equations 13 and 14, not normalized.

    One forward and two backwards for each target. **The scale of the score counts**, twice, since relevance and
    gradient both have it and stand beside an identity: a hundred times the score gives another map.

    Shares are parts of sums that may come near zero, so rounding counts: in bfloat16 the map of a small ViT is off by
    as much as its largest value. Explain the network in float32.

    The rules are those of a ViT: linear layers, GELU, layer normalization and softmax. Gates (SwiGLU) share equally and
    what multiplies by numbers that are not the input's (rotary embeddings, layer scale) passes relevance on, which the
    paper does not treat. Layer-wise relevance propagation is, as the authors of one library of it state, patented and
    free for personal and scientific use alone.
    """
    return token_grid(carried(reading, folds, with_identity))
