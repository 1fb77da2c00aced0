"""Steps that methods of attention share: products from block to block, read as the score reads the last."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def carried(
    reading: Float[Tensor, "batch query"],
    blocks: Sequence[Float[Tensor, "batch _ key"]],
    step: Callable[[Tensor], Tensor],
) -> Float[Tensor, "batch token"]:
    """The rows that the score reads of `step(last) ... step(second) step(first)`, averaged as it reads them.

    A row vector is carried from the last block down, so no product of two matrices is made. `step` is what a block
    whose tokens ask each other does; a pool behind the blocks, whose queries are no tokens, counts as it is.
    """
    rows = reading.unsqueeze(1).to(blocks[0])
    for each in reversed(blocks):
        rows = rows @ (step(each) if each.shape[1] == each.shape[2] else each)
    return rows.squeeze(1)


def with_identity(block: Float[Tensor, "batch token token"]) -> Float[Tensor, "batch token token"]:
    """The block and the path around it, which hands every token on."""
    return block + torch.eye(block.shape[-1], dtype=block.dtype, device=block.device)


def shares_with_identity(block: Float[Tensor, "batch token token"]) -> Float[Tensor, "batch token token"]:
    """The same with each row divided by its sum; 0 where that is 0."""
    block = with_identity(block)
    totals = block.sum(-1, keepdim=True)
    return (block / totals).where(totals != 0, block.new_zeros(()))
