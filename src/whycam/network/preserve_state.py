"""A model is left as it was found: buffers, tensors it keeps, random numbers, autocast's cache; also after an error."""

import operator
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import _pop_mode as _pop_function_mode
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode

from whycam.network.adapted import Adapted
from whycam.network.cache import table
from whycam.network.model_tree import ModelTree, tree_of
from whycam.network.pytree import tensors

#: Held while a model in training mode runs: it writes to its buffers, and draws, and both are put back afterwards.
_training = threading.RLock()
#: Packages that stand between a caller and a warning: this one, and those that check its types in the tests.
_OURS = {"whycam", "contextlib", "jaxtyping", "beartype"}
_warned: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()
#: Models in use now: the blocks that use them, and their attributes as the first found them.
_attributes: "weakref.WeakKeyDictionary[nn.Module, tuple[set[_State], _Attributes]]"
_attributes = weakref.WeakKeyDictionary()
_attributes_lock = threading.Lock()


@contextmanager
def as_found(model: nn.Module) -> Iterator[None]:
    """A block in which running `model` leaves no trace on it.

    Inside, gradients are off until the recorder turns them on, and inference mode is left. Modules in training mode
    stay in it; what a forward pass would write there (running statistics, counters) is put back, and so are tensors
    that it keeps as attributes (attention weights for a look at them, the weight that `weight_norm` computes).
    """
    tree = tree_of(model)
    adapted = model if isinstance(model, Adapted) else None
    training = True in tree.training
    beside = threading.active_count() > 1 and not training
    unusual = training or beside or adapted is not None or torch.is_inference_mode_enabled()
    # each in a block of its own, since an interrupt may come at any moment, also while things are put back
    modes = torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()
    try:
        with _unusual(model, adapted, training, beside) if unusual else _USUAL as drew:
            grad, autocast = torch.is_grad_enabled(), torch.is_autocast_cache_enabled()
            state = _State(tree)
            try:
                state.keep()
                yield
            finally:
                try:
                    state.restore(drew)
                finally:
                    torch.set_autocast_cache_enabled(autocast)
                    torch._C._set_grad_enabled(grad)
    finally:
        _leave_modes(*modes)


_USUAL: AbstractContextManager[Callable[[], bool]] = nullcontext(lambda: True)


@contextmanager
def _unusual(model: nn.Module, adapted: Adapted | None, training: bool, beside: bool) -> Iterator[Callable[[], bool]]:
    """What some networks and threads need besides: training mode, other frameworks, inference mode, random draws.

    It yields whether the network may have drawn random numbers.
    """
    if training and adapted is None:
        _warn_if_it_matters(model)
    with ExitStack() as stack:
        if training or adapted is not None:
            stack.enter_context(_training)
        if adapted is not None:
            stack.enter_context(adapted.kept())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        yield stack.enter_context(_drawing(model)) if beside else lambda: True


#: Whether a network draws random numbers in evaluation, as far as that was watched.
_known_to_draw: "weakref.WeakKeyDictionary[nn.Module, bool]" = table()


class _Drawing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notices whether operations of this thread draw from a generator."""

    drew = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch would import its compiler, more than a second, to keep that from tracing this."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.drew = self.drew or torch.Tag.nondeterministic_seeded in getattr(func, "tags", ())
        return func(*args, **(kwargs or {}))


@contextmanager
def _drawing(model: nn.Module) -> Iterator[Callable[[], bool]]:
    """A block after which it is known whether the network drew, beside other threads that may draw as well.

    Watched once for each network, since it costs time for every operation.
    """
    if model in _known_to_draw:
        yield lambda: _known_to_draw[model]
        return
    with _Drawing() as mode:  # type: ignore[no-untyped-call]
        yield lambda: mode.drew
    _known_to_draw[model] = mode.drew


class _State:
    """What a pass may change: buffers, generators, attributes. Gradients and autocast's cache are off after `keep`."""

    def __init__(self, tree: ModelTree) -> None:
        self.tree = tree
        self.buffers: list[tuple[nn.Module, str, Any]] = []
        self.values: list[Tensor] = []
        self.random: dict[torch.device | None, Tensor] = {}

    def keep(self) -> None:
        """Remember all of it."""
        torch._C._set_grad_enabled(False)
        self.buffers = [(owner, name, owner._buffers[name]) for owner, name in self.tree.written]
        self.values = [buffer.detach().clone() for _, _, buffer in self.buffers if buffer is not None]
        self.random = _random_state(self.tree)
        # weights that autocast casts while gradients are off must not be reused by the caller's own training step
        torch.set_autocast_cache_enabled(False)
        if self.tree.keeping:
            with _attributes_lock:
                users, _ = _attributes.setdefault(self.tree.model, (set(), _Attributes(self.tree.keeping)))
                users.add(self)

    def restore(self, drew: Callable[[], bool]) -> None:
        """Put all of it back, the generators only where the pass may have drawn from them.

        Tensors that a pass leaves on the modules would keep its graph alive. Blocks in several threads share what the
        first of them found there; the last puts it back.
        """
        try:
            with _attributes_lock:
                users, found = _attributes.get(self.tree.model, (set(), None))
                users.discard(self)
                if found is not None and not users:
                    del _attributes[self.tree.model]
                    found.restore()
        finally:
            if self.random and drew():
                _rewind(self.random)
            torch._C._set_grad_enabled(False)
            _put_back(self.buffers, self.values)


def _leave_modes(functions: int, dispatches: int) -> None:
    """Take off this thread's stacks what an interrupt in the middle of entering or leaving a mode left on them."""
    while torch._C._len_torch_function_stack() > functions:
        _pop_function_mode()  # type: ignore[no-untyped-call]
    while torch._C._len_torch_dispatch_stack() > dispatches:
        _pop_mode()


def _put_back(buffers: Sequence[tuple[nn.Module, str, Any]], values: Sequence[Tensor]) -> None:
    """Put back what a forward wrote to buffers; what it left alone is not written to, so that no version moves."""
    for (owner, name, buffer), value in zip(buffers, values, strict=True):
        owner._buffers[name] = buffer
        if not torch.equal(buffer, value):
            # .data: a bumped version would break a backward pass that the caller still has to make
            buffer.data.copy_(value)


class _Attributes:
    """The attributes of modules, and what their lists and dicts hold; torch's own, of parameters and hooks, apart."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.before = [(module, dict(module.__dict__)) for module in modules]
        self.held = [
            (value, value.copy())
            for _, before in self.before
            for name in before
            if name not in _OF_MODULES and type(value := before[name]) in (list, dict)
        ]
        # kept by an earlier pass in inference mode, as YOLO's heads keep their anchors: no gradient may touch them
        for module, before in self.before:
            for name in before:
                if type(value := before[name]) is Tensor and value.is_inference():
                    module.__dict__[name] = value.clone()

    def restore(self) -> None:
        """Take away new tensors and put back old ones, with what changed beside them. A counter alone stays."""
        for value, held in self.held:
            here, then = _values(value), _values(held)
            refilled = len(here) != len(then) or any(map(operator.is_not, here, then))
            if refilled and any(True for _ in tensors(value)):
                value.clear()
                value.extend(held) if isinstance(value, list) else value.update(held)
        changed = [
            (module.__dict__, before, name)
            for module, before in self.before
            for name in module.__dict__
            if name not in before or before[name] is not module.__dict__[name]
        ]
        # all of a module or nothing: YOLO's heads keep anchors, and beside them the shape that they are for
        keeping = [id(now) for now, _, name in changed if any(True for _ in tensors(now[name]))]
        for now, before, name in changed:
            if id(now) in keeping and name in before:
                now[name] = before[name]
            elif id(now) in keeping:
                del now[name]


_OF_MODULES = frozenset(vars(nn.Module()))


def _values(held: list[Any] | dict[Any, Any]) -> Sequence[Any]:
    return held if isinstance(held, list) else list(held.values())


def _random_state(tree: ModelTree) -> dict[torch.device | None, Tensor]:
    """The state of the generators that a pass may draw from: the CPU's, under `None`, and those of its GPUs."""
    states: dict[torch.device | None, Tensor] = {None: torch.default_generator.get_state()}
    for device in tree.devices:
        if device.type == "cuda":
            states[device] = torch.cuda.get_rng_state(device)
    return states


def _rewind(states: Mapping[torch.device | None, Tensor]) -> None:
    """Put back the generators that were drawn from, and leave alone the others, from which other threads may draw."""
    for device, state in states.items():
        if device is None:
            if not torch.equal(torch.default_generator.get_state(), state):
                torch.set_rng_state(state)
        elif not torch.equal(torch.cuda.get_rng_state(device), state):
            torch.cuda.set_rng_state(state, device)


def acting(model: nn.Module) -> list[str]:
    """The modules that act differently because they are in training mode: batch statistics, dropout."""
    return [
        name
        for name, module in model.named_modules()
        if module.training and (isinstance(module, (_NormBase, _DropoutNd)) or "drop" in type(module).__name__.lower())
    ]


def _warn_if_it_matters(model: nn.Module) -> None:
    if model in _warned:
        return
    matters = acting(model)
    if matters:
        _warned.add(model)
        frame, level = sys._getframe(), 1
        while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
            frame, level = frame.f_back, level + 1
        act = f" and {len(matters) - 1} other modules act" if len(matters) > 1 else " acts"
        warnings.warn(
            f"the model is in training mode, so {matters[0]!r}{act} differently from prediction (batch "
            "statistics, dropout) and one sample's map can depend on the others. "
            "It is left as it is; call model.eval() to explain what it predicts.",
            UserWarning,
            stacklevel=level,  # the line that called us
        )
