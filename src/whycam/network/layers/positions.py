"""Where in the input each position of a feature lies: measured, by changing half of the input a little.

A layout claims that the first rows of a map belong to the top of the input. The claim is tested: noise is added to the
top half alone and to the bottom half alone, and so along every axis; of the change that a position shows, the share
that came from the first half must be larger for positions in the first half of the map than for those in the second.
Shares and not changes are compared, since positions at borders are more sensitive than others; and ranks and not
shares, since one half may move everything more than the other.

A network may spread every change over all positions, as very deep ones with random weights do. Then nothing can be said
of where they lie, and that is the answer.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whycam.kit.arrays import noise_like
from whycam.network.cache import Cache
from whycam.network.input_axes import space_axes
from whycam.network.layer_refs import LayerRef
from whycam.network.layouts import Layout, Scales, Tokens
from whycam.network.preserve_state import as_found
from whycam.network.pytree import detached_copy, first_sample, first_tensor, mapped, only_tensor
from whycam.network.recording.record import Inputs, call, watching
from whycam.network.unwrap import eager, unwrapped

Verdict: TypeAlias = Literal["verified", "undetermined", "refuted"]

#: How it is known where the positions lie; see `whycam.results.explanation.Layer`.
Location: TypeAlias = Literal["by construction", "verified", "undetermined", "as given"]

#: The share of pairs of positions, one of either half, that must be ranked as claimed.
_AGREEMENT = 0.8
#: How far the positions' shares lie apart, on average from their median: so little, and their order may be chance; so
#: far, and they do have a place, whichever it is. Measured over 98 timm families with random weights: in the right
#: reading 0.03 to 0.5, in token orders that are not raster above 0.4, where a network has washed the place out to 0.02;
#: and 0.2 where a few tokens are mixed at random.
_FLAT, _CLEAR = 0.02, 0.3
#: How much more one half may move a token that is no patch than the other does, as a share of what both do.
_ASTRAY = 0.5
#: The noise, in standard deviations of the input: small beside what the input holds, far above rounding.
_NOISE = 0.1


class Located(NamedTuple):
    """How a layer's output is read and how that is known; no layout if every reading is refuted."""

    layout: Layout | None
    location: Location


_located: Cache[Located] = Cache()


def locate(
    model: nn.Module, inputs: Inputs, readings: Mapping[LayerRef, Sequence[Layout]]
) -> tuple[dict[LayerRef, Located], int]:
    """For each layer the first of its readings that holds, and the forwards spent (0 where all are known, else 1).

    The first reading stands unless it is refuted. A network that cannot be run on the variants (one that takes a
    fixed number of samples, say) tells nothing.
    """
    model = unwrapped(model)
    known = _located.of(model, inputs)
    asked = [tap for tap in readings if tap not in known]
    if asked:
        try:
            found = changes(model, inputs, asked)
        except Exception:  # whatever a network raises for a batch that is not its caller's, memory included
            found = {}
        fresh = {tap: _read(found.get(tap), readings[tap]) for tap in asked}
        picture = first_tensor(inputs)
        # a constant picture is inconclusive, and what it says is not kept
        lasting = bool((picture != picture.flatten()[0]).any())
        known.update({tap: fresh[tap] for tap in found if lasting or fresh[tap].location == "verified"})
    else:
        fresh = {}
    return {tap: fresh.get(tap) or known[tap] for tap in readings}, int(bool(asked))


def _read(change: "Change | None", readings: Sequence[Layout]) -> Located:
    first = readings[0]
    if change is None:
        return Located(None if is_guess(first) else first, "undetermined")
    if not isinstance(first, Scales) and len(first.grid(change.outputs.shape)) != change.axes:
        return Located(first, "by construction")  # a spectrogram's own axes
    verdict = change.verdict(first)
    if verdict == "verified":
        return Located(first, "verified")
    # where the first is not refuted, another that fits may do so by chance; but not if only the grid's shape is open
    weak = verdict == "refuted" or is_guess(first)
    open_ = [each for each in readings[1:] if weak or _differ_in_grid(first, each)]
    better = next((each for each in open_ if change.verdict(each) == "verified"), None)
    if better is not None:
        return Located(better, "verified")
    return Located(None if weak else first, "undetermined")


def is_guess(layout: Layout) -> bool:
    """Whether a reading counts only where it is verified."""
    return isinstance(layout, (Tokens, Scales)) and layout.known == "guessed"


def _differ_in_grid(first: Layout, other: Layout) -> bool:
    """Whether both read the same tokens as patches."""
    if not isinstance(first, Tokens) or not isinstance(other, Tokens):
        return False
    return (first.prefix, first.suffix) == (other.prefix, other.suffix)


@dataclass(frozen=True)
class Change:
    """What a layer returned for one sample as it is and with half of it changed: `(1 + 2 * axes, ...)`, base first."""

    outputs: Tensor
    axes: int

    def verdict(self, layout: Layout) -> Verdict:
        """Whether the positions lie where the layout puts them; of several grids those of the finest, and none not."""
        if isinstance(layout, Scales):
            found = [self.verdict(each) for each in sorted(layout.parts, key=lambda part: prod(part.shape))]
            return "refuted" if "refuted" in found else found[-1]
        maps = layout.to_maps(self.outputs).cpu().double()
        if maps.ndim - 2 != self.axes:
            return "undetermined"  # the input has other axes than the map: several pictures, frames
        moved = (maps[1:] - maps[:1]).square().sum(1)
        moved = moved.reshape(self.axes, 2, *moved.shape[1:])
        verdicts = [_along(moved[axis], axis) for axis in range(self.axes) if moved.shape[2 + axis] > 1]
        if not verdicts or "undetermined" in verdicts:
            return "refuted" if "refuted" in verdicts else "undetermined"
        if "refuted" in verdicts:
            return "refuted"
        return (
            "undetermined" if isinstance(layout, Tokens) and is_guess(layout) and self._strays(layout) else "verified"
        )

    def _strays(self, layout: Tokens) -> bool:
        """Whether a token that a reading sets aside has a place in the input itself: then patches are set aside."""
        moved = (self.outputs[1:] - self.outputs[:1]).cpu().double().square().sum(-1)
        beside = torch.cat([moved[:, : layout.prefix], moved[:, moved.shape[1] - layout.suffix :]], 1)
        first, second = beside.reshape(self.axes, 2, -1).unbind(1)
        tiny = torch.finfo(torch.float64).tiny
        return bool((((first - second) / (first + second).clamp(min=tiny)).abs() > _ASTRAY).any())


def changes(model: nn.Module, inputs: Inputs, taps: Sequence[LayerRef], *, seed: int = 0) -> dict[LayerRef, Change]:
    """Run the network once on the first sample's variants and keep what the layers returned.

    One forward of `1 + 2 * axes` samples, the axes being those of the (first) input. A layer that does not return one
    output for each variant (one that folds windows into the batch, say) is left out.
    """
    model = unwrapped(model)
    one = detached_copy(first_sample(inputs))
    picture = first_tensor(one)
    space = space_axes(model, picture)
    variants = halves(picture, space, seed=seed)
    count = len(variants)
    given = _with(one, picture, variants)
    kept: dict[tuple[str, str], list[Tensor]] = {(tap.module, tap.side): [] for tap in taps}

    def keep(where: tuple[str, str], value: Any, _: Any) -> None:
        try:
            kept[where].append(only_tensor(value, where[0])[1].detach().clone())
        except TypeError:
            kept[where].append(picture.new_zeros(0))  # a call all the same

    with as_found(model), eager(model), ExitStack() as stack:
        for where in kept:
            stack.enter_context(watching(model.get_submodule(where[0]), where[1], partial(keep, where)))
        call(model, given)
    found = {}
    for tap in taps:
        outputs = kept[tap.module, tap.side]
        number = tap.call if isinstance(tap.call, int) else -1
        if -len(outputs) <= number < len(outputs) and len(outputs[number]) == count:
            found[tap] = Change(outputs[number], len(space))
    return found


def halves(picture: Float[Tensor, "1 *axes"], space: Sequence[int], *, seed: int = 0) -> Float[Tensor, "variant *axes"]:
    """The picture, and with noise in its first and second half along each axis of space: `1 + 2 * axes` variants."""
    noise = noise_like(picture, seed) * _NOISE
    made = [picture]
    for axis in space:
        middle = picture.shape[axis] // 2
        first = torch.arange(picture.shape[axis], device=picture.device) < middle
        shape = [-1 if each == axis else 1 for each in range(picture.ndim)]
        made += [picture + noise * first.reshape(shape), picture + noise * ~first.reshape(shape)]
    return torch.cat(made)


def _along(moved: Float[Tensor, "2 *spatial"], axis: int) -> Verdict:
    """The verdict along one axis, from each position's change by noise in the first and in the second half."""
    total = moved.sum(0)
    share = torch.where(total > 0, moved[0] / total.clamp(min=torch.finfo(total.dtype).tiny), 0.5)
    rows = share.movedim(axis, 0).reshape(share.shape[axis], -1)
    length = len(rows)
    # a middle row belongs to both
    first, second = rows[: length // 2].flatten().contiguous(), rows[-(length // 2) :].flatten()
    ordered = second.sort().values
    below = (torch.searchsorted(ordered, first) + torch.searchsorted(ordered, first, right=True)).double() / 2
    spread = float((share - share.median()).abs().mean())
    if below.mean() >= _AGREEMENT * len(ordered):  # pairs in the claimed order; a tie is half a pair
        return "verified" if spread >= _FLAT else "undetermined"
    return "refuted" if spread >= _CLEAR else "undetermined"


def _with(inputs: Inputs, picture: Tensor, variants: Tensor) -> Inputs:
    """The inputs with the picture's variants in its place, and everything else of one sample repeated for each."""
    count = len(variants)

    def grow(tensor: Tensor) -> Tensor:
        if tensor is picture:
            return variants
        return tensor.expand(count, *tensor.shape[1:]).clone() if tensor.ndim and len(tensor) == 1 else tensor

    grown: Inputs = mapped(inputs, grow)
    return grown
