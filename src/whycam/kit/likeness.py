"""How alike two maps are, pixel by pixel."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.kit.arrays import center_rows, normalize
from whycam.kit.masks import blur


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
    ordered, places = maps.flatten(1).sort(dim=1)
    number = torch.arange(ordered.shape[1], device=maps.device)
    changes, start = ordered.diff(dim=1) != 0, number.new_zeros(len(ordered), 1)
    below = torch.cat([start, number[1:] * changes], 1).cummax(1).values
    above = torch.cat([start, number[1:] * changes.flip(1)], 1).cummax(1).values.flip(1)
    shared = (below + len(number) - above).to(maps.dtype)
    return torch.empty_like(shared).scatter_(1, places, shared)


def ssim(one: Float[Tensor, "batch *space"], other: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    """The structural similarity of maps that are each shifted and scaled to [0, 1] (Wang et al., IEEE TIP 13, 2004).

    With their Gaussian window of deviation 1.5 and 11 pixels, edges reflected, and constants for a range of 1.
    """

    def mean(values: Tensor) -> Tensor:
        return blur(values[:, None], deviation=1.5, size=11)[:, 0]

    first, second = normalize(one, "minmax"), normalize(other, "minmax")
    low, high = mean(first), mean(second)
    spread = mean(first**2) - low**2 + mean(second**2) - high**2
    together = mean(first * second) - low * high
    alike = (2 * low * high + 1e-4) / (low**2 + high**2 + 1e-4) * (2 * together + 9e-4) / (spread + 9e-4)
    return alike.flatten(1).mean(1)


def over_length(distances: Float[Tensor, " batch"], maps: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    """Distances from maps in parts of the maps' own lengths; NaN for a map of zeros."""
    length: Tensor = torch.linalg.vector_norm(maps.flatten(1), dim=1)
    return (distances / length).where(length > 0, maps.new_tensor(torch.nan))


def likeness(
    one: Float[Tensor, "batch *space"], other: Float[Tensor, "batch *space"], *, structure: bool
) -> dict[str, Float[Tensor, " batch"]]:
    """How much of a map is left in another: rank correlations, of signed values and of magnitudes, and `ssim`.

    NaN where the first is flat or one is not finite; 0 where the second alone is flat, which has nothing of it left.
    """
    kinds = {"spearman": spearman(one, other), "magnitudes": spearman(one.abs(), other.abs())}
    if structure:
        kinds["ssim"] = ssim(one, other)
    nothing, nan = one.new_zeros(()), one.new_tensor(torch.nan)
    known = ~is_flat(one) & (one + other).flatten(1).isfinite().all(1)
    return {name: each.where(~is_flat(other), nothing).where(known, nan) for name, each in kinds.items()}


def is_flat(maps: Float[Tensor, "batch *space"]) -> Bool[Tensor, " batch"]:
    """Whether a map has one value everywhere."""
    return maps.flatten(1).amin(1) == maps.flatten(1).amax(1)
