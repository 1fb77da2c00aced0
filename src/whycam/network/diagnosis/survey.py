"""What one forward pass of one sample shows of a network: which modules run, and what stays zero."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

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
        zero: modules that returned nothing but zeros for what was not all zeros, innermost only.
        output: what the model returned; `None` where it raised.
        error: what it raised, and `raised_in` the innermost module that was running then.
        flops: floating-point operations of the pass.
    """

    calls: Mapping[str, int]
    passing: frozenset[str]
    unused: tuple[str, ...]
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
    calls = {name: watcher.calls.get(name, 0) for name, _ in modules}
    return Survey(
        calls,
        frozenset(watcher.calls.keys() - watcher.acting),
        tuple(_unused(model, calls, reads.seen)),
        tuple(watcher.zero),
        output,
        error,
        watcher.running[-1].name if error is not None and watcher.running else "",
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


class _Running(NamedTuple):
    """A call that has begun: the tensors it was given, with their versions, and whether any is not all zeros."""

    name: str
    given: list[tuple[Tensor, int]]
    awake: bool


@dataclass
class _Watcher:
    """Notes what happens between the modules' beginnings and ends."""

    calls: dict[str, int] = field(default_factory=dict)
    running: list[_Running] = field(default_factory=list)
    acting: set[str] = field(default_factory=set)
    zero: list[str] = field(default_factory=list)

    def given(self, name: str, value: Any, _: Any) -> None:
        given = [(tensor, tensor._version) for tensor in _floating(value)]
        self.running.append(_Running(name, given, any(_says_something(each) for each, _ in given)))

    def returned(self, name: str, value: Any, _: Any) -> None:
        while (begin := self.running.pop()).name != name:  # a model may catch what one of its modules raised
            pass
        self.calls[name] = self.calls.get(name, 0) + 1
        found = list(_floating(value))
        if not all(any(each is old and each._version == version for old, version in begin.given) for each in found):
            self.acting.add(name)
        begun = any(each == name or each.startswith(f"{name}.") for each in self.zero)
        if found and begin.awake and not begun and not any(map(_says_something, found)):
            self.zero.append(name)


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
