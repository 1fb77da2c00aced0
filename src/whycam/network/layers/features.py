"""The spatial features of a network: the outputs of its modules that have spatial axes, found in one forward."""

import weakref
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from math import inf, prod
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from whycam.errors import LayerRefused, WhycamError
from whycam.network.adapted import Adapted, AdaptedLayer
from whycam.network.cache import Cache
from whycam.network.input_axes import shape_of
from whycam.network.layer_refs import LayerRef, tap_of
from whycam.network.layers.positions import is_guess
from whycam.network.layouts import ChannelsFirst, Layout, Scales, Tokens, keeps_proportions, readings
from whycam.network.origin import behind, keep, least_behind, made_by, place_by_place, straight, traceable
from whycam.network.outputs import OutputPath, number_of_classes, plain, read
from whycam.network.preserve_state import as_found
from whycam.network.pytree import detached_copy, first_tensor, on_first_sample, only_tensor, spell, tensors
from whycam.network.recording.record import Inputs, call, watching
from whycam.network.token_metadata import token_claim
from whycam.network.unwrap import eager, unwrapped
from whycam.targets.outputs import dense

#: What a module does to what it is given: a block is made of others, a step is none of the rest.
Role: TypeAlias = Literal["activation", "resampling", "norm", "block", "step"]

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
        readings: the layouts that its axes may have, the likeliest first.
        inner: whether it is made inside a module that is called attention, a step on the way to what that returns.
        quantized: whether the tensor holds quantized numbers, through which no gradient goes.
        role: what the (innermost) module that made it does.
        before: the place of the same feature before its activation, where a module returned that.
        reaches: the tensors of the output that depend on it, by where they are; `None` where that cannot be told.
        is_answer: those with spatial axes that are made of it without a layer with weights in between.
        redraws: whether a dense answer is made of it place by place alone, so that a map of it shows the answer again.
        least: how many locations the coarsest stage has that it is made of, itself among them; 0 for what is no stage,
            such as what is pooled to a size that was asked for, and where no answer is dense.
        bypassed: whether the answer depends on the input by other ways too, as beside a branch; not asked of pictures.
    """

    tap: LayerRef
    names: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    readings: tuple[Layout, ...]
    stride: tuple[float, ...]
    role: Role
    inner: bool = False
    quantized: bool = False
    before: LayerRef | None = None
    reaches: frozenset[str] | None = None
    is_answer: frozenset[str] = frozenset()
    bypassed: bool = False
    redraws: bool = False
    least: float = 0

    @property
    def layout(self) -> Layout:
        """The likeliest."""
        return self.readings[0]

    @property
    def grid(self) -> tuple[int, ...]:
        """The spatial sizes."""
        return self.layout.grid(self.shape)

    @property
    def width(self) -> int:
        """The number of channels."""
        return self.shape[1 if isinstance(self.layout, ChannelsFirst) else -1]


#: The name of an output as a whole.
EVERYTHING = "[*]"
#: The name of a dense answer, whichever tensors of the output it is read from.
DENSE = "[dense]"
#: What observing a model found.
_observed: Cache[Any] = Cache()


def features(model: nn.Module, inputs: Inputs) -> tuple[tuple[Feature, ...], int]:
    """The spatial features of a network in the order they are made, and the forwards it took to find them.

    None where they are known; one of the first sample, or a second of all where the network does not take one alone.

    Raises:
        WhycamError: no module returns anything with spatial axes.
    """
    model = unwrapped(model)
    known = _observed.of(model, inputs)
    if "features" in known:
        return known["features"], 0
    try:
        (watched, size), failed = on_first_sample(partial(_watch, model, traced=True), inputs)
    except Exception:  # some networks run without gradients only
        (watched, size), failed = on_first_sample(partial(_watch, model, traced=False), inputs)
    found = tuple(watched.features(size, token_claim(model, size)))
    if not found and len(size) == 5:
        # several pictures for each sample, each looked at by itself; their axis is the second or the third
        size = (size[0], 1, *size[3:])
        found = tuple(watched.features(size, None))
    if not found:
        raise LayerRefused(
            "no module of this model returns anything with spatial axes, so no layer can be chosen; name one with "
            "layer= and, if its output needs reading in a special way, pass layout=."
        )
    known["features"] = found
    known["names"], known["answer"] = watched.names, watched.answer
    known["convolutional"] = watched.convolutional(size)
    return found, 1 + failed


def answer_name(model: nn.Module, inputs: Inputs, part: OutputPath | None) -> str | None:
    """Where the explained part of the output is found, of a network that was observed.

    `None` where that is open; `EVERYTHING` for all of an output no part of which is an answer.
    """
    known = _observed.of(unwrapped(model), inputs)
    if part is None:
        return str(known["answer"])
    if callable(part):
        return known["names"][0] if len(known["names"]) == 1 else None
    return next((name for name in known["names"] if plain(name) == plain(str(part))), None)


def is_convolutional(model: nn.Module, inputs: Inputs) -> bool:
    """Whether all that has a place in the input is handed on as channels first, so that nothing can have moved it.

    Tokens, channels last, and windows folded into the batch can: a module may put them back in another order. So can
    what a network does to its input before the first layer sees it (a flip), and layers that run more than once.
    """
    features(model, inputs)
    return not known_otherwise(model, inputs)


def known_otherwise(model: nn.Module, inputs: Inputs) -> bool:
    """Whether the network was observed already, and is not plainly convolutional."""
    return not _observed.of(unwrapped(model), inputs).get("convolutional", True)


def _watch(model: nn.Module, inputs: Inputs, *, traced: bool) -> tuple["_Watcher", tuple[int, ...]]:
    with as_found(model), eager(model), ExitStack() as stack:
        given = traceable(inputs) if traced else detached_copy(inputs)
        size = shape_of(model, first_tensor(given))
        watcher = _Watcher(model, given)
        for name, module in model.named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hook
                stack.enter_context(watching(module, "output", partial(watcher.returned, name, module)))
                stack.enter_context(watching(module, "input", partial(watcher.given, name, module)))
        output = call(model, given)
        watcher.answered(output)
        keep(model, inputs, output)
    return watcher, size


class _Event(NamedTuple):
    """One return of one module: what it returned and was given, as numbers of tensors."""

    name: str
    call: int
    module: nn.Module
    made: int
    source: int | None
    shape: tuple[int, ...]
    bare: bool
    quantized: bool
    node: Any


class _Watcher:
    """Notes which modules returned which tensors; a tensor written to in place counts as another one."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self.model = model
        self.seen: dict[tuple[int, int], tuple[weakref.ref[Tensor], int]] = {}
        self.tokens = 0
        self.calls: dict[str, int] = {}
        self.source: dict[str, int | None] = {}
        self.events: list[_Event] = []
        self.inputs = {self.token(tensor) for _, tensor in tensors(inputs)}
        self.samples = len(first_tensor(inputs))
        self.names: list[str] = []
        self.answer = EVERYTHING
        self.behind: dict[str, set[Any]] = {}
        self.straight: dict[str, set[Any]] = {}
        self.redrawn: set[Any] = set()
        self.axes = len(shape_of(model, first_tensor(inputs))) - 2
        self.start, self.ends = first_tensor(inputs).grad_fn, list[Any]()
        self.as_given: bool | None = None  # whether the first layer with weights was given an input as it came

    def token(self, tensor: Tensor) -> int:
        key = (id(tensor), 0 if tensor.is_inference() else tensor._version)
        known = self.seen.get(key)
        if known is None or known[0]() is not tensor:
            self.tokens += 1
            known = self.seen[key] = (weakref.ref(tensor), self.tokens)
        return known[1]

    def given(self, name: str, module: nn.Module, value: Any, _: Any) -> None:
        found = [tensor for _, tensor in tensors(value)]
        self.source[name] = self.token(found[0]) if len(found) == 1 else None
        if self.as_given is None and _has_weights(module):
            self.as_given = self.source[name] in self.inputs

    def returned(self, name: str, module: nn.Module, value: Any, _: Any) -> None:
        number = self.calls.get(name, 0)
        self.calls[name] = number + 1
        try:
            path, tensor = only_tensor(value, name)
        except TypeError:
            return
        if self.source.get(name) in self.inputs and _role(module) == "resampling":
            self.inputs.add(self.token(tensor))  # padded, scaled or resized, every place is where it was
        self.events.append(
            _Event(
                name,
                number,
                module,
                self.token(tensor),
                self.source.get(name),
                tuple(tensor.shape),
                path == (),
                tensor.is_quantized,
                tensor.grad_fn,
            )
        )

    def answered(self, output: Any) -> None:
        """Look through the graph of the output."""
        self.names = [spell(path) for path, tensor in tensors(output) if tensor.is_floating_point()]
        with suppress(WhycamError):
            self.answer = read(output, None, self.samples, number_of_classes(self.model))[0]
        if isinstance(self.model, Adapted):
            return  # torch's graph holds the network as one step, and so tells nothing of its layers
        spatial = {spell(path) for path, tensor in tensors(output) if tensor.ndim > 2 and tensor[0, 0].numel() > 1}
        made = made_by(output)
        self.ends = [made[self.answer]] if self.answer in made else list(made.values())
        for name, node in made.items():
            self.behind[name] = behind(node)
            self.straight[name] = straight(node) if name in spatial or self.answer == EVERYTHING else set()
        if self.answer == EVERYTHING:
            self.behind[EVERYTHING] = set().union(*self.behind.values())
            self.straight[EVERYTHING] = set().union(*self.straight.values())
        with suppress(WhycamError):
            scores = dense(output, self.axes).scores
            if scores.grad_fn is not None and scores.ndim == self.axes + 2:
                self.behind[DENSE], self.straight[DENSE] = behind(scores.grad_fn), straight(scores.grad_fn)
                self.redrawn = place_by_place(scores.grad_fn, self.samples)

    def features(self, inputs: tuple[int, ...], claim: Tokens | None) -> list[Feature]:
        groups: dict[int, list[_Event]] = {}
        for event in self.events:
            groups.setdefault(event.made, []).append(event)
        best = {made: self._tap(group) for made, group in groups.items()}
        kinds = {event.name: type(event.module).__name__.lower() for event in self.events}
        attention = [name for name, kind in kinds.items() if "attention" in kind or "attn" in kind]
        attention = [name for name in attention if "residual" not in kinds[name]]  # a whole block, as CLIP calls its
        found = []
        adapted: dict[tuple[int, ...], bool] = {}  # grids of a size that was asked for, which are no stages
        counts: list[tuple[Any, float]] = []
        patches: tuple[int, ...] = ()  # the grid on which a convolution put them
        grids: tuple[tuple[int, ...], ...] = ()
        for made, group in groups.items():
            first = group[0]
            layouts = list(readings(first.shape, inputs, claim, patches, grids))
            if not layouts:
                continue
            if _works_on_the_last_axis(first.module):
                layouts.sort(key=lambda layout: isinstance(layout, ChannelsFirst))
            grid = layouts[0].grid(first.shape)
            if isinstance(layouts[0], ChannelsFirst) and len(first.shape) == len(inputs) > 3:
                patches, grids = grid, tuple(dict.fromkeys((*grids, grid)))
            if len(inputs) == len(first.shape) == 3 and prod(grid) > prod(inputs[2:]):
                continue
            role = _role(first.module)
            active = role == "activation" and first.source is not None and first.source != made
            found.append(
                Feature(
                    best[made],
                    tuple(event.name for event in group),
                    type(first.module).__name__,
                    first.shape,
                    tuple(layouts),
                    tuple(side / cells for side, cells in zip(inputs[2:], grid, strict=True))
                    if len(grid) == len(inputs) - 2
                    else (),
                    role,
                    all(any(event.name.startswith(each + ".") for each in attention) for event in group),
                    first.quantized,
                    best.get(first.source) if active and first.source is not None else None,
                    frozenset(name for name, nodes in self.behind.items() if first.node in nodes)
                    if self.behind
                    else None,
                    frozenset(name for name, nodes in self.straight.items() if first.node in nodes),
                    len(inputs) != 4 and any(self.start in behind(end, first.node) for end in self.ends),
                    first.node in self.redrawn,
                )
            )
            apart = adapted.setdefault(grid, "Adaptive" in found[-1].kind) or first.shape[0] != inputs[0]
            carried = isinstance(layouts[0], ChannelsFirst) or role in ("block", "norm")  # as queries are not
            stage = carried and not (apart or found[-1].inner or is_guess(layouts[0])) and found[-1].stride
            counts.append((first.node, prod(grid) if stage else inf))
        if self.redrawn:
            least = least_behind(counts)
            found = [replace(e, least=n) if c < inf else e for e, n, (_, c) in zip(found, least, counts, strict=True)]
        # windows and heads folded into the batch are no samples
        whole = [each for each in found if each.shape[0] == inputs[0]]
        return _without_attention(whole or found)

    def convolutional(self, inputs: tuple[int, ...]) -> bool:
        if not self.as_given or any(self.calls[each.name] > 1 and _has_weights(each.module) for each in self.events):
            return False
        for event in self.events:
            if sum(side > 1 for side in event.shape[1:]) < 2:
                continue  # one location, or one vector, has no other order
            found = readings(event.shape, inputs)
            if event.shape[0] != inputs[0] or not found or not isinstance(found[0], ChannelsFirst):
                return False
            if _works_on_the_last_axis(event.module):
                return False
            if not keeps_proportions(found[0], event.shape, inputs):
                return False  # pixels of a patch along one axis and patches along the other, say
        return True

    def _tap(self, group: Sequence[_Event]) -> LayerRef:
        """The outermost name that needs no call number, else the outermost with one; wrapped in nothing if can be."""
        making = [event for event in group if event.made != event.source] or list(group)  # not an Identity
        making = [event for event in making if event.bare] or making
        once = [event for event in making if self.calls[event.name] == 1]
        best = min(once or making, key=lambda event: event.name.count("."))
        return tap_of(self.model, best.name) if once else tap_of(self.model, best.name, best.call)


def _without_attention(found: Sequence[Feature]) -> list[Feature]:
    """Leaves out what attention computes inside, (batch, head, token, width or token), no image for all its axes."""
    tokens = {
        each.shape[1]: 0 if is_guess(each.layout) else each.layout.prefix
        for each in found
        if isinstance(each.layout, Tokens)
    }
    return [
        each
        for each in found
        if isinstance(each.layout, (Tokens, Scales))
        or not any(tokens.get(side, 0) or (side in tokens and len(set(each.stride)) > 1) for side in each.grid)
    ]


def _has_weights(module: nn.Module) -> bool:
    if isinstance(module, AdaptedLayer):
        return module.has_weights
    return any(True for _ in module.parameters(recurse=False))


def _works_on_the_last_axis(module: nn.Module) -> bool:
    """Whether a module takes the last axis for the channels, whatever the sizes; subclasses may turn it first."""
    return type(module) is nn.Linear or (type(module) is nn.LayerNorm and len(module.normalized_shape) == 1)


def _role(module: nn.Module) -> Role:
    if any(True for _ in module.children()):
        return "block"
    if "norm" in type(module).__name__.lower():
        return "norm"
    if isinstance(module, AdaptedLayer):
        return module.role
    if not any(True for _ in module.parameters()):
        home = type(module).__module__
        if home == "torch.nn.modules.pooling" or isinstance(module, _RESAMPLING):
            return "resampling"
        if home == "torch.nn.modules.dropout":
            return "resampling"  # at random, where it is in training mode
        if home == "torch.nn.modules.activation":
            return "activation"
    return "step"
