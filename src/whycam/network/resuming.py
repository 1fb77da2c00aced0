"""A network resumed at a layer: what had finished before it answers from the record, and only the rest runs.

A module that finished before the layer returned anything cannot depend on what the layer returns. What such modules
returned is kept while the network is recorded (`Before`), and handed out again by a private copy of the network that
shares its weights (`Resumed`). The code between the modules runs as it is written.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.network.running import Inputs, call, watching
from whycam.network.structures import Path, mapped, only_tensor, replaced
from whycam.network.taps import Tap

#: One call of a module: its first name in the model, and the number of the call.
Moment = tuple[str, int]


@dataclass(frozen=True)
class Before:
    """What a network had computed when it came to one call of a layer.

    Attributes:
        moment, side: the call, and whether what it returns or what it is given is the layer.
        value: what it returned (or was given), with the layer's tensor at `path`.
        finished: what was returned by the calls that had finished, the outermost of each.
    """

    moment: Moment
    side: str
    value: Any
    path: Path
    finished: Mapping[Moment, Any]


@dataclass
class _Frame:
    """One call of a module while it runs."""

    name: str
    finished: dict[Moment, Any] = field(default_factory=dict)


class Watch:
    """Keeps, during one forward, what is needed to resume a network at some of its layers."""

    def __init__(self, model: nn.Module, taps: Collection[Tap]) -> None:
        self.model = model
        self.names = first_names(model)
        self.layers = {(self.names[id(model.get_submodule(tap.module))], tap.side) for tap in taps}
        parts = [name.split(".") for name, _ in self.layers]
        self.ancestors = {".".join(each[:n]) for each in parts for n in range(len(each))}
        self.calls: dict[str, int] = {}
        self.frames = [_Frame("")]
        self.found: dict[tuple[Moment, str], Before] = {}

    def before(self, tap: Tap, number: int) -> Before | None:
        """What had been computed at that call of a layer; `None` where that was not seen."""
        return self.found.get(((self.names[id(self.model.get_submodule(tap.module))], number), tap.side))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch every module of the model until the block ends."""
        with ExitStack() as stack:
            for name, module in self.model.named_modules():
                if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hook
                    stack.enter_context(watching(module, "input", partial(self._entered, name)))
                    stack.enter_context(watching(module, "output", partial(self._left, name)))
            yield

    def _entered(self, name: str, value: Any, _: Any) -> None:
        if (name, "input") in self.layers:
            self._keep((name, self.calls.get(name, 0)), "input", value)
        self.frames.append(_Frame(name))

    def _left(self, name: str, value: Any, _: Any) -> None:
        while self.frames.pop().name != name:  # what raised and was caught by the network itself
            pass
        moment = (name, self.calls.get(name, 0))
        self.calls[name] = moment[1] + 1
        if (name, "output") in self.layers:
            self._keep(moment, "output", value)
        frame = self.frames[-1]
        if frame.name in self.ancestors:  # else it ends, with all in it, before the layer, or never holds it
            frame.finished[moment] = mapped(value, _kept)

    def _keep(self, moment: Moment, side: str, value: Any) -> None:
        path, _ = only_tensor(value, moment[0])
        finished = {key: kept for frame in self.frames for key, kept in frame.finished.items()}
        self.found[moment, side] = Before(moment, side, mapped(value, _kept), path, finished)


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()  # what comes next in the network may write to it


def first_names(model: nn.Module) -> dict[int, str]:
    """The first name of each module, by identity."""
    return {id(module): name for name, module in model.named_modules()}


class Resumed:
    """A private copy of a network that runs only what comes after a layer, on rows of one sample at a time."""

    def __init__(
        self, copy: nn.Module, before: Before, inputs: Inputs, samples: int, dtype: torch.dtype | None = None
    ) -> None:
        """`copy` is changed for good: no one else may use it. `dtype`: what it computes in, if not as recorded."""
        self.dtype = dtype
        self.model, self.before, self.inputs, self.samples = copy, before, inputs, samples
        self.calls: dict[str, int] = {}
        self.rows: Tensor | None = None
        self.sample = 0
        self.answered = 0
        self.copies = False
        kept = {name for name, _ in before.finished} | {before.moment[0]}
        for name, module in list(copy.named_modules()):
            if name in kept and not isinstance(module, torch.jit.ScriptModule):
                self._answer_from_record(name, module)

    def run(self, sample: int, rows: Tensor) -> Any:
        """The network's output where the layer returns these rows, all of one sample, in the layer's own layout.

        Raises:
            LookupError: the layer was not asked for its output exactly once.
        """
        try:
            return self._run(sample, rows)
        except (RuntimeError, WhycamError):  # the latter says in words what torch said
            if self.copies:
                raise
            # rows that share their memory cannot be written to, which something behind the layer may want
            self.copies = True
            return self._run(sample, rows)

    def _run(self, sample: int, rows: Tensor) -> Any:
        self.calls, self.answered = {}, 0
        self.sample, self.rows = sample, rows
        try:
            output = call(self.model, self._spread(self.inputs))
        finally:
            self.rows = None
        if self.answered != 1:
            raise LookupError(f"the copy asked {self.answered} times for the layer's output")
        return output

    def _answer_from_record(self, name: str, module: nn.Module) -> None:
        kind = type(module)
        session = self

        def answer(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            moment = (name, session.calls.get(name, 0))
            session.calls[name] = moment[1] + 1
            if moment == session.before.moment:
                if session.before.side == "output":
                    return session._layer()
                args, kwargs = session._layer()
            elif moment in session.before.finished:
                return session._spread(session.before.finished[moment])
            return kind.__call__(module, *args, **kwargs)

        module.__class__ = type(kind.__name__, (kind,), {"__call__": answer, "__module__": kind.__module__})

    def _layer(self) -> Any:
        """What the layer returns (or is given), with the rows in their place."""
        assert self.rows is not None  # set while the copy runs
        self.answered += 1
        rows = self.rows.clone() if self.dtype is None else self.rows.to(self.dtype)
        return replaced(self._spread(self.before.value), self.before.path, rows)

    def _spread(self, value: Any) -> Any:
        """Recorded tensors as if the one sample had been given in every row, without a copy where that will do."""
        return mapped(value, self._spread_tensor)

    def _spread_tensor(self, tensor: Tensor) -> Tensor:
        assert self.rows is not None  # set while the copy runs
        if not tensor.ndim or len(tensor) != self.samples:
            return tensor.clone() if self.copies else tensor
        row = tensor[self.sample : self.sample + 1]
        row = row.to(self.dtype) if self.dtype is not None and row.is_floating_point() else row
        spread = row.expand(len(self.rows), *row.shape[1:])
        return spread.clone() if self.copies or len(self.rows) == 1 else spread
