from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.quantities import Result, TokenGrid
from whycam.kit.registry import method


def _over_heads(attention: Float[Tensor, "batch head query key"]) -> Tensor:
    return attention.mean(1)


@method("Attention of each head", paper="arXiv:2104.14294", fold=_over_heads)
def raw_attention(
    attention: Float[Tensor, "batch head query key"],
    folds: Sequence[Float[Tensor, "batch _ _"]],
    reading: Float[Tensor, "batch _"],
    token_grid: TokenGrid,
) -> Result:
    """What each head of one block looks at, from the tokens that the answer reads; the map is the heads' mean.

    At a class token its row, as in DINO's figures; where tokens are averaged the mean of their rows; in front of a
    learned pool the rows weighted as that pool weighs them. `parts` has a map of each head, in shares of what the head
    looks at: over all tokens they sum to 1, and what went to class and register tokens is missing from the map.

    It explains no class, and nothing of what other blocks do with the tokens; attention rollout and generic attention
    follow them.
    """
    rows = reading.unsqueeze(1).to(attention)
    if folds[-1].shape[1] != folds[-1].shape[2]:  # a pool, which asks of the tokens what it reads
        rows = rows @ folds[-1]
    heads = (rows.unsqueeze(1) @ attention).squeeze(2)
    parts = torch.stack([token_grid(each) for each in heads.unbind(1)], 1)
    return Result(parts.mean(1), parts, apart="Head")
