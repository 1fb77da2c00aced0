from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.options import Count
from whycam.kit.quantities import TokenGrid
from whycam.kit.registry import method


def _positive_mean(layer_attention_gradients: Float[Tensor, "batch head query key"]) -> Tensor:
    return layer_attention_gradients.relu().mean(1).mean(1)


@method("LeGrad", paper="arXiv:2404.03214", fold=_positive_mean)
def legrad(
    folds: Sequence[Float[Tensor, "batch key"]],
    token_grid: TokenGrid,
    *,
    blocks: Count | None = None,
) -> Float[Tensor, "batch *spatial"]:
    """Average, over the blocks, the positive gradient at each block's attention of what that block alone would answer.

    Each block has a score of its own: what the network answers if the mean of the block's tokens, class and register
    tokens among them, is all that its last block returns (section 3.1). Its gradient at the block's attention is cut at
    zero and averaged over heads and queries. The attention itself is not multiplied in. In units of the score; the
    scale of the score changes the map's scale alone.

    `blocks` is how many of the last blocks are averaged: all by default, as in the paper's text; the authors' code
    takes the last two. They divide the sum by nothing and scale it by its minimum and maximum.

    Costs one forward and half a backward, and a run of what follows the last block for every block.
    """
    chosen = folds[-blocks:] if blocks is not None else folds
    return token_grid(torch.stack(list(chosen)).mean(0))
