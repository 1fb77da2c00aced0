"""Scores of many variants of the inputs or of a layer's activations: the one place where variants are batched.

Variants are drawn one by one and packed into batches that fit a budget of memory. Three runners give the outputs of a
pack: `Whole` runs the network on edited inputs, `Above` only the part of it above a layer (`partial_forward`), and
`Replaced` runs the whole network with the layer's output replaced, where the part cannot be run by itself.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.kit.arrays import SAME, Variants, is_half, lazily, noise_like, wide
from whycam.kit.progress import Progress
from whycam.network.adapted import Adapted
from whycam.network.hooks import Inputs, call, watching
from whycam.network.input_errors import out_of_memory
from whycam.network.memory import free_bytes, peak_bytes
from whycam.network.outputs import OutputPath, number_of_classes, read
from whycam.network.preserve_state import acting, as_found
from whycam.network.pytree import first_tensor, mapped, only_tensor, replaced, storage_of, tensors
from whycam.network.recording.partial_forward import Resumed
from whycam.network.recording.record import LayerRecord
from whycam.network.unwrap import eager
from whycam.network.variants.fast_copy import Precision, first_line
from whycam.targets import Score

#: Limits of a batch: its rows, and on CPUs the bytes of live activations, since a batch that is larger than the cache
#: runs slower per row (docs/benchmarks.md).
MOST_ROWS = 256
CACHED = 32 * 2**20
#: How many variants are scored by the plain network too where a fast copy scores them.
_SAMPLE = 4
#: How far outputs may be from the recorded ones, in parts of their largest magnitude; for half precision the second.
_ROUNDING = (1e-4, 5e-2)


@dataclass(frozen=True)
class RunConfig:
    """How variants are run.

    Attributes:
        precision: of a private copy of the network that is made fast (`fast_copy`); `None` runs it as it is.
        compile: whether that copy is compiled.
        budget: bytes that the variants under way may take; by default half of what is free.
        progress: where long work is shown.
    """

    precision: Precision | None = None
    compile: bool = False
    budget: int | None = None
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        if self.precision is not None and self.precision not in get_args(Precision):
            names = ", ".join(map(repr, get_args(Precision)))
            raise WhycamError(f"precision must be one of {names}, or left out; not {self.precision!r}.")
        if self.compile and self.precision is None:
            raise WhycamError(
                'compile=True compiles a fast copy of the network; say its precision=, such as "float32".'
            )
        budget = self.budget
        if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int) or budget < 1):
            raise WhycamError(f"budget is a number of bytes, such as 2 * 2**30, not {budget!r}.")


@dataclass
class RunStats:
    """What was run for one method.

    Attributes:
        part: what was run, in words: `the whole network`, `the part above layer4`.
        variants: how many were scored. `rows`: how many rows at once at most.
        forwards, backwards, parts: runs of the whole network and of the part, in batches of the caller's size.
        fallback: why whole forwards were run where the part was meant to be.
        halved: how often memory ran out and the rows were halved.
        copy: what the private copy was that was run, in words, if one was used.
        deviation: the largest difference of its scores from the plain network's, over a sample of variants, and
        spread: how far the scores of all variants lie apart at most.
        alone: why each variant was run by itself, if so.
        left: functions without a rule, where relevance was propagated.
    """

    part: str = "the whole network"
    variants: int = 0
    rows: int = 0
    forwards: int = 0
    backwards: int = 0
    parts: int = 0
    fallback: str = ""
    halved: int = 0
    copy: str = ""
    deviation: float | None = None
    spread: float | None = None
    alone: str = ""
    left: tuple[str, ...] = ()

    def count(self, runner: "Runner", runs: int) -> None:
        """Add runs of the whole batch."""
        if isinstance(runner, Above):
            self.parts += runs
        else:
            self.forwards += runs

    def note(self, runner: "Runner", variants: int) -> None:
        """Add variants that were scored, and how."""
        self.count(runner, variants)
        self.variants += variants
        rows = runner.network.samples if runner.alone else runner.limit
        self.rows = max(self.rows, min(rows, variants * runner.network.samples))
        self.halved = runner.halved
        if runner.alone:
            training = bool(acting(runner.network.model))
            self.alone = "the model is in training mode" if training else "rows run together differ from rows alone"


@dataclass(frozen=True)
class Network:
    """A network with the question that was put to it, and what a first pass recorded.

    Attributes:
        model: the unwrapped module. `inputs`: what it was given. `part`: which part of its output is explained.
        output: what it answered, `(batch, ...)`.
        autocast: the caller's autocast for the network's device: (enabled, dtype).
    """

    model: nn.Module
    inputs: Inputs
    part: OutputPath | None
    output: Tensor
    autocast: tuple[bool, torch.dtype]

    @property
    def picture(self) -> Tensor:
        """The input that variants stand for."""
        return first_tensor(self.inputs)

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(self.output)

    @property
    def device(self) -> torch.device:
        """Where the inputs are."""
        return self.picture.device

    def answer(self, output: Any, rows: int) -> Tensor:
        """The part of the output that is explained, one entry for each row."""
        found = wide(read(output, self.part, rows, number_of_classes(self.model))[1].detach())
        if len(found) != rows:
            raise LookupError(f"{rows} rows came back as {len(found)}")
        return found

    def as_called(self) -> torch.autocast:
        """The caller's autocast, which is off while a method runs."""
        enabled, dtype = self.autocast
        return torch.autocast(self.device.type, dtype=dtype, enabled=enabled)

    @contextmanager
    def running(self, *, as_called: bool = True) -> Iterator[None]:
        """A block in which the network is left as it was found; `as_called`: under the caller's autocast."""
        autocast = self.as_called() if as_called else torch.autocast(self.device.type, enabled=False)
        with as_found(self.model), eager(self.model), autocast:
            yield

    @property
    def tolerance(self) -> float:
        """How far an output may be from the recorded one for the two to count as one."""
        return _ROUNDING[is_half(self.output)]

    def agrees(
        self, found: Tensor, expected: Tensor, tolerance: float | None = None, other: Tensor | None = None
    ) -> bool:
        """Whether outputs are those that were recorded, up to rounding.

        Where the answer to an `other` row is given, the difference must also be small beside how far that one is off: a
        large constant in all outputs hides nothing then.
        """
        finite = expected.isfinite()
        if not torch.equal(finite, found.isfinite()):
            return False
        expected, found = expected[finite], found[finite]
        largest = expected.abs().amax() if expected.numel() else 0.0
        allowed = (self.tolerance if tolerance is None else tolerance) * largest
        if other is not None and self.tolerance == tolerance:
            moved = (other[finite] - expected).abs()
            moved = moved[moved.isfinite()].amax() if moved.isfinite().any() else moved.new_zeros(())
            allowed = min(float(allowed), max(SAME[is_half(self.output)] * float(largest), float(moved) / 100))
        return bool(((found - expected).abs() <= allowed).all())


def autocast_of(device: torch.device) -> tuple[bool, torch.dtype]:
    """The autocast that is on for a device type now."""
    return torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)


class Runner(ABC):
    """Gives the network's answers to packs of variants, each a stack `(variant, batch, ...)`."""

    #: What is run, in words.
    about = "the whole network"

    def __init__(self, network: Network, execution: RunConfig, dtype: torch.dtype | None, said: str) -> None:
        """`dtype`: what a fast copy computes in, if one is run, and `said` what it is."""
        self.network, self.execution, self.dtype, self.said = network, execution, dtype, said
        self.limit = 1  # rows at once
        self.group = 1  # variants at once
        self.halved = 0
        self.alone = False  # whether each variant must be run by itself, with the batch as the caller gave it
        self.tried = 0  # runs that went into finding these out

    @abstractmethod
    def prepare(self, variant: Tensor) -> None:
        """Find out, on a first variant, whether rows can be packed, and how many at once.

        Raises:
            WhycamError: this runner cannot be used here, and why.
        """

    @abstractmethod
    def outputs(self, group: Tensor) -> list[Tensor]:
        """The network's answer to each variant, `(batch, ...)`."""

    @abstractmethod
    def recorded(self) -> Tensor:
        """What variants are edits of."""

    @property
    def tolerance(self) -> float:
        """How far an answer may be from the recorded one."""
        return max(self.network.tolerance, _ROUNDING[1] if self.dtype in _HALF else 0.0)

    def set_limit(self, peak: int, rows: int, held: int) -> None:
        """Choose how many rows and variants at once.

        Args:
            peak: bytes that were alive at most while so many rows ran. What operations need inside comes on top.
            held: bytes that one variant of the whole batch, and the answer to it, take beside.
        """
        each = max(1, peak // rows)
        budget = self.execution.budget if self.execution.budget is not None else free_bytes(self.network.device) // 2
        fitting = budget // (2 * each)
        if self.network.device.type == "cpu":
            fitting = min(fitting, max(1, round(CACHED / each)))
            budget = min(budget, CACHED)  # a pack, too, is written and read for each run
        self.limit = max(1, min(MOST_ROWS, fitting))
        self.group = max(1, min(self.limit, budget // (2 * max(1, held))))

    def in_pieces(self, run: Callable[[slice], Tensor], rows: int) -> Tensor:
        """The answers to all rows, given as many at once as there is memory for."""
        done: list[Tensor] = []
        start = 0
        while start < rows:
            stop = min(rows, start + self.limit)
            try:
                done.append(run(slice(start, stop)))
            except RuntimeError as error:
                if not out_of_memory(error) or self.limit == 1:
                    raise
                self.limit = min(self.limit, stop - start) // 2 or 1
                self.halved += 1
                if self.network.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            start = stop
        return done[0] if len(done) == 1 else torch.cat(done)

    def running(self) -> AbstractContextManager[None]:
        """A block in which answers are found and the network is left as it was. A fast copy has its own precision."""
        return self.network.running(as_called=self.dtype is None)

    def cast(self, tensor: Tensor) -> Tensor:
        """In what is computed in."""
        return tensor.to(self.dtype) if self.dtype is not None and tensor.is_floating_point() else tensor


class Forwards(Runner):
    """Whole forwards, of the caller's model or of a fast copy of it."""

    def __init__(
        self,
        network: Network,
        execution: RunConfig,
        model: nn.Module | None = None,
        dtype: torch.dtype | None = None,
        said: str = "",
        compiled: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__(network, execution, dtype, said)
        self.model = model if model is not None else network.model
        self.compiled = compiled
        self.alone = bool(acting(network.model))
        self.turned = False  # whether rows that run together are given with their channels last

    @abstractmethod
    def run(self, rows: Tensor, samples: Tensor) -> Tensor:
        """The answers to rows of variants, which belong to the samples of those numbers."""

    def outputs(self, group: Tensor) -> list[Tensor]:
        """The network's answer to each variant, `(batch, ...)`."""
        if self.alone:
            return [self.by_itself(variant) for variant in group]
        size = self.network.samples
        rows, samples = group.flatten(0, 1), torch.arange(size, device=self.network.device).repeat(len(group))
        with self.running():
            answers = self.in_pieces(lambda piece: self.run(rows[piece], samples[piece]), len(rows))
        return list(torch.split(answers, size))

    def prepare(self, variant: Tensor) -> None:
        """Run the first sample, as recorded and with noise on it, side by side; else the whole batch as recorded."""
        if not self.alone:
            self.alone = not self._packs(variant)
        if self.alone:
            self.tried += 1
            if not self.network.agrees(self.by_itself(self.recorded()), self.network.output, self.tolerance):
                raise WhycamError(
                    "the fast copy of the network gives another answer than the network itself; leave precision out."
                    if self.model is not self.network.model
                    else "the network does not give the same answer twice, so variants cannot be compared with it."
                )

    def _packs(self, variant: Tensor) -> bool:
        """Whether rows can be run together."""
        recorded = self.recorded()
        pair = torch.cat([recorded[:1], _noisy(recorded[:1])])
        drawn = _draws(self.network)
        try:
            with self.running(), peak_bytes() as peak:
                found = self.run(pair, torch.zeros(2, dtype=torch.long, device=self.network.device))
                draws = _draws(self.network) != drawn
            same = not draws and self.network.agrees(found[:1], self.network.output[:1], self.tolerance, found[1:])
            self.tried += 1
        except Exception:  # some networks take no other number of samples
            same = False
        if not same:
            turned, self.turned = self.turned, False
            return turned and self._packs(variant)
        self.set_limit(peak.peak, 2, self.network.samples * (variant[:1].nbytes + found[:1].nbytes))
        self.group = max(1, min(self.group, self.limit // self.network.samples))
        if self.compiled is not None:
            self.model = self.compiled(self.limit)
        return True

    def by_itself(self, variant: Tensor) -> Tensor:
        """The answers to the whole batch as the caller gave it, from the state in which the caller left the network."""
        with self.running():
            return self.run(variant.clone(), torch.arange(self.network.samples, device=self.network.device))

    def others(self, samples: Tensor) -> Inputs:
        """The inputs, each row that of its sample."""
        size = self.network.samples
        made: Inputs = mapped(
            self.network.inputs,
            lambda tensor: self.cast(tensor[samples] if tensor.ndim and len(tensor) == size else tensor.clone()),
        )
        return made


_HALF = (torch.float16, torch.bfloat16)


class Whole(Forwards):
    """Runs the network on edited inputs."""

    def recorded(self) -> Tensor:
        """The inputs."""
        return self.network.picture

    def prepare(self, variant: Tensor) -> None:
        """On CPUs convolutions are quicker with the channels last, which is tried first; the network stays as it is."""
        convolutions = sum(isinstance(module, nn.Conv2d) for module in self.model.modules())
        self.turned = self.dtype is None and variant.ndim == 4 and variant.device.type == "cpu" and convolutions > 1
        super().prepare(variant)

    def run(self, rows: Tensor, samples: Tensor) -> Tensor:
        """The answers to rows of edited inputs."""
        if self.turned and not self.alone:
            rows = rows.contiguous(memory_format=torch.channels_last)
        path = next(path for path, tensor in tensors(self.network.inputs) if tensor is self.network.picture)
        rows = self.cast(rows.to(self.network.picture.dtype))
        given = replaced(self.others(samples), path, rows) if path else rows
        return self.network.answer(call(self.model, given), len(rows))


class Replaced(Forwards):
    """Runs the whole network with what a layer returns replaced: what resuming it comes to, at full cost."""

    def __init__(
        self,
        network: Network,
        execution: RunConfig,
        layer: LayerRecord,
        model: nn.Module | None = None,
        dtype: torch.dtype | None = None,
        said: str = "",
    ) -> None:
        super().__init__(network, execution, model, dtype, said)
        self.layer = layer
        self.alone = self.alone or layer.rows is not None

    def recorded(self) -> Tensor:
        """The activations."""
        return self.layer.activations

    def run(self, rows: Tensor, samples: Tensor) -> Tensor:
        """The answers to rows of edited activations."""
        tap, calls, answered = self.layer.tap, itertools.count(), 0
        start = 0  # the first of the layer's rows that this call returns

        def see(value: Any, _: Any) -> Any:
            nonlocal answered, start
            path, tensor = only_tensor(value, f"layer {str(tap)!r}")
            number = next(calls)
            if self.layer.rows is None:
                if number != self.layer.number:
                    return None
                answered += 1
                return replaced(value, path, _laid_out(self.layer, rows, tensor))
            here = self.layer.rows - start
            mine = (here >= 0) & (here < len(tensor))
            start += len(tensor)
            answered += int(mine.sum())
            edited = tensor.clone()
            if bool(mine.any()):
                edited[here[mine]] = _laid_out(self.layer, rows[mine], tensor[here[mine]])
            return replaced(value, path, edited)

        with watching(self.model.get_submodule(tap.module), tap.side, see):
            output = call(self.model, self.others(samples))
        if answered != (1 if self.layer.rows is None else len(rows)):
            raise WhycamError(f"layer {str(tap)!r} did not run as it did when it was recorded, so it cannot be edited.")
        return self.network.answer(output, len(rows))


class Above(Runner):
    """Runs the part of the network above a layer, for one sample's rows at a time."""

    def __init__(
        self,
        network: Network,
        execution: RunConfig,
        layer: LayerRecord,
        copy: Callable[[], nn.Module],
        dtype: torch.dtype | None = None,
        said: str = "",
    ) -> None:
        """`copy` makes a private copy of the network."""
        super().__init__(network, execution, dtype, said)
        self.layer, self.copy = layer, copy
        self.resumed: Resumed | None = None
        self.about = f"the part above {layer.tap}"

    def recorded(self) -> Tensor:
        """The activations."""
        return self.layer.activations

    def prepare(self, variant: Tensor) -> None:
        """Resume what was recorded, beside a row of noise on it, and compare with the recorded answers.

        What runs before the layer cannot depend on it, so a copy that answers as recorded without having run it has
        missed nothing that was left behind other than by return values.
        """
        before, network = self.layer.before, self.network
        if before is None or self.layer.rows is not None:
            raise WhycamError("the batch does not pass through the layer at once")
        if acting(network.model):
            raise WhycamError("the model is in training mode, and draws or batch statistics tie its parts together")
        if before.leaves:
            raise WhycamError(f"the network leaves something of a pass on its modules ({before.leaves})")
        self.resumed = Resumed(self.copy(), before, network.inputs, network.samples, self.dtype)
        recorded, peak = self.recorded(), 0
        drawn = _draws(network)
        with self.running():
            for sample in range(network.samples):
                row = recorded[sample : sample + 1]
                try:
                    with peak_bytes() as counter:
                        found, other = torch.split(self._run(sample, torch.cat([row, _noisy(row)])), 1)
                except Exception as error:  # the network's own, which was not written to be run in part
                    raise WhycamError(first_line(error)) from error
                peak = max(peak, counter.peak - counter.live)  # what stays alive is the record's, whatever the rows
                if _draws(network) != drawn:
                    raise WhycamError("the network draws random numbers, which differ from row to row")
                if not network.agrees(found, network.output[sample : sample + 1], self.tolerance, other):
                    raise WhycamError("resumed with the recorded activations, the network gives another answer")
        self.tried += 2
        self.set_limit(peak, 2, network.samples * (2 * variant[:1].nbytes + found.nbytes))

    def outputs(self, group: Tensor) -> list[Tensor]:
        """The network's answer to each variant, `(batch, ...)`."""
        answers = []
        with self.running():
            for sample in range(self.network.samples):
                rows = group[:, sample]
                answers.append(self.in_pieces(lambda piece, n=sample, rows=rows: self._run(n, rows[piece]), len(rows)))  # type: ignore[misc]
        return list(torch.stack(answers, 1))

    def _run(self, sample: int, rows: Tensor) -> Tensor:
        return self.resume(sample, _laid_out(self.layer, rows, self.raw, sample))

    @property
    def raw(self) -> Tensor:
        """What the layer returned."""
        assert self.layer.before is not None  # since prepared
        return dict(tensors(self.layer.before.value))[self.layer.before.path]

    def resume(self, sample: int, laid: Tensor) -> Tensor:
        """The answers where the layer returns these rows, in its own layout."""
        assert self.resumed is not None  # since prepared
        answer = self.network.answer(self.resumed.run(sample, laid), len(laid))
        return answer.clone() if storage_of(answer) == storage_of(self.resumed.room) else answer


class AsReturned(Above):
    """The same for variants as the layer returns them, with what no map shows."""

    def recorded(self) -> Tensor:
        """What it returned."""
        return self.raw

    def _run(self, sample: int, rows: Tensor) -> Tensor:
        return self.resume(sample, rows.to(self.raw.dtype))


class Runners:
    """The ways to run variants, in turn: the first that can be used is used, by every method and target."""

    def __init__(self, *makers: Callable[[], Runner], shared: bool = False) -> None:
        """`shared`: whether answers to variants that are the same for every target are kept for the next target."""
        self.makers = list(makers)
        self.shared: dict[str, dict[Any, Tensor]] | None = {} if shared else None  # by method and variant
        self.now: Runner | None = None
        self.fallback = ""
        self.checked = False  # whether packs were seen to answer as their rows do by themselves
        self.compared = False  # whether a fast copy's scores were compared with the plain network's

    def ready(self, variant: Tensor, work: RunStats) -> Runner:
        """The one to be used."""
        while self.now is None:
            runner = self.makers.pop(0)()
            try:
                runner.prepare(variant)
            except WhycamError as error:
                if not self.makers:
                    raise
                self.fallback = str(error).rstrip(".")
                continue
            self.now = runner
            work.count(runner, runner.tried)
        work.part, work.fallback, work.copy = self.now.about, self.fallback, self.now.said
        return self.now

    def outputs(self, group: Tensor, work: RunStats) -> list[Tensor]:
        """The answers to a group; by the next runner, or each by itself, where those of this one cannot be had."""
        while True:
            runner = self.ready(group[0], work)
            try:
                outputs = runner.outputs(group)
                if self.checked or runner.alone or len(group) == 1 or self._same_alone(runner, group, outputs, work):
                    return outputs
                why = "rows that are run together change each other's answers"
            except Exception as error:  # the network's own, which may bear two rows and no other number
                if out_of_memory(error) or (runner.alone and not self.makers):
                    raise
                why = first_line(error)
            if self.makers:
                self.fallback, self.now = why, None
            else:
                runner.alone, runner.group = True, 1

    def _same_alone(self, runner: Runner, group: Tensor, outputs: Sequence[Tensor], work: RunStats) -> bool:
        """Whether the last of a group, and the one that moved the answer most, are what they are by themselves."""
        moved = [float((each - runner.network.output).abs().nan_to_num(0.0).amax()) for each in outputs]
        some = {len(group) - 1, max(range(len(group)), key=moved.__getitem__)}
        work.count(runner, len(some))
        self.checked = all(
            runner.network.agrees(
                outputs[k], runner.outputs(group[k : k + 1])[0], runner.tolerance, runner.network.output
            )
            for k in some
        )
        return self.checked


class Scorer:
    """`score` or `score_from` of one target."""

    def __init__(
        self,
        bound: Score,
        as_probability: Callable[[], Score],
        runners: Runners,
        plain: Callable[[], Runner] | None,
        work: RunStats,
        title: str,
        *,
        own: bool = False,
    ) -> None:
        """`plain`: what a sample of variants is scored by as well. `own`: a fast copy's scores are left as they are, to
        be read beside each other, and compared with the plain network's by the first scorer of the runners alone.
        """
        self.bound, self.as_probability = bound, as_probability
        self.runners, self.plain, self.work, self.title, self.own = runners, plain, work, title, own

    def __call__(
        self, variants: Iterable[Tensor], *, probability: bool = False
    ) -> Float[Tensor, "variant batch *each"]:
        """The scores of each variant. See `quantities.Score`."""
        score: Score = self.as_probability() if probability else self.bound
        if self.plain is not None:
            sample: dict[int, Tensor] = {}
            made = torch.stack([score(output).clone() for output in self._answers(variants, sample)])
            return self._corrected(self.runners.ready(next(iter(sample.values())), self.work), sample, made, score)
        if self.runners.shared is None or not isinstance(variants, Variants) or not variants.shared:
            return torch.stack([score(output).clone() for output in self._answers(variants, {})])
        known = self.runners.shared.setdefault(self.title, {})
        if (new := [each for each in variants.over if each not in known]) or not known:
            answers = self._answers(lazily(variants.make, new), {})
            known |= {each: answer.clone() for each, answer in zip(new, answers, strict=True)}
        return torch.stack([score(known[each]) for each in variants.over])

    def _answers(self, variants: Iterable[Tensor], sample: dict[int, Tensor]) -> Iterator[Tensor]:
        """The network's answer to each variant, and a `sample` of the variants where a fast copy answers.

        An answer may be a view of what the next pack is written over: what is kept of it has to be copied.
        """
        total = len(variants) if isinstance(variants, Sized) else None
        stream: Iterator[Tensor] = map(_checked, variants)
        first = next(stream, None)
        if first is None:
            raise WhycamError(f"{self.title} asked for the scores of no variants.")
        count = 0
        wanted = _spread(total)
        runner = self.runners.ready(first, self.work)
        if len(first) != runner.network.samples:
            raise WhycamError(
                f"a variant holds the whole batch of {runner.network.samples}; {len(first)} samples came."
            )
        stream = itertools.chain([first], stream)
        with runner.execution.progress.of(self.title, total, f"runs of {runner.about}") as advance:
            room: Tensor | None = None  # for the packs, one after the other: fresh memory costs more than the copying
            while (group := _pack(stream, self.runners.ready(first, self.work).group, room)) is not None:
                room = group if room is None or len(group) > len(room) else room
                if self.plain is not None:
                    here = range(count, count + len(group))
                    sample |= {number: group[number - count].clone() for number in wanted if number in here}
                yield from self.runners.outputs(group, self.work)
                count += len(group)
                advance(len(group))
        self.work.note(self.runners.ready(first, self.work), count)

    def _corrected(self, fast: Runner, sample: Mapping[int, Tensor], made: Tensor, score: Score) -> Tensor:
        """Subtract the fast copy's error on the unmodified input from all its scores; record the error that remains.

        Methods compare the scores of variants with the recorded one, so an error that all of them share must not count.
        """
        assert self.plain is not None  # else there is nothing to compare with
        if self.own and self.runners.compared:
            return made
        self.runners.compared = True
        if not self.own:
            recorded = fast.outputs(fast.recorded()[None])[0]
            made = made + (score(fast.network.output) - score(recorded))
            self.work.count(fast, 1)
        plain = self.plain()
        plain.alone = True  # one variant at a time; there are only a few
        plain.prepare(next(iter(sample.values())))
        exact = torch.stack([score(output) for output in plain.outputs(torch.stack(list(sample.values())))])
        self.work.count(plain, len(sample) + plain.tried)
        apart = (made[list(sample)] - exact).abs().amax()
        spread = (made.amax(0) - made.amin(0)).amax()
        self.work.deviation = max(self.work.deviation or 0.0, float(apart))
        self.work.spread = max(self.work.spread or 0.0, float(spread))
        return made


def _spread(total: int | None) -> list[int]:
    """The numbers of the variants that are scored by the plain network as well: some from the first to the last."""
    last = max(total or 0, _SAMPLE) - 1
    return [round(k * last / (_SAMPLE - 1)) for k in range(_SAMPLE)]


def _checked(variant: Any) -> Tensor:
    if not isinstance(variant, Tensor):
        raise WhycamError(f"a variant is a tensor with the whole batch, not {type(variant).__name__}.")
    return variant


def _pack(stream: Iterator[Tensor], size: int, room: Tensor | None = None) -> Tensor | None:
    """The next variants in one tensor, as many as there are up to `size`; copied one by one, so that a caller may make
    them all in one place. `None` where there are no more. `room` is written over, if it is large enough.
    """
    first = next(stream, None)
    if first is None:
        return None
    fits = room is not None and room.shape[1:] == first.shape and room.dtype == first.dtype and len(room) >= size
    pack = room if room is not None and fits else first.new_empty((size, *first.shape))
    pack[0] = first
    count = 1
    for variant in itertools.islice(stream, size - 1):
        if variant.shape != first.shape:
            raise WhycamError(
                f"variants that are scored together have one shape; {tuple(variant.shape)} came after "
                f"{tuple(first.shape)}."
            )
        pack[count] = variant
        count += 1
    return pack[:count]


def _noisy(row: Tensor) -> Tensor:
    """Another row than this, in its range; the same one every time."""
    return row + noise_like(row)


def _draws(network: Network) -> bytes:
    """The state that random numbers come from."""
    state, device = torch.get_rng_state().numpy().tobytes(), network.device
    if isinstance(network.model, Adapted):
        state += network.model.drawn()
    return state + torch.cuda.get_rng_state(device).numpy().tobytes() if device.type == "cuda" else state


def _laid_out(layer: LayerRecord, maps: Tensor, raw: Tensor, sample: int | None = None) -> Tensor:
    """Maps as the layer returns them, in its own precision and order of memory.

    `raw` is what it returned, for what no map shows; where a `sample` is named, all maps are of that one.
    """
    beside = raw if sample is None else raw[sample : sample + 1]
    laid = layer.layout.from_maps(maps.to(raw.dtype), beside)
    strides: tuple[int, ...] = raw.stride()
    order = sorted(range(laid.ndim), key=lambda axis: -strides[axis])
    back = [order.index(axis) for axis in range(laid.ndim)]
    return laid.permute(order).contiguous().permute(back)
