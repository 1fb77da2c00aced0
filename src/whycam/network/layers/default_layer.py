"""Which layer to explain when nobody says: the last spatial feature that the score depends on.

One forward of one sample (kept for the next call) lists every module whose output has spatial axes, in the order they
finish. The last of them is taken; outputs of pooling and resampling are passed over, since they only repeat an earlier
feature. Modules that return the very same tensor are one feature, and the outermost name is used.

**Two sides.** Where that feature is an activation function applied to another module's output, there are two sides to
choose from. Grad-CAM, which weighs whole channels by their mean gradient, gains from the signed side before the
function: a channel that is silent at a location then counts as evidence against. Measured on three pretrained networks
(docs/benchmarks.md, grid pointing), about 0.98 of its evidence is in the right quarter before the activation and 0.80
to 0.83 after it. For methods that multiply activations and gradients location by location the side after is as good or
better, since the function's own gate is in the gradient before it; and XGrad-CAM, Grad-CAM++, LayerCAM, FEM and CAM are
defined there.

**Networks that are not plainly convolutional**, with tokens or channels last somewhere. Only the stream is taken, what
blocks and normalizations return, and not the projections inside attention. Two more things are settled before the
network is asked about its batch, each by one pass of the first sample, kept for the next call. The score must depend on
most positions: a class token that is read alone leaves the patches of the last block without any gradient, and then the
latest feature that has some is taken, in most families the norm before the last attention. And the positions must lie
where the layout says (`positions`).

**Signals, volumes and clips.** A feature with one cell along an axis of the input cannot say where on it, or when,
something was seen; torchvision's r3d_18 ends so where it is given 8 frames. There the last feature is taken that has
two cells at least on every axis and that all of the input goes through, which half a residual block's branch is not.
Pictures keep their last stage, on which every method is defined and was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from whycam.errors import LayerNotFound, LayerRefused, Misplaced
from whycam.kit.registry import Side
from whycam.network.cache import Cache
from whycam.network.layer_refs import LayerRef
from whycam.network.layers.features import Feature, answer_name, features, is_convolutional
from whycam.network.layers.positions import Location, is_guess, locate
from whycam.network.layouts import ChannelsFirst, Layout
from whycam.network.outputs import OutputSelector
from whycam.network.pytree import on_first_sample
from whycam.network.recording.record import Inputs, Recording, Resolve, record
from whycam.network.unwrap import unwrapped


@dataclass(frozen=True)
class Choice:
    """A chosen layer and the reason, in words; how it is read, and how that is known."""

    tap: LayerRef
    why: str
    layout: Layout
    location: Location = "by construction"


class _Latest(NamedTuple):
    """The feature that was settled on, which may have two sides, and why."""

    feature: Feature
    layout: Layout
    location: Location
    why: str

    def on(self, side: Side) -> Choice:
        """The place to record on that side of the feature's activation."""
        before = self.feature.before
        if before is None:
            return Choice(self.feature.tap, self.why, self.layout, self.location)
        if side == "after":
            return Choice(self.feature.tap, f"{self.why}, after its activation", self.layout, self.location)
        why = f"{self.why}, before its activation: a silent channel counts against"
        return Choice(before, why, self.layout, self.location)


#: The layers that were settled on; another takes a layer's place where a pass showed no gradient at it.
_settled: Cache[_Latest] = Cache()
#: By what factor a stage shrinks an axis at most.
_STAGE = 4
#: How many features are asked for their gradient at once, the latest first; of those that have some, how many for where
#: their positions lie before all are.
_LATEST, _TRIED = 24, 3


def choose(model: nn.Module, inputs: Inputs, *, side: Side, resolve: Resolve | None = None) -> tuple[Choice, int, int]:
    """The layer for a method that is recorded on that side of the activation; forwards and backwards spent on it.

    Args:
        resolve: the target whose gradient must reach the layer; without one the gradient is not asked for.

    Raises:
        WhycamError: no layer has spatial axes, or none has its positions where the input has them.
    """
    model = unwrapped(model)
    part, inside = _part(resolve), _inside(model, resolve)
    known = _settled.of(model, inputs)
    if (part, inside) in known:
        return known[part, inside].on(side), 0, 0
    found, forwards = features(model, inputs)
    name = answer_name(model, inputs, part)
    whole = main_stream(_of_part(found, inside))
    before = _before_answer(whole, name)
    stream, axes = _on_every_axis(before)
    later = (_passed_over(whole[-1], name) if whole[-1] is not before[-1] else "") + axes
    if is_convolutional(model, inputs):
        last = stream[-1]
        latest = known[part, inside] = _Latest(last, last.layout, "by construction", _last(last.grid) + later)
        return latest.on(side), forwards, 0
    latest, lasting, *spent = _among_tokens(model, inputs, stream, resolve)
    latest = latest._replace(why=latest.why + later)
    if lasting:
        known[part, inside] = latest
    return latest.on(side), forwards + spent[0], spent[1]


def stages(
    model: nn.Module, inputs: Inputs, count: int, *, or_fewer: bool = False, resolve: Resolve | None = None
) -> tuple[list[LayerRef], int]:
    """The last feature at each of the last `count` grids, in running order, and the forwards spent (0 or 1).

    With `or_fewer` a network of fewer stages gives all it has.

    Raises:
        WhycamError: the network has fewer stages.
    """
    found, forwards = features(unwrapped(model), inputs)
    here = _of_part(found, _inside(model, resolve))
    last = {feature.grid: feature for feature in main_stream(here)}
    ends = [feature for feature in here if last.get(feature.grid) is feature]
    if len(ends) < count and not or_fewer:
        grids = ", ".join("x".join(map(str, feature.grid)) for feature in ends)
        several = "s" if len(ends) > 1 else ""
        raise LayerNotFound(f"the model has {len(ends)} stage{several}, of {grids} locations, and not {count}.")
    return [feature.tap for feature in ends[-count:]], forwards


def correct(
    model: nn.Module, inputs: Inputs, resolve: Resolve, *, side: Side, tried: LayerRef, lasting: bool
) -> tuple[Choice | None, int, int]:
    """A layer whose locations the score does depend on, after the one that was tried turned out to have no gradient.

    Records every other candidate in one pass of the first sample and takes the last that has gradient at most
    locations; `None` if there is no such layer. Returns the forwards and backwards spent as well. `lasting`: the cause
    lies in the network and not in these inputs, so the next call may start from what is found.
    """
    model = unwrapped(model)
    found, forwards = features(model, inputs)
    part, inside = _part(resolve), _inside(model, resolve)
    stream, _ = _on_every_axis(_before_answer(main_stream(_of_part(found, inside)), answer_name(model, inputs, part)))
    others = [feature for feature in stream if tried not in (feature.tap, feature.before)]
    reached, _, *passes = with_gradient(model, inputs, others, resolve)
    forwards += passes[0]
    if not reached:
        return None, forwards, passes[1]
    feature = reached[-1]
    layout: Layout | None = feature.layout
    location: Location = "by construction"
    if not is_convolutional(model, inputs):
        located, spent = locate(model, inputs, {feature.tap: feature.readings})
        (layout, location), forwards = located[feature.tap], forwards + spent
    if layout is None:
        return None, forwards, passes[1]
    latest = _Latest(feature, layout, location, _depended(layout.grid(feature.shape), tried))
    if lasting:
        _settled.of(model, inputs)[part, inside] = latest
    return latest.on(side), forwards, passes[1]


def _among_tokens(
    model: nn.Module, inputs: Inputs, stream: Sequence[Feature], resolve: Resolve | None
) -> tuple[_Latest, bool, int, int]:
    """The choice for a network that is not plainly convolutional, whether it will last, and the passes spent."""
    last = stream[-1]
    lasting, forwards, backwards = resolve is not None, 0, 0
    refused: list[Feature] = []
    chunks = [stream[max(0, end - _LATEST) : end] for end in range(len(stream), 0, -_LATEST)]
    for chunk in chunks:
        usable = chunk
        if resolve is not None:
            usable, structural, *passes = with_gradient(model, inputs, chunk, resolve)
            forwards, backwards = forwards + passes[0], backwards + passes[1]
            # a zero gradient at the last feature may be specific to this sample, unless the architecture causes it
            lasting = lasting and (last not in chunk or last in usable or structural)
            if not usable and chunk is chunks[-1] and not refused:
                usable, lasting = [last], False  # nothing depends on anything: the pass itself will say so
        for several in (usable[: -_TRIED - 1 : -1], usable[-_TRIED - 1 :: -1]):
            if not several:
                continue
            located, spent = locate(model, inputs, {feature.tap: feature.readings for feature in several})
            forwards += spent
            for feature in several:
                layout, location = located[feature.tap]
                misplaced = any(not is_guess(each.layout) for each in refused)
                if layout is None or (misplaced and location != "verified"):
                    refused.append(feature)
                    continue
                grid = layout.grid(feature.shape)
                reached = last in (feature, *refused)
                why = _last(grid) if reached else _depended(grid, last.tap)
                if refused:
                    how = "cannot be told" if is_guess(refused[0].layout) else "do not"
                    why += f" and whose positions lie as in the input; those of {str(refused[0].tap)!r} {how}"
                return _Latest(feature, layout, location, why), lasting, forwards, backwards
    names = ", ".join(repr(str(feature.tap)) for feature in refused[:_TRIED])
    raise Misplaced(
        f"the positions of this model's last features ({names}) do not lie as in the input: a change of one half of "
        "the input shows where the other half was expected. So it is where a network turns or crops its input, or "
        "takes it as (N, H, W, C); explain the part of it that is given the picture as you see it. Else name an "
        "earlier layer with layer=, or one call of it as 'NAME#0', or say how to read it with layout=."
    )


def _part(resolve: Resolve | None) -> Any:
    """Which part of the output a target is asked of: what its score depends on differs from part to part."""
    return getattr(resolve, "part", None)


def _inside(model: nn.Module, resolve: Resolve | None) -> str:
    """The part of the network in which the target wants its layer; empty for all of it."""
    settling = resolve.settling if isinstance(resolve, OutputSelector) else None
    return "" if settling is None else settling.target.within(model)


def _of_part(found: Sequence[Feature], inside: str) -> list[Feature]:
    """The features that are made in a part of the network.

    Raises:
        WhycamError: it makes none.
    """
    here = [each for each in found if not inside or any(f"{name}.".startswith(f"{inside}.") for name in each.names)]
    if not here:
        raise LayerRefused(f"no module of {inside!r} returns anything with spatial axes; name a layer with layer=.")
    return here


def _last(grid: Sequence[int]) -> str:
    return f"the last feature with spatial axes ({'x'.join(map(str, grid))})"


def _depended(grid: Sequence[int], tried: LayerRef) -> str:
    return (
        f"the last feature whose locations the score depends on ({'x'.join(map(str, grid))}); at {str(tried)!r} the "
        "gradient is zero"
    )


def with_gradient(
    model: nn.Module, inputs: Inputs, several: Sequence[Feature], resolve: Resolve
) -> tuple[list[Feature], bool, int, int]:
    """Those whose gradient is not zero at most positions, whether the network's form explains the last's, the passes.

    A gradient of zero is this sample's alone where the feature is silent, as behind dead ReLUs.
    """
    several = [feature for feature in several if not feature.quantized]  # which have no gradient
    if not several:
        return [], False, 0, 0
    layouts = {feature.tap: feature.layout for feature in several}

    def run(inputs: Inputs) -> Recording:
        return record(model, inputs, list(layouts), [resolve], layouts=layouts, must_depend=False)

    recording, failed = on_first_sample(run, inputs)
    reached = []
    for feature in several:
        gradient = recording.layers[feature.tap].gradients[0]
        if gradient is not None and ((gradient != 0) & gradient.isfinite()).any(1).float().mean() > 0.5:
            reached.append(feature)
    active = recording.layers[several[-1].tap].activations.any(1).float().mean() > 0.5
    return reached, bool(active), recording.forwards + failed, recording.backwards


def main_stream(found: Sequence[Feature]) -> list[Feature]:
    """The features that carry a network's own representation, and not a step inside attention or a small network.

    Channels first: what is no resampling. Tokens and channels last: what blocks and normalizations return, as wide as
    the last of them on its grid.
    """
    main = [
        feature
        for feature in found
        if feature.role != "resampling"
        and not feature.inner
        and (isinstance(feature.layout, ChannelsFirst) or feature.role in ("block", "norm"))
    ]
    main = main or [feature for feature in found if feature.role != "resampling"] or list(found)
    while len(main) > 1 and _is_pooled(main[-1], main):
        main.pop()
    last = next((each for each in reversed(main) if not is_guess(each.layout)), main[-1])
    if isinstance(last.layout, ChannelsFirst):
        return main
    return [feature for feature in main if feature.grid != last.grid or feature.width == last.width]


def _before_answer(stream: Sequence[Feature], name: str | None) -> list[Feature]:
    """The features that the part of the output of that name is made of, without those that are that part itself.

    A map of these would show the prediction in place of its reasons.

    Raises:
        WhycamError: there are no others.
    """
    if name is None:
        return list(stream)
    reached = [feature for feature in stream if feature.reaches is None or name in feature.reaches] or list(stream)
    before = [feature for feature in reached if name not in feature.is_answer]
    if not before:
        raise LayerRefused(
            "every spatial feature of this model is its answer itself, up to an activation or a change of size, and a "
            "map of it would be the prediction again; name a layer all the same with layer=, or use a method that "
            "works at the input, such as occlusion."
        )
    return before


def _on_every_axis(stream: Sequence[Feature]) -> tuple[Sequence[Feature], str]:
    """The features up to the last with two cells on each axis longer than one in the input, and what is said of later.

    All features of pictures, and where none has.
    """
    last, kept = stream[-1], [feature for feature in stream if not collapsed(feature)]
    if not collapsed(last):
        return kept, ""
    said = f"a single cell along an axis of the input ({'x'.join(map(str, last.grid))})"
    if not kept:
        return stream, f"; it has {said}, as every other feature has"
    kept = [feature for feature in kept if not feature.bypassed] or kept
    return kept, f"; {str(last.tap)!r} comes later and has {said}"


def collapsed(feature: Feature) -> bool:
    """Whether a signal's, volume's or clip's feature has a single cell along an axis longer than one in the input."""
    axes = zip(feature.grid, feature.stride, strict=False)
    return len(feature.grid) != 2 and any(cells == 1 < stride for cells, stride in axes)


def _passed_over(last: Feature, name: str | None) -> str:
    itself = name in last.is_answer
    return f"; {str(last.tap)!r} comes later and " + ("is the answer itself" if itself else "has no part in the answer")


def _is_pooled(feature: Feature, stream: Sequence[Feature]) -> bool:
    """Whether an axis was collapsed before it by far more than a stage does, as by pooling with what is left over."""
    finer = next((each.grid for each in reversed(stream) if each.grid != feature.grid), feature.grid)
    if len(finer) != len(feature.grid):
        return False
    return any(here == 1 and before > _STAGE for here, before in zip(feature.grid, finer, strict=True))


def zero_everywhere(gradient: Tensor | None) -> bool:
    """Whether no location of any sample has gradient."""
    return gradient is None or not bool(gradient.abs().amax() != 0)
