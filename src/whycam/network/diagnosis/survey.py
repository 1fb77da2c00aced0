"""What one forward pass of one sample shows of a network: which modules run, what is written over, what stays zero."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whycam.errors import WhycamError
from whycam.network.diagnosis.flops import counted
from whycam.network.hooks import Inputs, call, watching
from whycam.network.preserve_state import as_found
from whycam.network.pytree import detached_copy, first_sample, tensors
from whycam.network.unwrap import eager, unwrapped


@dataclass(frozen=True)
class Survey:
    """What a forward pass showed.

    Attributes:
        calls: how often each module ran that can be watched, by name, in the model's order.
        passing: modules that do nothing but hand on what they are given, as dropout does in a prediction.
        unused: the outermost modules that did not run and whose weights nobody else read.
        overwritten: for outputs that were written to after their module had returned them, by the module's name and
            the number of its call: the module whose own code did it (`""` for the model's).
        zero: modules that returned nothing but zeros for what was not all zeros, innermost only.
        output: what the model returned; `None` where it raised.
        error: what it raised, and `raised_in` the innermost module that was running then.
        flops: floating-point operations of the pass.
    """

    calls: Mapping[str, int]
    passing: frozenset[str]
    unused: tuple[str, ...]
    overwritten: Mapping[tuple[str, int], str]
    zero: tuple[str, ...]
    output: Any
    error: Exception | None
    raised_in: str
    flops: int


def survey(model: nn.Module, inputs: Inputs) -> Survey:
    """Run the network once on its first sample, and watch.

    An exception that the model raises is part of what is found, and not raised.
    """
    model = unwrapped(model)
    watcher, reads = _Watcher(), _ReadWeights()
    output: Any = None
    error: Exception | None = None
    modules = [(name, module) for name, module in model.named_modules() if name]
    modules = [(name, module) for name, module in modules if not isinstance(module, torch.jit.ScriptModule)]
    given = detached_copy(first_sample(inputs))
    with as_found(model), eager(model), ExitStack() as stack:
        for name, module in modules:
            stack.enter_context(watching(module, "input", partial(watcher.given, name)))
            stack.enter_context(watching(module, "output", partial(watcher.returned, name)))
        with counted() as counter, reads:
            try:
                output = call(model, given)
            except Exception as raised:  # whatever a model may raise is what its owner needs to hear of
                if is_ours(raised):
                    raise
                error = raised
        watcher.look("")
    calls = {name: watcher.calls.get(name, 0) for name, _ in modules}
    return Survey(
        calls,
        frozenset(watcher.calls.keys() - watcher.acting),
        tuple(_unused(model, calls, reads.seen)),
        watcher.overwritten,
        tuple(watcher.zero),
        output,
        error,
        watcher.running[-1] if error is not None and watcher.running else "",
        counter.get_total_flops(),
    )


def is_ours(error: Exception) -> bool:
    """Whether an error was raised by this package's own code and not by a model, or by torch for it: a bug here."""
    if isinstance(error, WhycamError):  # a sentence about the model
        return False
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    home = str(frame.tb_frame.f_globals.get("__name__", "")) if frame is not None else ""
    return home.startswith("whycam.") and not home.startswith("whycam.models.")  # whose wrappers are models


@dataclass
class _Watcher:
    """Notes what happens between the modules' beginnings and ends.

    Outputs are held until the pass ends: a write to a view of one shows in the version that all its views share.
    """

    calls: dict[str, int] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    acting: set[str] = field(default_factory=set)
    zero: list[str] = field(default_factory=list)
    overwritten: dict[tuple[str, int], str] = field(default_factory=dict)
    _fresh: dict[tuple[str, int], tuple[Tensor, int]] = field(default_factory=dict)
    _awake: list[bool] = field(default_factory=list)
    _given: list[list[tuple[Tensor, int]]] = field(default_factory=list)

    def given(self, name: str, value: Any, _: Any) -> None:
        self.look(self.running[-1] if self.running else "")
        self.running.append(name)
        self._awake.append(any(map(_says_something, _floating(value))))
        self._given.append([(tensor, tensor._version) for tensor in _floating(value)])

    def returned(self, name: str, value: Any, _: Any) -> None:
        self.look(name)
        while self.running and self.running.pop() != name:  # a model may catch what one of its modules raised
            self._awake.pop()
            self._given.pop()
        awake, given = self._awake.pop(), self._given.pop()
        number = self.calls.get(name, 0)
        self.calls[name] = number + 1
        found = list(_floating(value))
        if not all(any(each is old and each._version == version for old, version in given) for each in found):
            self.acting.add(name)
        if found:
            self._fresh[name, number] = found[0], found[0]._version
        if found and awake and not any(map(_says_something, found)) and not self._explained(name):
            self.zero.append(name)

    def look(self, writer: str) -> None:
        """Note which outputs were written to since the last look, by that module's own code."""
        stale = [key for key, (tensor, version) in self._fresh.items() if tensor._version != version]
        for key in stale:
            self.overwritten[key] = writer
            del self._fresh[key]

    def _explained(self, name: str) -> bool:
        return any(each == name or each.startswith(f"{name}.") for each in self.zero)


class _ReadWeights(TorchFunctionMode):
    """Notes which parameters any function of torch is given, by module or not."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") != "__get__":  # to ask for a weight's shape is not to use it
            self.seen.update(id(each) for _, each in tensors((args, kwargs)) if isinstance(each, nn.Parameter))
        return func(*args, **kwargs)


def _unused(model: nn.Module, calls: Mapping[str, int], read: set[int]) -> Iterator[str]:
    """The outermost of the modules with weights where nothing inside ran and nobody read a weight."""
    idle: list[str] = []
    for name, module in model.named_modules():
        if not name or any(name.startswith(f"{each}.") for each in idle) or isinstance(module, torch.jit.ScriptModule):
            continue
        inside = [f"{name}.{each}" if each else name for each, _ in module.named_modules()]
        weights = [id(parameter) for parameter in module.parameters()]
        if weights and not any(calls.get(each, 1) for each in inside) and read.isdisjoint(weights):
            idle.append(name)
            yield name


def _floating(value: Any) -> Iterator[Tensor]:
    return (tensor for _, tensor in tensors(value) if tensor.is_floating_point())


def _says_something(tensor: Tensor) -> bool:
    """Whether any number is not zero; NaN is not."""
    return bool(tensor.detach().any())
