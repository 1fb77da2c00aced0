"""How alike two maps are, pixel by pixel."""

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import center_rows


def pearson(one: Float[Tensor, "batch *space"], other: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    """The correlation of their values; NaN where a map is flat, as nothing can follow it."""
    first, second = (center_rows(each.flatten(1)[..., None])[..., 0] for each in (one, other))
    lengths: Tensor = torch.linalg.vector_norm(first, dim=1) * torch.linalg.vector_norm(second, dim=1)
    return ((first * second).sum(1) / lengths).clamp(-1, 1)


def spearman(one: Float[Tensor, "batch *space"], other: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    """The correlation of their ranks, where equal values share the mean of theirs; NaN where a map is flat."""
    return pearson(_ranks(one), _ranks(other))


def _ranks(maps: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch pixel"]:
    """Twice the mean rank of each pixel, less 1: how many are below it, and how many are not above it."""
    flat = maps.flatten(1).contiguous()
    ordered = flat.sort(dim=1).values
    below, up_to = (torch.searchsorted(ordered, flat, right=right) for right in (False, True))
    return (below + up_to).to(maps.dtype)
