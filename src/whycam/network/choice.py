"""Which layer to explain when nobody says: the last spatial feature, on the side of its activation that suits a method.

The rule needs no metadata. One forward of one sample (kept for the next call) lists every module whose output has
spatial axes, in the order they finish. The last of them is taken; outputs of pooling and resampling are passed over,
since they only repeat an earlier feature. Modules that return the very same tensor are one feature, and the outermost
name is used.

Where that feature is an activation function applied to another module's output, there are two sides to choose from.
Grad-CAM, which weighs whole channels by their mean gradient, gains from the signed side before the function: a channel
that is silent at a location then counts as evidence against. Measured on three pretrained networks (docs/benchmarks.md,
grid pointing), about 0.98 of its evidence is in the right quarter before the activation and 0.80 to 0.83 after it. For
methods that multiply activations and gradients location by location the side after is as good or better, since the
function's own gate is in the gradient before it; and XGrad-CAM, Grad-CAM++, LayerCAM, FEM and CAM are defined there.
"""

import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.network.eager import eager, unwrapped
from whycam.network.guard import as_found
from whycam.network.layouts import Layout, Tokens, infer_layout
from whycam.network.recording import Bind, Inputs, call, record, watching
from whycam.network.structures import detached_copy, first_tensor, mapped, only_tensor, tensors
from whycam.network.taps import Tap
from whycam.registry import Side

_RESAMPLING = (
    nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d,
    nn.ReplicationPad2d, nn.Fold, nn.Unfold,
)  # fmt: skip


@dataclass(frozen=True)
class Feature:
    """One spatial feature of a network: a tensor that one or more modules returned.

    Attributes:
        tap: the place by its best name; `names` are all of them, innermost first.
        shape: the shape returned, for one sample; `grid` its spatial sizes, `stride` the input pixels per location.
        role: `"activation"`, `"resampling"` or `"feature"`.
        before: the place of the same feature before its activation, where a module returned that.
    """

    tap: Tap
    names: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    layout: Layout
    grid: tuple[int, ...]
    stride: tuple[float, ...]
    role: str
    before: Tap | None = None


@dataclass(frozen=True)
class Choice:
    """A chosen layer and the reason, in words."""

    tap: Tap
    why: str


#: What observing a model found: by the model, then by its structure and the shape of its inputs.
_observed: "weakref.WeakKeyDictionary[nn.Module, dict[Any, tuple[Feature, ...]]]" = weakref.WeakKeyDictionary()
#: Layers whose gradient turned out to be zero at every location, with the layer to use instead.
_corrected: "weakref.WeakKeyDictionary[nn.Module, dict[Any, Choice]]" = weakref.WeakKeyDictionary()


def features(model: nn.Module, inputs: Inputs) -> tuple[tuple[Feature, ...], int]:
    """The spatial features of a network in the order they are made, and the forwards it took to find them (0 or 1).

    Raises:
        WhycamError: no module returns anything with spatial axes.
    """
    model = unwrapped(model)
    known = _observed.setdefault(model, {})
    key = _key(model, inputs)
    if key in known:
        return known[key], 0
    found = tuple(_observe(model, inputs))
    if not found:
        raise WhycamError(
            "no module of this model returns anything with spatial axes, so no layer can be chosen; name one with "
            "layer= and, if its output needs reading in a special way, pass layout=."
        )
    known[key] = found
    return found, 1


def choose(model: nn.Module, inputs: Inputs, *, side: Side) -> tuple[Choice, int]:
    """The layer for a method that is recorded on that side of the activation, and the forwards spent on finding it."""
    model = unwrapped(model)
    if fixed := _corrected.get(model, {}).get(_key(model, inputs)):
        return fixed, 0
    found, forwards = features(model, inputs)
    usable = [feature for feature in found if feature.role != "resampling"] or list(found)
    last = usable[-1]
    grid = "x".join(map(str, last.grid))
    if side == "after" or last.before is None:
        where = ", after its activation" if last.before is not None else ""
        return Choice(last.tap, f"the last feature with spatial axes ({grid}){where}"), forwards
    return (
        Choice(
            last.before,
            f"the last feature with spatial axes ({grid}), before its activation: a silent channel counts against",
        ),
        forwards,
    )


def correct(model: nn.Module, inputs: Inputs, bind: Bind, *, lasting: bool) -> tuple[Choice | None, int, int]:
    """A layer whose locations the score does depend on, after the chosen one turned out to have no gradient.

    Records every candidate in one pass of the first sample and takes the last one before the chosen that has gradient
    at most locations; `None` if there is no such layer. Returns the forwards and backwards spent as well. `lasting`:
    the cause lies in the network and not in these inputs, so the next call may start from what is found.
    """
    model = unwrapped(model)
    found, forwards = features(model, inputs)
    usable = [feature for feature in found if feature.role != "resampling"]
    one = _first_sample(inputs)
    recording = record(model, one, [feature.tap for feature in usable], [bind], must_depend=False)
    forwards += recording.forwards
    for feature in reversed(usable[:-1]):
        gradient = recording.layers[feature.tap].gradients[0]
        if gradient is not None and gradient.any(1).float().mean() > 0.5:
            later = usable[-1].tap
            choice = Choice(
                feature.tap,
                f"the last feature whose locations the score depends on; at {str(later)!r} the gradient is zero",
            )
            if lasting:
                _corrected.setdefault(model, {})[_key(model, inputs)] = choice
            return choice, forwards, recording.backwards
    return None, forwards, recording.backwards


def _observe(model: nn.Module, inputs: Inputs) -> list[Feature]:
    given = detached_copy(_first_sample(inputs))
    size = tuple(first_tensor(given).shape)
    watcher = _Watcher()
    with as_found(model), eager(model), ExitStack() as stack:
        for name, module in model.named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hook
                stack.enter_context(watching(module, "output", partial(watcher.returned, name, module)))
                stack.enter_context(watching(module, "input", partial(watcher.given, name)))
        call(model, given)
    return watcher.features(size)


class _Watcher:
    """Notes which modules returned which tensors; a tensor written to in place counts as another one."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], tuple[weakref.ref[Tensor], int]] = {}
        self.tokens = 0
        self.calls: dict[str, int] = {}
        self.source: dict[str, int | None] = {}
        self.events: list[tuple[str, int, nn.Module, int, int | None, tuple[int, ...]]] = []

    def token(self, tensor: Tensor) -> int:
        key = (id(tensor), tensor._version)
        known = self.seen.get(key)
        if known is None or known[0]() is not tensor:
            self.tokens += 1
            known = self.seen[key] = (weakref.ref(tensor), self.tokens)
        return known[1]

    def given(self, name: str, value: Any, _: Any) -> None:
        found = [tensor for _, tensor in tensors(value)]
        self.source[name] = self.token(found[0]) if len(found) == 1 else None

    def returned(self, name: str, module: nn.Module, value: Any, _: Any) -> None:
        number = self.calls.get(name, 0)
        self.calls[name] = number + 1
        try:
            tensor = only_tensor(value, name)[1]
        except TypeError:
            return
        self.events.append((name, number, module, self.token(tensor), self.source.get(name), tuple(tensor.shape)))

    def features(self, inputs: tuple[int, ...]) -> list[Feature]:
        groups: dict[int, list[tuple[str, int, nn.Module, int, int | None, tuple[int, ...]]]] = {}
        for event in self.events:
            groups.setdefault(event[3], []).append(event)
        best = {token: self._tap(group) for token, group in groups.items()}
        made = []
        for token, group in groups.items():
            _, _, module, _, source, shape = group[0]
            try:
                layout = infer_layout(shape, inputs)
            except WhycamError:
                continue
            grid = layout.grid(shape)
            if len(inputs) == 3 and prod(grid) > prod(inputs[2:]):
                continue
            role = _role(module)
            before = best.get(source) if role == "activation" and source is not None and source != token else None
            made.append(
                Feature(
                    best[token],
                    tuple(event[0] for event in group),
                    type(module).__name__,
                    shape,
                    layout,
                    grid,
                    tuple(side / cells for side, cells in zip(inputs[2:], grid, strict=True)),
                    role,
                    before,
                )
            )
        return _without_attention(made)

    def _tap(self, group: Sequence[tuple[str, int, nn.Module, int, int | None, tuple[int, ...]]]) -> Tap:
        """The outermost name that needs no call number, else the outermost with one."""
        making = [event for event in group if event[3] != event[4]] or list(group)  # not an Identity that passes it on
        once = [event for event in making if self.calls[event[0]] == 1]
        name, number, *_ = min(once or making, key=lambda event: event[0].count("."))
        return Tap(name) if once else Tap(name, number)


def _without_attention(found: Sequence[Feature]) -> list[Feature]:
    """Leaves out what attention computes inside, (batch, head, token, width or token), no image for all its axes."""
    tokens = {each.shape[1]: each.layout.prefix for each in found if isinstance(each.layout, Tokens)}
    return [
        each
        for each in found
        if isinstance(each.layout, Tokens)
        or not any(tokens.get(side, 0) or (side in tokens and len(set(each.stride)) > 1) for side in each.grid)
    ]


def _role(module: nn.Module) -> str:
    """What a module does to what it is given: an activation function, a resampling, or a feature of its own."""
    if any(True for _ in module.children()) or any(True for _ in module.parameters()):
        return "feature"
    home = type(module).__module__
    if home == "torch.nn.modules.pooling" or isinstance(module, _RESAMPLING):
        return "resampling"
    return "activation" if home == "torch.nn.modules.activation" else "feature"


def _key(model: nn.Module, inputs: Inputs) -> Any:
    shapes = tuple((path, tuple(tensor.shape[1:])) for path, tensor in tensors(inputs))
    return shapes, hash(tuple((name, id(module), module.training) for name, module in model.named_modules()))


def _first_sample(inputs: Inputs) -> Inputs:
    samples = len(first_tensor(inputs))
    one: Inputs = mapped(inputs, lambda tensor: tensor[:1] if tensor.ndim and len(tensor) == samples else tensor)
    return one


def zero_everywhere(gradient: Tensor | None) -> bool:
    """Whether no location of any sample has gradient."""
    return gradient is None or not bool(gradient.abs().amax() != 0)
