"""Between what a layer returns and the `(batch, channel, *spatial)` that every method is written for, both ways."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import log, prod
from typing import Literal, TypeAlias

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from whycam.errors import LayerRefused

#: Leading tokens in use: none, a class token, class and distillation tokens, class and four registers, eight registers.
PREFIXES = (0, 1, 2, 4, 5, 8, 9)
#: How often Hiera's tokens are unrolled, of its first stage and the next.
_UNROLLED = (1, 2, 3)
#: Input pixels per patch in use.
_STRIDES = range(2, 65)
#: How far rounding a grid to whole cells may distort it: by a factor just below two between the axes.
_ROUNDING = log(1.9)


@dataclass(frozen=True)
class ChannelsFirst:
    """`(batch, channel, *spatial)`, as convolutions return.

    Examples:
        >>> whycam.layouts.ChannelsFirst().grid((2, 8, 7, 5))
        (7, 5)
    """

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
    """`(batch, *spatial, channel)`, as Swin's blocks and Keras' layers return.

    Examples:
        >>> whycam.layouts.ChannelsLast().to_maps(torch.zeros(2, 7, 5, 8)).shape
        torch.Size([2, 8, 7, 5])
    """

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
    """`(batch, prefix + prod(grid) + suffix, channel)`: class and register tokens, the patches row by row, others.

    With `unrolled` the patches are not row by row but as in Hiera: that often, cells of 2 x 2 are taken apart and the
    place within the cell is put before the place of the cell. With `frames_last` the frames of each patch stand
    together, as in TimeSformer. `known` says where a reading comes from: said by the model or the caller, found by the
    number of tokens alone, or guessed, so that it counts only where it is verified.

    Examples:
        >>> whycam.layouts.Tokens((14, 14), prefix=1).to_maps(torch.zeros(2, 197, 8)).shape
        torch.Size([2, 8, 14, 14])
    """

    shape: tuple[int, ...]
    prefix: int = 1
    suffix: int = 0
    unrolled: int = 0
    frames_last: bool = False
    known: Literal["said", "counted", "guessed"] = field(default="said", compare=False, repr=False)

    @property
    def count(self) -> int:
        """How many tokens there are, with those that are no patches."""
        return self.prefix + prod(self.shape) + self.suffix

    def to_maps(self, output: Float[Tensor, "batch token channel"]) -> Float[Tensor, "batch channel *spatial"]:
        """The patch tokens on their grid; prefix and suffix are set aside."""
        patches = output[:, self.prefix : output.shape[1] - self.suffix].mT
        if self.unrolled:
            patches = rearrange(patches, self._pattern(), **self._sizes())
        if self.frames_last:
            return patches.reshape(*patches.shape[:2], *self.shape[1:], self.shape[0]).movedim(-1, 2)
        return patches.reshape(*patches.shape[:2], *self.shape)

    def from_maps(self, maps: Tensor, output: Tensor) -> Tensor:
        """Maps as tokens again, between the prefix and the suffix of `output`."""
        before, after = output[:, : self.prefix], output[:, output.shape[1] - self.suffix :]
        count, patches = len(maps), (maps.movedim(2, -1) if self.frames_last else maps).flatten(2)
        if self.unrolled:
            there, back = self._pattern().split(" -> ")
            patches = rearrange(patches, f"{back} -> {there}", **self._sizes())
        return torch.cat([before.expand(count, -1, -1), patches.mT, after.expand(count, -1, -1)], 1)

    def _pattern(self) -> str:
        levels = range(1, self.unrolled + 1)
        cells = " ".join(f"y{level} x{level}" for level in levels)
        rows, columns = (" ".join(f"{axis}{level}" for level in reversed(levels)) for axis in "yx")
        return f"b c ({cells} t h w) -> b c (t h {rows} w {columns})"

    def _sizes(self) -> dict[str, int]:
        *frames, height, width = self.shape
        cell = 2**self.unrolled
        sides = {f"{axis}{level}": 2 for level in range(1, self.unrolled + 1) for axis in "yx"}
        return {**sides, "t": prod(frames), "h": height // cell, "w": width // cell}

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The spatial sizes of the grid."""
        return self.shape

    def __str__(self) -> str:
        behind = f" and before {self.suffix}" if self.suffix else ""
        order = f", unrolled {self.unrolled}x" if self.unrolled else ", frames last" if self.frames_last else ""
        return f"tokens on a grid of {'x'.join(map(str, self.shape))} after {self.prefix}{behind}{order}"


@dataclass(frozen=True)
class Scales:
    """`(batch, token, channel)` with the tokens of several grids one behind another, as deformable encoders have them.

    No one map holds them: each grid has its own, and these are added up. Until then they are a single axis. `known` as
    of `Tokens`; which grids, and in which order, is found by the number of tokens and verified.

    Examples:
        >>> whycam.layouts.Scales(((8, 12), (4, 6))).parts[1]
        Tokens(shape=(4, 6), prefix=96, suffix=0, unrolled=0, frames_last=False)
    """

    shapes: tuple[tuple[int, ...], ...]
    known: Literal["said", "guessed"] = field(default="said", compare=False, repr=False)

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return sum(map(prod, self.shapes))

    @property
    def parts(self) -> list[Tokens]:
        """Each grid's own layout, the others' tokens around it."""
        counts = [*map(prod, self.shapes)]
        return [Tokens(shape, sum(counts[:i]), sum(counts[i + 1 :])) for i, shape in enumerate(self.shapes)]

    def to_maps(self, output: Float[Tensor, "batch token channel"]) -> Float[Tensor, "batch channel token"]:
        """All tokens along one axis."""
        return output.mT

    def from_maps(self, maps: Tensor, output: Tensor) -> Tensor:
        """Maps laid out like `output`."""
        return maps.mT

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The number of tokens."""
        return (self.count,)

    def __str__(self) -> str:
        return f"tokens on grids of {', '.join('x'.join(map(str, shape)) for shape in self.shapes)}"


Layout: TypeAlias = ChannelsFirst | ChannelsLast | Tokens | Scales


@lru_cache(maxsize=1024)
def readings(
    output: tuple[int, ...],
    inputs: tuple[int, ...],
    claim: Tokens | None = None,
    patches: tuple[int, ...] = (),
    grids: tuple[tuple[int, ...], ...] = (),
) -> tuple[Layout, ...]:
    """The layouts that an output of shape `output` may have in a network given `inputs`, the likeliest first.

    Args:
        inputs: the shape of the input as `(N, C, *space)`.
        claim: what is said of the model's tokens, which comes first where the sizes agree.
        patches: the grid on which a convolution put the patches, if one did; tokens over stand beside them.
        grids: those that convolutions returned before, of which several may lie one behind another.

    Channels first is PyTorch's convention, but channels last comes before it where only that keeps the input's
    proportions. With one axis less than an image it is tokens behind the smallest prefix in use that leaves a grid of
    the input's proportions; row by row before unrolled. More than one token beside the patches of which nothing is said
    is a guess, and so is any other grid than that of the patches. Features of two axes made inside a network for
    signals, a spectrogram's, are channels first. Empty where nothing spatial can be read.
    """
    space = tuple(inputs[2:])
    found: list[Layout] = []
    if len(output) == 4 and len(inputs) == 3 and output[2] != output[3]:  # which attention's weights would be
        found = [ChannelsFirst()]
    if len(output) == len(inputs) and len(space):
        first, last = tuple(output[2:]), tuple(output[1:-1])
        distorted = _distortion(last, space)
        swapped = distorted < _distortion(first, space) and distorted <= _ROUNDING
        found = [ChannelsLast(), ChannelsFirst()] if swapped else [ChannelsFirst(), ChannelsLast()]
        if prod(found[0].grid(output)) <= 1:
            return ()
    if len(output) == 3 and len(space) > 1:
        found = [*_several(output[1], grids), *_tokens(output[1], space, claim, patches)]
        if claim is not None and claim.count == output[1]:
            found = [claim, *found]
    return tuple(layout for layout in dict.fromkeys(found) if prod(layout.grid(output)) > 1)


def _several(count: int, grids: tuple[tuple[int, ...], ...]) -> Iterator[Scales]:
    """Neighboring grids, by size, that have so many locations together; the finest first or last."""
    sizes = sorted(set(grids), key=prod, reverse=True)
    for start in range(len(sizes)):
        for end in range(start + 2, len(sizes) + 1):
            if sum(map(prod, sizes[start:end])) == count:
                yield Scales(tuple(sizes[start:end]), known="guessed")
                yield Scales(tuple(sizes[start:end][::-1]), known="guessed")


def _tokens(count: int, space: tuple[int, ...], claim: Tokens | None, patches: tuple[int, ...]) -> Iterator[Tokens]:
    if claim is not None and claim.count == count:
        yield claim
    over = count - prod(patches) if patches else -1
    if over >= 0:
        yield Tokens(patches, over, known="said" if over < 2 else "guessed")
        if claim is not None and claim.prefix < over:
            yield Tokens(patches, claim.prefix, over - claim.prefix, known="guessed")
    equal = (1,) * len(space)  # a model that resizes its input to a square has a square grid
    counted = [
        Tokens(grid, prefix, known="guessed" if prefix > 1 or over >= 0 else "counted")
        for sides in (space, equal)
        for prefix in PREFIXES
        for grid in _grids(count - prefix, sides)
    ]
    yield from counted
    grids = [*counted, *([Tokens(patches, over)] if over >= 0 else [])]
    for layout in grids:
        if layout.prefix == 0:
            for times in _UNROLLED:
                if not any(side % 2**times for side in layout.shape[-2:]):
                    yield replace(layout, unrolled=times)
    for layout in [*([claim] if claim is not None and claim.count == count else []), *grids]:
        if len(layout.shape) == 3 and layout.shape[0] > 1:
            yield replace(layout, frames_last=True)


def infer_layout(
    output: tuple[int, ...], inputs: tuple[int, ...], layer: str = "the layer", claim: Tokens | None = None
) -> Layout:
    """The likeliest layout of an output of shape `output` in a network given `inputs` of that shape.

    Raises:
        WhycamError: no reading gives spatial axes, or the one location left is no map.
    """
    if found := readings(output, inputs, claim):
        return found[0]
    if len(output) == len(inputs) and len(inputs) > 2:
        raise LayerRefused(
            f"{layer} has no spatial axes: its output of shape {tuple(output)} is a single location for inputs of "
            f"shape {tuple(inputs)}. Choose a layer before the pooling."
        )
    raise LayerRefused(
        f"{layer} has no spatial axes that can be found: its output has shape {tuple(output)} for inputs of shape "
        f"{tuple(inputs)}. Choose a layer before the pooling, or pass layout=, for example Tokens((14, 14), prefix=1)."
    )


def check_fits(layout: Layout, output: Sequence[int], layer: str) -> None:
    """Raise a `WhycamError` where an output of that shape cannot be read so."""
    if isinstance(layout, (Tokens, Scales)):
        if len(output) != 3 or output[1] != layout.count:
            raise LayerRefused(
                f"layout={layout!r} reads an output of shape (batch, {layout.count}, channel), and that of {layer} has "
                f"shape {tuple(output)}."
            )
    elif len(output) < 3:
        raise LayerRefused(f"{layer} has no spatial axes: its output has shape {tuple(output)}.")


def keeps_proportions(layout: Layout, output: Sequence[int], inputs: Sequence[int]) -> bool:
    """Whether the grid has the input's proportions, up to rounding; one of other axes has none to keep."""
    if len(layout.grid(output)) != len(inputs) - 2:
        return True
    return _distortion(layout.grid(output), tuple(inputs[2:])) <= _ROUNDING


@lru_cache(maxsize=1024)
def is_plain(layout: Layout, output: Sequence[int], inputs: Sequence[int]) -> bool:
    """Whether an output can only be channels first: its grid has the input's proportions, and better than swapped."""
    if not isinstance(layout, ChannelsFirst) or len(output) != len(inputs):
        return isinstance(layout, ChannelsFirst)
    first, last = (_distortion(each.grid(output), tuple(inputs[2:])) for each in (layout, ChannelsLast()))
    return first <= _ROUNDING and (first < last or len(inputs) < 4)


def _grids(count: int, space: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The grids of `count` locations with the proportions of `space`, the likeliest first.

    In a video the frames may be thinned by another factor than the pixels, by a smaller one as a rule.
    """
    if count < 1:
        return []
    strides = [stride for stride in _STRIDES if stride <= min(space)]
    made = [_rounded(count, space)]
    made += [tuple(-(-side // stride) for side in space) for stride in strides]  # the border is padded
    made += [tuple(side // stride for side in space) for stride in strides]  # the border is dropped
    if len(space) == 3:
        frames = [each for each in range(space[0], 0, -1) if count % each == 0]
        made += [(each, *_rounded(count // each, space[1:])) for each in frames]
    return [grid for grid in dict.fromkeys(made) if prod(grid) == count]


def _rounded(count: int, space: tuple[int, ...]) -> tuple[int, ...]:
    """The sides of `space`, all shrunk by the same factor to about `count` locations, to whole numbers."""
    shrink = (count / prod(space)) ** (1 / len(space))
    return tuple(max(1, round(shrink * side)) for side in space)


def _distortion(grid: tuple[int, ...], space: tuple[int, ...]) -> float:
    """How far from the input's proportions: 0 when every axis shrank by the same factor."""
    shrink = [log(g / s) if g and s else 0.0 for g, s in zip(grid, space, strict=True)]
    # One axis always keeps its proportions; there, compare the shrinking itself: features do not grow
    return max(shrink) - min(shrink) if len(shrink) > 1 else max(0.0, shrink[0])
