"""A model is left as it was found: buffers, tensors it keeps, random numbers, autocast's cache; also after an error."""

import operator
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from whycam.network.adapted import Adapted
from whycam.network.pytree import tensors

#: Held while a model in training mode runs: it writes to its buffers, and draws, and both are put back afterwards.
_training = threading.RLock()
#: Packages that stand between a caller and a warning: this one, and those that check its types in the tests.
_OURS = {"whycam", "contextlib", "jaxtyping", "beartype"}
_warned: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()
#: Models in use now: how many blocks use them, and their attributes as the first found them.
_attributes: "weakref.WeakKeyDictionary[nn.Module, tuple[int, list[tuple[nn.Module, dict[str, Any], dict[str, Any]]]]]"
_attributes = weakref.WeakKeyDictionary()
_attributes_lock = threading.Lock()


@contextmanager
def as_found(model: nn.Module) -> Iterator[None]:
    """A block in which running `model` leaves no trace on it.

    Inside, gradients are off until the recorder turns them on, and inference mode is left. Modules in training mode
    stay in it; what a forward pass would write there (running statistics, counters) is put back, and so are tensors
    that it keeps as attributes (attention weights for a look at them, the weight that `weight_norm` computes).
    """
    if isinstance(model, Adapted):
        with _training, model.kept(), _left_as_found(model):
            yield
        return
    with _left_as_found(model):
        yield


@contextmanager
def _left_as_found(model: nn.Module) -> Iterator[None]:
    modules = tuple(model.modules())  # once: walking a deep network costs about as much as one of its layers
    training = any(module.training for module in modules)
    if training:
        _warn_if_it_matters(model)
    with _training if training else nullcontext(), _put_back(modules), _same_attributes(model, modules):
        yield


@contextmanager
def _put_back(modules: Sequence[nn.Module]) -> Iterator[None]:
    saved = [
        (owner, name, buffer, buffer.detach().clone())
        for owner in modules
        # evaluating a normalization writes nothing, and copying all of them would cost a large network time
        if owner.training or not isinstance(owner, _NormBase)
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_random_state(modules))
        stack.enter_context(_no_autocast_cache())
        try:
            yield
        finally:
            for owner, name, buffer, value in saved:
                owner._buffers[name] = buffer
                if not torch.equal(buffer, value):
                    # .data: a bumped version would break a backward pass that the caller still has to make
                    buffer.data.copy_(value)


@contextmanager
def _same_attributes(model: nn.Module, modules: Sequence[nn.Module]) -> Iterator[None]:
    """Take away tensors that a pass leaves on the modules, which would keep its graph alive, and put back the old ones.

    Blocks in several threads share what the first of them found; the last puts it back.
    """
    with _attributes_lock:
        users, found = _attributes.get(model, (0, []))
        if not users:
            found = [
                (module, dict(vars(module)), _contents(module))
                for module in modules
                if module._forward_pre_hooks or not _keeps_nothing(type(module))
            ]
        _attributes[model] = users + 1, found
    try:
        yield
    finally:
        with _attributes_lock:
            users, found = _attributes.pop(model)
            if users > 1:
                _attributes[model] = users - 1, found
            else:
                for module, before, contents in found:
                    _restore(module, before, contents)


def _contents(module: nn.Module) -> dict[str, Any]:
    """What lists and dicts hold that a module keeps; torch's own, of parameters and hooks, are left out."""
    return {
        name: value.copy()
        for name, value in vars(module).items()
        if type(value) in (list, dict) and name not in _OF_MODULES
    }


_OF_MODULES = frozenset(vars(nn.Module()))


def _restore(module: nn.Module, before: dict[str, Any], contents: dict[str, Any]) -> None:
    now = vars(module)
    for name, held in contents.items():
        value = before[name]
        now_held, then_held = _values(value), _values(held)
        refilled = len(now_held) != len(then_held) or any(map(operator.is_not, now_held, then_held))
        if refilled and any(True for _ in tensors(value)):
            value.clear()
            value.extend(held) if isinstance(value, list) else value.update(held)
    changed = [name for name, value in now.items() if name not in before or before[name] is not value]
    for name in changed:
        if not any(True for _ in tensors(now[name])):
            continue  # a counter, say, is the model's own business
        if name in before:
            now[name] = before[name]
        else:
            del now[name]


def _values(held: list[Any] | dict[Any, Any]) -> Sequence[Any]:
    return held if isinstance(held, list) else list(held.values())


def _keeps_nothing(kind: type[nn.Module]) -> bool:
    """Whether modules of that class are PyTorch's own, which keep nothing of a pass."""
    return kind.__module__.startswith("torch.nn.modules.")


@contextmanager
def _random_state(modules: Sequence[nn.Module]) -> Iterator[None]:
    owned = (parameter for module in modules for parameter in module._parameters.values() if parameter is not None)
    devices = {parameter.device for parameter in owned if parameter.device.type == "cuda"}
    cpu = torch.get_rng_state()
    cuda = {device: torch.cuda.get_rng_state(device) for device in devices}
    try:
        yield
    finally:
        # only what was drawn from is put back, so that other threads' draws are left alone
        if not torch.equal(torch.get_rng_state(), cpu):
            torch.set_rng_state(cpu)
        for device, state in cuda.items():
            if not torch.equal(torch.cuda.get_rng_state(device), state):
                torch.cuda.set_rng_state(state, device)


@contextmanager
def _no_autocast_cache() -> Iterator[None]:
    """Weights that autocast casts while gradients are off must not be reused by the caller's own training step."""
    enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(enabled)


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
