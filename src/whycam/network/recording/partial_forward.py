"""A network resumed at a layer: what had finished before it answers from the record, and only the rest runs.

A module that finished before the layer returned anything cannot depend on what the layer returns. What such modules
returned, and what they wrote into what they were given, is kept while the network is recorded (`Before`), and handed
out again by a private copy of the network that shares its weights (`Resumed`). The code between the modules runs as it
is written.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.network.hooks import Inputs, call, watching
from whycam.network.input_errors import out_of_memory
from whycam.network.layer_refs import LayerRef
from whycam.network.pytree import Path, mapped, only_tensor, replaced, spell, tensors

#: One call of a module: its first name in the model, and the number of the call.
Moment = tuple[str, int]


class Finished(NamedTuple):
    """A call that had finished.

    Attributes:
        value: what it returned.
        written: what it made of tensors that it was given and wrote to, by where they were among its arguments.
        inside: how often it called each module.
    """

    value: Any
    written: Mapping[Path, Tensor]
    inside: Mapping[str, int]


@dataclass(frozen=True)
class Before:
    """What a network had computed when it came to one call of a layer.

    Attributes:
        moment, side: the call, and whether what it returns or what it is given is the layer.
        value: what it returned (or was given), with the layer's tensor at `path`.
        finished: the calls that had finished, the outermost of each.
        inside: how often the layer's own call had called each module.
        leaves: where the pass left tensors other than by returning them.
    """

    moment: Moment
    side: str
    value: Any
    path: Path
    finished: Mapping[Moment, Finished]
    inside: Mapping[str, int]
    leaves: str = ""


@dataclass
class _Frame:
    """One call of a module while it runs."""

    name: str
    given: Any = ()
    versions: dict[Path, int] = field(default_factory=dict)
    finished: dict[Moment, Finished] = field(default_factory=dict)
    inside: Counter[str] = field(default_factory=Counter)


class Watch:
    """Keeps, during one forward, what is needed to resume a network at some of its layers.

    `leaves` says where the pass left tensors other than by returning them: on which module, as what. Such a network
    cannot be resumed, since a part that is not run leaves nothing.
    """

    def __init__(self, model: nn.Module, taps: Collection[LayerRef]) -> None:
        self.model = model
        self.names = {id(module): name for name, module in model.named_modules()}
        self.layers = {(self.names[id(model.get_submodule(tap.module))], tap.side) for tap in taps}
        parts = [name.split(".") for name, _ in self.layers]
        self.ancestors = {".".join(each[:n]) for each in parts for n in range(len(each))}
        self.calls: Counter[str] = Counter()
        self.frames = [_Frame("")]
        self.found: dict[tuple[Moment, str], Before] = {}
        self.leaves = ""

    def before(self, tap: LayerRef, number: int) -> Before | None:
        """What had been computed at that call of a layer; `None` where that was not seen."""
        found = self.found.get(((self.names[id(self.model.get_submodule(tap.module))], number), tap.side))
        return replace(found, leaves=self.leaves) if found is not None else None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch every module of the model until the block ends."""
        attributes = _attributes(self.model)
        with ExitStack() as stack:
            for name, module in self.model.named_modules():
                if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hook
                    stack.enter_context(watching(module, "input", partial(self._entered, name)))
                    stack.enter_context(watching(module, "output", partial(self._left, name)))
            yield
        self.frames.clear()
        self.leaves = self.leaves or _changed(self.model, attributes)

    def _entered(self, name: str, value: Any, _: Any) -> None:
        if (name, "input") in self.layers:
            self._keep((name, self.calls[name]), "input", value, {})
        versions = {path: _version(tensor) for path, tensor in tensors(value)}
        self.frames.append(_Frame(name, value, versions))

    def _left(self, name: str, value: Any, _: Any) -> None:
        while (mine := self.frames.pop()).name != name:  # what raised and was caught by the network itself
            pass
        moment = (name, self.calls[name])
        self.calls[name] += 1
        if (name, "output") in self.layers:
            self._keep(moment, "output", value, mine.inside)
        frame = self.frames[-1]
        frame.inside[name] += 1
        frame.inside.update(mine.inside)
        if frame.name in self.ancestors:  # else it ends, with all in it, before the layer, or never holds it
            copies: dict[int, Tensor] = {}
            kept = partial(_kept, copies)
            changed = [each for each in tensors(mine.given) if _version(each[1]) != mine.versions.get(each[0])]
            written = {path: kept(tensor) for path, tensor in changed}
            if any(_aliased(tensor) for _, tensor in changed):
                self.leaves = self.leaves or f"what {name} writes into memory that others read"
            frame.finished[moment] = Finished(mapped(value, kept), written, dict(mine.inside))

    def _keep(self, moment: Moment, side: str, value: Any, inside: Mapping[str, int]) -> None:
        path, _ = only_tensor(value, moment[0])
        finished = {key: kept for frame in self.frames for key, kept in frame.finished.items()}
        self.found[moment, side] = Before(moment, side, mapped(value, partial(_kept, {})), path, finished, dict(inside))


def _kept(copies: dict[int, Tensor], tensor: Tensor) -> Tensor:
    """A copy, the same one for one tensor: what comes next in the network may write to it."""
    if id(tensor) not in copies:
        with torch.no_grad():
            copies[id(tensor)] = tensor.clone()
    return copies[id(tensor)]


def _aliased(tensor: Tensor) -> bool:
    """Whether other tensors may look at the same memory: this is a view, or there are views of it."""
    if isinstance(tensor, nn.Parameter) or tensor._is_view():
        return True
    uses = getattr(torch._C, "_storage_Use_Count", None)
    if uses is None:
        return False
    own = torch.empty(1)
    return bool(uses(tensor.untyped_storage()._cdata) > uses(own.untyped_storage()._cdata))


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _attributes(model: nn.Module) -> dict[tuple[str, str], Any]:
    """The tensors among the attributes and buffers of each module, and in containers there: identity and version."""
    return {(name, key): _marks(value) for name, module in model.named_modules() for key, value in _own(module)}


def _own(module: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from module._buffers.items()
    for key, value in vars(module).items():
        if not (key.startswith("_") and key in _OF_MODULES) and not isinstance(value, (bool, int, float, str)):
            yield key, value


_OF_MODULES = frozenset(vars(nn.Module()))


def _marks(value: Any) -> list[tuple[Tensor, int]]:
    if value is None or (type(value) is tuple and {type(each) for each in value} <= {int}):
        return []  # most attributes of most modules
    try:
        return [(tensor, _version(tensor)) for _, tensor in tensors(value)]
    except Exception:  # an attribute is anything at all
        return []


def _changed(model: nn.Module, before: Mapping[tuple[str, str], list[tuple[Tensor, int]]]) -> str:
    """The first attribute that holds other tensors than before, as code would write it; empty if there is none."""
    for (name, key), marks in _attributes(model).items():
        old = before.get((name, key), [])
        same = len(old) == len(marks) and all(
            version == then if tensor is was else tensor.shape == was.shape and torch.equal(tensor, was)
            for (tensor, version), (was, then) in zip(marks, old, strict=True)
        )
        if not same:
            return f"{name}.{key}".lstrip(".")
    return ""


class Resumed:
    """A private copy of a network that runs only what comes after a layer, on rows of one sample at a time."""

    def __init__(
        self, copy: nn.Module, before: Before, inputs: Inputs, samples: int, dtype: torch.dtype | None = None
    ) -> None:
        """`copy` is changed for good: no one else may use it. `dtype`: what it computes in, if not as recorded."""
        self.dtype = dtype
        self.model, self.before, self.inputs, self.samples = copy, before, inputs, samples
        self.calls: Counter[str] = Counter()
        self.rows: Tensor | None = None
        self.sample: int | None = 0
        self.answered = 0
        self.copies = False
        self.lent: dict[int, tuple[Tensor, int, bool]] = {}  # copy of a record, its version, and whether it has rows
        self.several = False
        self.room = torch.empty(0)  # what the layer returned last: kept, since fresh memory costs more than copying
        names = {name for name, _ in before.finished} | {before.moment[0]}
        for name, module in list(copy.named_modules()):
            if name in names and not isinstance(module, torch.jit.ScriptModule):
                self._answer_from_record(name, module)

    def run(self, sample: int, rows: Tensor) -> Any:
        """The network's output where the layer returns these rows, all of one sample, in the layer's own layout.

        Raises:
            LookupError: the layer was not asked for its output exactly once.
        """
        if sample != self.sample:
            self.lent.clear()
        try:
            output = self._run(sample, rows)
        except (RuntimeError, WhycamError) as error:  # the latter says in words what torch said
            if self.copies or out_of_memory(error):
                raise
            self._taken_back()
            written = True
        else:
            written = self._taken_back()
        if written and not self.copies:
            # rows that share their memory cannot be written to, which something behind the layer wants
            self.copies = True
            output = self._run(sample, rows)
            self._taken_back()
        return output

    def _taken_back(self) -> bool:
        """Forget what was lent and written to; whether rows that share their memory were."""
        written = [key for key, (tensor, version, _) in self.lent.items() if _version(tensor) != version]
        shared = [self.lent.pop(key)[2] for key in written]
        return self.several and any(shared)

    def run_batch(self, rows: Tensor) -> Any:
        """The network's output where the layer returns these rows, one for each sample; gradients go through to them.

        Raises:
            LookupError: the layer was not asked for its output exactly once.
        """
        return self._run(None, rows)

    def _run(self, sample: int | None, rows: Tensor) -> Any:
        self.calls, self.answered = Counter(), 0
        self.sample, self.rows, self.several = sample, rows, len(rows) > 1
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
            before, moment = session.before, (name, session.calls[name])
            session.calls[name] += 1
            if moment == before.moment:
                if before.side == "output":
                    session.calls.update(before.inside)
                    return session._layer()
                args, kwargs = session._layer()
            elif moment in before.finished:
                finished = before.finished[moment]
                session.calls.update(finished.inside)
                session._write(finished.written, (args, kwargs))
                return session._spread(finished.value)
            return kind.__call__(module, *args, **kwargs)

        module.__class__ = type(kind.__name__, (kind,), {"__call__": answer, "__module__": kind.__module__})

    def _write(self, written: Mapping[Path, Tensor], given: Any) -> None:
        """What a call that is not run would have written into what it was given."""
        if not written:
            return
        found = dict(tensors(given))
        for path, tensor in written.items():
            if path not in found:
                raise LookupError(f"the copy gave a finished module other arguments (without {spell(path)})")
            found[path].data = self._spread_tensor(tensor)

    def _layer(self) -> Any:
        """What the layer returns (or is given), with the rows in their place."""
        assert self.rows is not None  # set while the copy runs
        self.answered += 1
        rows = self.rows if self.sample is None else self._copied(self.rows)
        return replaced(self._spread(self.before.value), self.before.path, rows)

    def _copied(self, rows: Tensor) -> Tensor:
        """The rows where the code behind the layer may write to them, in what the copy computes in."""
        rows = self._cast(rows)
        here = self.room[: len(rows)]
        if here.shape != rows.shape or here.dtype != rows.dtype or here.stride() != rows.stride():
            here = self.room = rows.clone()
        return here.copy_(rows)

    def _spread(self, value: Any) -> Any:
        """Recorded tensors as if the one sample had been given in every row, sharing memory where that will do."""
        return mapped(value, self._spread_tensor)

    def _spread_tensor(self, tensor: Tensor) -> Tensor:
        assert self.rows is not None  # set while the copy runs
        if self.sample is None:
            return self._cast(tensor).clone()
        rows = len(self.rows) if tensor.ndim and len(tensor) == self.samples else 0
        if id(tensor) not in self.lent:
            # the record itself stays as it is
            made = self._cast(tensor[self.sample : self.sample + 1] if rows else tensor).clone()
            self.lent[id(tensor)] = made, _version(made), rows > 0
        lent = self.lent[id(tensor)][0]
        if not rows:
            return lent
        spread = lent.expand(rows, *lent.shape[1:])
        return spread.clone() if self.copies else spread

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if self.dtype is not None and tensor.is_floating_point() else tensor
