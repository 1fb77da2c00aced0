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
blocks and normalisations return, and not the projections inside attention. Two more things are settled before the
network is asked about its batch, each by one pass of the first sample, kept for the next call. The score must depend on
most positions: a class token that is read alone leaves the patches of the last block without any gradient, and then the
latest feature that has some is taken, in most families the norm before the last attention. And the positions must lie
where the layout says (`location`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.network.eager import unwrapped
from whycam.network.layouts import ChannelsFirst, Layout
from whycam.network.location import Location, locate
from whycam.network.observing import Feature, features, is_convolutional
from whycam.network.recording import Bind, Inputs, record
from whycam.network.remembered import Remembered
from whycam.network.structures import first_sample
from whycam.network.taps import Tap
from whycam.registry import Side


@dataclass(frozen=True)
class Choice:
    """A chosen layer and the reason, in words; how it is read, and how that is known.

    `settled`: whether the score is known to depend on its positions; it is not for a convolutional network, where the
    gradient of the pass itself tells.
    """

    tap: Tap
    why: str
    layout: Layout
    location: Location = "by construction"
    settled: bool = False


#: The layers that were settled on: by side for a network of tokens; as `"corrected"` where a pass showed no gradient.
_settled: Remembered[Choice] = Remembered()
#: How many of the latest features are tried before all are.
_LATEST = 24


def choose(model: nn.Module, inputs: Inputs, *, side: Side, bind: Bind | None = None) -> tuple[Choice, int, int]:
    """The layer for a method that is recorded on that side of the activation; forwards and backwards spent on it.

    Args:
        bind: the target whose gradient must reach the layer; without one the gradient is not asked for.

    Raises:
        WhycamError: no layer has spatial axes, or none has its positions where the input has them.
    """
    model = unwrapped(model)
    known = _settled.of(model, inputs)
    for name in ("corrected", side):
        if name in known:
            return known[name], 0, 0
    found, forwards = features(model, inputs)
    if not is_convolutional(model, inputs):
        choice, lasting, *spent = _among_tokens(model, inputs, found, side, bind)
        if lasting:
            known[side] = choice
        return choice, forwards + spent[0], spent[1]
    usable = [feature for feature in found if feature.role != "resampling"] or list(found)
    last = usable[-1]
    if side == "after" or last.before is None:
        where = ", after its activation" if last.before is not None else ""
        return Choice(last.tap, f"the last feature with spatial axes ({_spell(last)}){where}", last.layout), forwards, 0
    why = f"the last feature with spatial axes ({_spell(last)}), before its activation: a silent channel counts against"
    return Choice(last.before, why, last.layout), forwards, 0


def correct(model: nn.Module, inputs: Inputs, bind: Bind, *, lasting: bool) -> tuple[Choice | None, int, int]:
    """A layer whose locations the score does depend on, after the chosen one turned out to have no gradient.

    Records every candidate in one pass of the first sample and takes the last one before the chosen that has gradient
    at most locations; `None` if there is no such layer. Returns the forwards and backwards spent as well. `lasting`:
    the cause lies in the network and not in these inputs, so the next call may start from what is found.
    """
    model = unwrapped(model)
    found, forwards = features(model, inputs)
    usable = [feature for feature in found if feature.role != "resampling"]
    reached, _, *passes = _reached(model, inputs, usable[:-1], bind)
    forwards += passes[0]
    if not reached:
        return None, forwards, passes[1]
    feature, later = reached[-1], usable[-1].tap
    why = f"the last feature whose locations the score depends on; at {str(later)!r} the gradient is zero"
    choice = Choice(feature.tap, why, feature.layout, settled=True)
    if lasting:
        _settled.of(model, inputs)["corrected"] = choice
    return choice, forwards, passes[1]


def _among_tokens(
    model: nn.Module, inputs: Inputs, found: Sequence[Feature], side: Side, bind: Bind | None
) -> tuple[Choice, bool, int, int]:
    """The choice for a network that is not plainly convolutional, whether it will last, and the passes spent."""
    stream = _stream(found)
    last = stream[-1]
    usable, lasting, forwards, backwards = list(stream), True, 0, 0
    if bind is not None:
        for several in (stream[-_LATEST:], stream[:-_LATEST]):
            reached, structural, *passes = _reached(model, inputs, several, bind)
            forwards, backwards = forwards + passes[0], backwards + passes[1]
            if reached:
                # a zero gradient at the last feature may be this sample's alone, unless the network's form explains it
                usable, lasting = reached, last in reached or structural
                break
        else:
            lasting = False  # nothing depends on anything: the pass itself will say so
    latest = usable[-1:-4:-1]
    located, spent = locate(model, inputs, {feature.tap: feature.readings for feature in latest})
    for feature in latest:
        layout, location = located[feature.tap]
        if layout is None:
            continue
        grid = "x".join(map(str, layout.grid(feature.shape)))
        why = f"the last feature with spatial axes ({grid})"
        if last not in usable:
            why = (
                f"the last feature whose locations the score depends on ({grid}); at {str(last.tap)!r} the gradient is "
                "zero"
            )
        elif feature is not last:
            why += f" whose positions lie as in the input; those of {str(last.tap)!r} do not"
        tap = feature.tap
        if feature.before is not None:
            tap = feature.before if side == "before" else tap
            why += (
                ", before its activation: a silent channel counts against"
                if side == "before"
                else ", after its activation"
            )
        settled = bind is not None and feature in usable
        return Choice(tap, why, layout, location, settled), lasting, forwards + spent, backwards
    names = ", ".join(repr(str(feature.tap)) for feature in latest)
    raise WhycamError(
        f"the positions of this model's last features ({names}) do not lie as in the input: a change of one half of "
        "the input shows where the other half was expected. Name an earlier layer with layer=, or say how to read it "
        "with layout=."
    )


def _reached(
    model: nn.Module, inputs: Inputs, several: Sequence[Feature], bind: Bind
) -> tuple[list[Feature], bool, int, int]:
    """Those whose gradient is not zero at most positions, whether the others' form explains theirs, and the passes."""
    if not several:
        return [], False, 0, 0
    layouts = {feature.tap: feature.layout for feature in several}
    recording = record(model, first_sample(inputs), list(layouts), [bind], layouts=layouts, must_depend=False)
    reached, structural = [], True
    for feature in several:
        layer = recording.layers[feature.tap]
        gradient = layer.gradients[0]
        if gradient is not None and gradient.any(1).float().mean() > 0.5:
            reached.append(feature)
        elif gradient is not None and not layer.outside[0]:
            structural = False
    return reached, structural, recording.forwards, recording.backwards


def _stream(found: Sequence[Feature]) -> list[Feature]:
    """The features that carry a network's own representation, and not a step inside attention or a small network.

    Channels first: what is no resampling. Tokens and channels last: what blocks and normalisations return, as wide as
    the last of them on its grid.
    """
    main = [
        feature
        for feature in found
        if feature.role != "resampling"
        and (isinstance(feature.layout, ChannelsFirst) or feature.role in ("block", "norm"))
    ] or list(found)
    last = main[-1]
    return [feature for feature in main if feature.grid != last.grid or feature.width == last.width]


def _spell(feature: Feature) -> str:
    return "x".join(map(str, feature.grid))


def zero_everywhere(gradient: Tensor | None) -> bool:
    """Whether no location of any sample has gradient."""
    return gradient is None or not bool(gradient.abs().amax() != 0)
