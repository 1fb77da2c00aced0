"""Masks over inputs and what shows through them, for methods that score edited inputs."""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.errors import OptionError
from whycam.kit.arrays import Variants, generator, lazily, positive, resize, weighted_sum
from whycam.kit.quantities import Result
from whycam.kit.status import Status

#: What stands where nothing is shown: 0 (the data set's mean color, in inputs that were normalized), a black pixel as
#: the model's preprocessing makes it of a photo, the inputs blurred, a number, or an input of one's own.
Baseline: TypeAlias = Literal["zero", "black", "blur"] | float | Tensor


def stand_in(inputs: Float[Tensor, "batch color *space"], baseline: Baseline) -> Float[Tensor, "batch color *space"]:
    """What the inputs are replaced by where a mask hides them.

    Raises:
        OptionError: `"black"`, in whose place `explain` passes a tensor, or none of these.
    """
    if isinstance(baseline, str):
        if baseline == "zero":
            return torch.zeros_like(inputs)
        if baseline == "blur":
            return blur(inputs)
    elif isinstance(baseline, (int, float)):
        return torch.full_like(inputs, baseline)
    elif isinstance(baseline, Tensor):
        try:
            return baseline.to(inputs).expand_as(inputs)
        except RuntimeError:
            raise OptionError(
                f"baseline has shape {tuple(baseline.shape)}, which cannot stand in for inputs of shape "
                f"{tuple(inputs.shape)}."
            ) from None
    known = "; only explain knows what black is, by the preprocessing" if baseline == "black" else ""
    raise OptionError(f"baseline is 'zero', 'blur', a number or a tensor like the inputs, not {baseline!r}{known}.")


def blur(
    inputs: Float[Tensor, "batch color *space"], deviation: float = 50.0, size: int = 51
) -> Float[Tensor, "batch color *space"]:
    """Every axis convolved with a Gaussian of that deviation, cut off at `size` pixels; edges are reflected.

    The values are Group-CAM's (arXiv:2103.13859, the authors' code), made for inputs of 224 pixels. Axes shorter than
    the window reach are blurred by as much of it as fits.
    """
    for axis in range(2, inputs.ndim):
        length = inputs.shape[axis]
        reach = min(size // 2, length - 1)
        at = torch.arange(-reach, reach + 1, dtype=torch.float64)
        kernel = torch.exp(-((at / deviation) ** 2) / 2)
        kernel = (kernel / kernel.sum()).to(inputs)
        rows = inputs.movedim(axis, -1)
        padded = F.pad(rows.reshape(-1, 1, length), (reach, reach), mode="reflect")
        inputs = F.conv1d(padded, kernel[None, None]).reshape(rows.shape).movedim(-1, axis)
    return inputs


def shown(
    inputs: Float[Tensor, "batch color *space"],
    mask: Float[Tensor, "batch *space"],
    behind: Float[Tensor, "batch color *space"],
) -> Float[Tensor, "batch color *space"]:
    """The inputs where the mask is 1, what is `behind` them where it is 0, and in between a mixture."""
    # in one pass: the temporaries of a sum of products take several times as long as the arithmetic
    return torch.lerp(behind, inputs, mask.unsqueeze(1).to(inputs.dtype))


class RandomMasks:
    """RISE's masks (arXiv:1806.07421): `[number]` is what one shows, from 0 to 1 at each location, `(*space)`.

    Each is a grid of random cells, stretched by one cell more than the inputs need and cropped at a random place. It
    depends on the seed and its number alone.

    Args:
        grid: cells along every axis, or along each.
        keep: with which probability a cell is shown.

    Raises:
        OptionError: a grid of other axes than the inputs have.
    """

    def __init__(
        self,
        inputs: Float[Tensor, "batch color *space"],
        grid: int | tuple[int, ...],
        keep: float,
        baseline: Baseline,
        seed: int,
    ) -> None:
        axes = inputs.ndim - 2
        self.cells = grid if isinstance(grid, tuple) else (grid,) * axes
        if len(self.cells) != axes:
            raise OptionError(f"grid has {len(self.cells)} numbers for inputs with {axes} spatial axes.")
        self.inputs, self.keep, self.seed, self.behind = inputs, keep, seed, stand_in(inputs, baseline)

    def __getitem__(self, number: int) -> Float[Tensor, "*space"]:
        source, space = generator(self.seed, number), self.inputs.shape[2:]
        cells = torch.rand(self.cells, generator=source, dtype=torch.float64) < self.keep
        strides = [math.ceil(side / count) for side, count in zip(space, self.cells, strict=True)]
        starts = [int(torch.randint(stride, (1,), generator=source)) for stride in strides]
        sides = [(count + 1) * stride for count, stride in zip(self.cells, strides, strict=True)]
        large = resize(cells.to(self.inputs)[None], sides)[0]
        return large[tuple(slice(start, start + side) for start, side in zip(starts, space, strict=True))]

    def shown(self, numbers: Sequence[int]) -> Variants:
        """The inputs as the masks of these numbers show them."""

        def variant(number: int) -> Tensor:
            return shown(self.inputs, self[number].expand(len(self.inputs), *self.inputs.shape[2:]), self.behind)

        return lazily(variant, numbers, shared=True)


def window(location: Sequence[int], space: Sequence[int]) -> Iterator[tuple[tuple[int, ...], float]]:
    """The places of the 3 x 3 Gaussian window around a location, cut off at the border, and the share of each: 1/4 in
    the middle, 1/8 beside it, 1/16 at the corners; the like in one and three dimensions.
    """
    around = [range(max(0, here - 1), min(here + 2, side)) for here, side in zip(location, space, strict=True)]
    for place in product(*around):
        distance = sum(abs(one - other) for one, other in zip(place, location, strict=True))
        yield place, 0.5 ** (len(space) + distance)


def to_unit(maps: Float[Tensor, "batch *spatial"]) -> Float[Tensor, "batch *spatial"]:
    """Each map shifted and scaled to [0, 1]; 0 where it is flat.

    `normalize(maps, "minmax")` in half the passes, and with gradients that are finite for flat maps too.
    """
    flat = maps.flatten(1)
    low = flat.amin(1, keepdim=True)
    span = flat.amax(1, keepdim=True) - low
    return ((flat - low) / span.where(span != 0, span.new_ones(()))).reshape_as(maps)


def channel_mask(
    maps: Float[Tensor, "batch channel *spatial"], channel: int, size: tuple[int, ...], *, align_corners: bool = False
) -> Float[Tensor, "batch *size"]:
    """One channel resized to the input and then scaled to [0, 1], in this order; 0 where the channel is flat.

    Resizing first is what the Score-CAM paper and its authors' code do. One channel at a time, because all channels at
    the input's size are more than memory holds.
    """
    return to_unit(resize(maps[:, channel], size, align_corners=align_corners))


def flat_channels(maps: Float[Tensor, "batch channel *spatial"]) -> Bool[Tensor, "batch channel"]:
    """Whether each channel has one value everywhere, and so can mask nothing."""
    flat = maps.flatten(2)
    return flat.amax(2) == flat.amin(2)


def varying(maps: Float[Tensor, "batch channel *spatial"]) -> Float[Tensor, "batch part *spatial"]:
    """The channels that are not flat in every sample, and at least one: a flat one masks nothing, so it is not run."""
    kept = ~flat_channels(maps).all(0)
    if kept.all():
        return maps
    kept[0] |= ~kept.any()
    return maps[:, kept]


def strongest(
    maps: Float[Tensor, "batch channel *spatial"], strength: Float[Tensor, "batch channel"], channels: int
) -> Float[Tensor, "batch part *spatial"]:
    """Of each sample its own channels of the largest strength; of equally strong ones the first."""
    chosen = strength.argsort(dim=1, descending=True, stable=True)[:, :channels]
    return maps[torch.arange(len(maps), device=maps.device)[:, None], chosen]


def through_channels(
    inputs: Float[Tensor, "batch color *space"],
    maps: Float[Tensor, "batch channel *spatial"],
    baseline: Baseline,
    *,
    align_corners: bool = False,
) -> Variants:
    """The inputs as each channel's mask shows them, one by one."""
    behind, size = stand_in(inputs, baseline), inputs.shape[2:]

    def variant(channel: int) -> Tensor:
        return shown(inputs, channel_mask(maps, channel, size, align_corners=align_corners), behind)

    return lazily(variant, range(maps.shape[1]))


def weigh_channels(
    maps: Float[Tensor, "batch channel *spatial"], gains: Float[Tensor, "channel batch"], *, softmax: bool
) -> Result:
    """Sum the channels, each weighted by what the input shown through it gained, and keep the positive part.

    The weights are the gains, or their softmax over the channels; a flat channel masks nothing, so it has weight 0 and
    no part in the softmax. `effective_channels` is the exponential of the weights' entropy: as many channels of one
    weight each would be as spread out. Where that is within 1% of all channels' entropy the status says so.
    """
    used = ~flat_channels(maps)
    given = gains.T.to(maps.dtype)
    given = given.masked_fill(~used, -torch.inf).softmax(1) if softmax else given
    weights = given.masked_fill(~used, 0)
    total = weights.relu().sum(1)
    shares = weights.relu() / total.where(total != 0, total.new_ones(()))[:, None]
    entropy = torch.special.entr(shares).sum(1)
    count = used.sum(1)
    uniform = (count > 1) & (entropy >= 0.99 * count.clamp(min=1).log())
    return Result(
        positive(weighted_sum(weights, maps)),
        values={"effective_channels": entropy.exp().where(total != 0, total)},
        status=[
            Status(
                "uniform weights",
                f"all {number} channels weigh nearly the same, because the score hardly tells their masks apart; the "
                "map is little more than their mean, and would be for any target.",
            )
            if alike
            else Status()
            for alike, number in zip(uniform.tolist(), count.tolist(), strict=True)
        ],
    )
