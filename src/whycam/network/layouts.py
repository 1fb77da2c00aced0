"""Between what a layer returns and the `(batch, channel, *spatial)` that every method is written for, both ways."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, prod
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import WhycamError

#: Leading tokens in use: none, a class token, class and distillation tokens, class and four registers, eight registers.
PREFIXES = (0, 1, 2, 4, 5, 8, 9)
#: How far rounding a grid to whole cells may distort it: by a factor just below two between the axes.
_ROUNDING = log(1.9)


@dataclass(frozen=True)
class ChannelsFirst:
    """`(batch, channel, *spatial)`, as convolutions return."""

    def to_maps(self, output: Float[Tensor, "batch channel *spatial"]) -> Float[Tensor, "batch channel *spatial"]:
        """The output as it is."""
        return output

    def from_maps(self, maps: Tensor, output: Tensor) -> Tensor:
        """Maps laid out like `output`."""
        return maps

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The spatial sizes of an output of that shape."""
        return tuple(shape[2:])

    def __str__(self) -> str:
        return "channels first"


@dataclass(frozen=True)
class ChannelsLast:
    """`(batch, *spatial, channel)`, as Swin's blocks and Keras' layers return."""

    def to_maps(self, output: Float[Tensor, "batch *spatial channel"]) -> Float[Tensor, "batch channel *spatial"]:
        """The channel axis moved to the front."""
        return output.movedim(-1, 1)

    def from_maps(self, maps: Tensor, output: Tensor) -> Tensor:
        """Maps laid out like `output`."""
        return maps.movedim(1, -1)

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The spatial sizes of an output of that shape."""
        return tuple(shape[1:-1])

    def __str__(self) -> str:
        return "channels last"


@dataclass(frozen=True)
class Tokens:
    """`(batch, prefix + prod(grid), channel)`: class and register tokens first, then the patches in row order."""

    shape: tuple[int, ...]
    prefix: int = 1

    def to_maps(self, output: Float[Tensor, "batch token channel"]) -> Float[Tensor, "batch channel *spatial"]:
        """The patch tokens on their grid; the prefix is set aside."""
        patches = output[:, self.prefix :].mT
        return patches.reshape(*patches.shape[:2], *self.shape)

    def from_maps(self, maps: Tensor, output: Tensor) -> Tensor:
        """Maps as tokens again, behind the prefix of `output`."""
        return torch.cat([output[:, : self.prefix].expand(len(maps), -1, -1), maps.flatten(2).mT], 1)

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The spatial sizes of the grid."""
        return self.shape

    def __str__(self) -> str:
        return f"tokens on a grid of {'x'.join(map(str, self.shape))} after {self.prefix}"


Layout: TypeAlias = ChannelsFirst | ChannelsLast | Tokens


def infer_layout(output: Sequence[int], inputs: Sequence[int], layer: str = "the layer") -> Layout:
    """The layout of an output of shape `output` in a network given `inputs` of that shape.

    Channels first by PyTorch's convention; channels last where only that keeps the input's proportions; with one axis
    less than an image, tokens behind the smallest prefix in use that leaves a grid of the input's proportions.

    Raises:
        WhycamError: no reading gives spatial axes, or the one location left is no map.
    """
    space = tuple(inputs[2:])
    if len(output) == len(inputs) and len(space):
        first, last = tuple(output[2:]), tuple(output[1:-1])
        distorted = _distortion(last, space)
        swapped = distorted < _distortion(first, space) and distorted <= _ROUNDING
        layout: Layout = ChannelsLast() if swapped else ChannelsFirst()
        if prod(layout.grid(output)) > 1:
            return layout
        raise WhycamError(
            f"{layer} has no spatial axes: its output of shape {tuple(output)} is a single location for inputs of "
            f"shape {tuple(inputs)}. Choose a layer before the pooling."
        )
    if len(output) == 3 and len(space) > 1:
        for prefix in PREFIXES:
            grid = _grid(output[1] - prefix, space)
            if grid and prod(grid) > 1:
                return Tokens(grid, prefix)
    raise WhycamError(
        f"{layer} has no spatial axes that can be found: its output has shape {tuple(output)} for inputs of shape "
        f"{tuple(inputs)}. Choose a layer before the pooling, or pass layout=, for example Tokens((14, 14), prefix=1)."
    )


def _grid(count: int, space: tuple[int, ...]) -> tuple[int, ...] | None:
    """The grid of `count` locations with the proportions of `space`, if there is one."""
    if count < 1:
        return None
    shrink = (count / prod(space)) ** (1 / len(space))
    grid = tuple(max(1, round(shrink * side)) for side in space)
    return grid if prod(grid) == count else None


def _distortion(grid: tuple[int, ...], space: tuple[int, ...]) -> float:
    """How far from the input's proportions: 0 when every axis shrank by the same factor."""
    shrink = [log(g / s) if g and s else 0.0 for g, s in zip(grid, space, strict=True)]
    # One axis always keeps its proportions; there, compare the shrinking itself: features do not grow
    return max(shrink) - min(shrink) if len(shrink) > 1 else max(0.0, shrink[0])
