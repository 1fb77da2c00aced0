"""Scores of many variants of the inputs or of a layer's activations: the one place where variants are batched.

Variants are drawn one by one and packed into batches that fit a budget of memory. Three runners give the outputs of a
pack: `Whole` runs the network on edited inputs, `Above` only the part of it above a layer (`network.resuming`), and
`Replaced` runs the whole network with the layer's output replaced, where the part cannot be run by itself.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whycam.arrays import is_half, wide
from whycam.errors import WhycamError
from whycam.network.eager import eager
from whycam.network.guard import acting, as_found
from whycam.network.memory import free_bytes, peak_bytes
from whycam.network.misfits import out_of_memory
from whycam.network.outputs import Part, number_of_classes, read
from whycam.network.recording import LayerRecord
from whycam.network.resuming import Resumed
from whycam.network.running import Inputs, call, watching
from whycam.network.structures import first_tensor, mapped, only_tensor, replaced, tensors
from whycam.progress import Progress
from whycam.targets import Bound, Score

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]

#: How many rows a network is given at once at most, and on CPUs how many bytes of results may live at once: more than
#: the caches hold makes each row dearer (docs/benchmarks.md).
MOST_ROWS = 256
CACHED = 32 * 2**20
#: How many variants are scored by the plain network too where a fast copy scores them.
_SAMPLE = 4
#: How far outputs may be from the recorded ones, in parts of their largest magnitude; for half precision the second.
_ROUNDING = (1e-4, 5e-2)


@dataclass(frozen=True)
class Execution:
    """How variants are run.

    Attributes:
        precision: of a private copy of the network that is made fast (`network.fast`); `None` runs it as it is.
        compile: whether that copy is compiled.
        budget: bytes that the variants under way may take; by default half of what is free.
        progress: where long work is shown.
    """

    precision: Precision | None = None
    compile: bool = False
    budget: int | None = None
    progress: Progress = field(default_factory=Progress)


@dataclass
class Work:
    """What was run for one method.

    Attributes:
        part: what was run, in words: `the whole network`, `the part above layer4`.
        variants: how many were scored. `rows`: how many rows at once at most.
        forwards, backwards, parts: runs of the whole network and of the part, in batches of the caller's size.
        fallback: why whole forwards were run where the part was meant to be.
        halved: how often memory ran out and the rows were halved.
        precision: what the fast copy was, in words, if one was used.
        deviation: the largest difference of its scores from the plain network's, over a sample of variants.
    """

    part: str = "the whole network"
    variants: int = 0
    rows: int = 0
    forwards: int = 0
    backwards: int = 0
    parts: int = 0
    fallback: str = ""
    halved: int = 0
    precision: str = ""
    deviation: float | None = None


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
    part: Part | None
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

    @contextmanager
    def running(self) -> Iterator[None]:
        """A block in which the network runs as it did for the caller, and is left as it was found."""
        enabled, dtype = self.autocast
        with as_found(self.model), eager(self.model), torch.autocast(self.device.type, dtype=dtype, enabled=enabled):
            yield

    @property
    def tolerance(self) -> float:
        """How far an output may be from the recorded one for the two to count as one."""
        return _ROUNDING[is_half(self.output)]

    def agrees(self, found: Tensor, expected: Tensor, tolerance: float | None = None) -> bool:
        """Whether outputs are those that were recorded, up to rounding."""
        finite = expected.isfinite()
        if not torch.equal(finite, found.isfinite()):
            return False
        expected, found = expected[finite], found[finite]
        largest = expected.abs().amax() if expected.numel() else 0.0
        allowed = self.tolerance if tolerance is None else tolerance
        return bool(((found - expected).abs() <= allowed * largest).all())


def autocast_of(device: torch.device) -> tuple[bool, torch.dtype]:
    """The autocast that is on for a device type now."""
    return torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)


class Runner(ABC):
    """Gives the network's answers to packs of variants."""

    #: What is run, in words.
    about = "the whole network"

    def __init__(self, network: Network, execution: Execution) -> None:
        self.network, self.execution = network, execution
        self.limit = 1  # rows at once
        self.halved = 0
        self.alone = False  # whether each variant must be run by itself, with the batch as the caller gave it

    @abstractmethod
    def prepare(self, variant: Tensor) -> None:
        """Find out, on a first variant, whether rows can be packed, and how many at once.

        Raises:
            WhycamError: this runner cannot be used here, and why.
        """

    @abstractmethod
    def outputs(self, group: Sequence[Tensor]) -> list[Tensor]:
        """The network's answer to each variant, `(batch, ...)`."""

    @property
    def group(self) -> int:
        """How many variants are run together."""
        return 1 if self.alone else max(1, self.limit // self.network.samples)

    def set_limit(self, peak: int, rows: int) -> None:
        """Choose the rows at once from the bytes that were alive at most while some rows ran."""
        each = max(1, peak // rows)
        budget = self.execution.budget if self.execution.budget is not None else free_bytes(self.network.device) // 2
        fitting = budget // (2 * each)  # what the operations themselves need comes on top
        if self.network.device.type == "cpu":
            fitting = min(fitting, max(1, round(CACHED / each)))
        self.limit = max(1, min(MOST_ROWS, fitting))

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


class _Forwards(Runner):
    """Whole forwards, of the caller's model or of a fast copy of it."""

    def __init__(self, network: Network, execution: Execution, model: nn.Module | None = None) -> None:
        super().__init__(network, execution)
        self.model = model if model is not None else network.model
        self.dtype = None if model is None else next((p.dtype for p in model.parameters()), None)
        self.alone = bool(acting(network.model))

    @abstractmethod
    def run(self, rows: Tensor, samples: Tensor) -> Tensor:
        """The answers to rows of variants, which belong to the samples of those numbers."""

    def outputs(self, group: Sequence[Tensor]) -> list[Tensor]:
        """The network's answer to each variant, `(batch, ...)`."""
        size = self.network.samples
        if self.alone:
            every = torch.arange(size, device=self.network.device)
            return [self.by_itself(variant, every) for variant in group]
        rows = group[0] if len(group) == 1 else torch.cat(list(group))
        samples = torch.arange(size, device=self.network.device).repeat(len(group))
        answers = self.in_pieces(lambda piece: self.run(rows[piece], samples[piece]), len(rows))
        return list(torch.split(answers, size))

    def by_itself(self, variant: Tensor, samples: Tensor) -> Tensor:
        """The answer to one variant of the batch as the caller gave it, from the state in which the caller gave it."""
        with self.network.running() if acting(self.network.model) else nullcontext():
            return self.run(variant, samples)

    def prepare(self, variant: Tensor) -> None:
        """Run the first sample, as recorded and as the variant has it, side by side."""
        if self.alone:
            return
        recorded = self.recorded()
        pair = torch.cat([recorded[:1], variant[:1].to(recorded.dtype)]) if _alike(recorded, variant) else recorded[:1]
        try:
            with peak_bytes() as peak:
                found = self.run(pair, torch.zeros(len(pair), dtype=torch.long, device=self.network.device))
        except Exception:  # some networks take no other number of samples; what they have against all of it comes later
            self.alone = True
            return
        tolerance = max(self.network.tolerance, _ROUNDING[1] if self.dtype in _HALF else 0.0)
        if self.network.agrees(found[:1], self.network.output[:1], tolerance):
            self.set_limit(peak.peak, len(pair))
        elif self.model is self.network.model:
            self.alone = True  # samples know of each other
        else:
            raise WhycamError("the fast copy of the network gives another answer than the network itself.")

    @abstractmethod
    def recorded(self) -> Tensor:
        """What variants are edits of."""

    def others(self, samples: Tensor) -> Inputs:
        """The inputs, each row that of its sample."""
        size = self.network.samples
        made: Inputs = mapped(
            self.network.inputs,
            lambda tensor: self._cast(tensor[samples] if tensor.ndim and len(tensor) == size else tensor.clone()),
        )
        return made

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if self.dtype is not None and tensor.is_floating_point() else tensor


_HALF = (torch.float16, torch.bfloat16)


class Whole(_Forwards):
    """Runs the network on edited inputs."""

    def recorded(self) -> Tensor:
        """The inputs."""
        return self.network.picture

    def run(self, rows: Tensor, samples: Tensor) -> Tensor:
        """The answers to rows of edited inputs."""
        path = next(path for path, tensor in tensors(self.network.inputs) if tensor is self.network.picture)
        rows = self._cast(rows.to(self.network.picture.dtype))
        if not path:
            given: Any = rows.clone() if rows.data_ptr() == self.network.picture.data_ptr() else rows
        else:
            given = replaced(self.others(samples), path, rows)
        return self.network.answer(call(self.model, given), len(rows))


class Replaced(_Forwards):
    """Runs the whole network with what a layer returns replaced: what resuming it comes to, at full cost."""

    def __init__(
        self, network: Network, execution: Execution, layer: LayerRecord, model: nn.Module | None = None
    ) -> None:
        super().__init__(network, execution, model)
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
        execution: Execution,
        layer: LayerRecord,
        copy: Callable[[], nn.Module],
        dtype: torch.dtype | None = None,
    ) -> None:
        """`copy` makes a private copy of the network, which computes in `dtype` if not as the network itself."""
        super().__init__(network, execution)
        self.layer, self.copy, self.dtype = layer, copy, dtype
        self.resumed: Resumed | None = None
        self.about = f"the part above {layer.tap}"

    def prepare(self, variant: Tensor) -> None:
        """Resume what was recorded, beside another row, and compare with the recorded answers.

        What runs before the layer cannot depend on it, so a copy that answers as recorded without having run it has
        missed nothing that was left behind other than by return values.
        """
        if self.layer.before is None or self.layer.rows is not None:
            raise WhycamError("the batch does not pass through the layer at once")
        if acting(self.network.model):
            raise WhycamError("the model is in training mode, and draws or batch statistics tie its parts together")
        before, network = self.layer.before, self.network
        self.resumed = Resumed(self.copy(), before, network.inputs, network.samples, self.dtype)
        activations, peak = self.layer.activations, 0
        tolerance = max(network.tolerance, _ROUNDING[1] if self.dtype in _HALF else 0.0)
        for sample in range(self.network.samples):
            pair = torch.stack([activations[sample], variant[sample].to(activations.dtype)])
            try:
                with peak_bytes() as counter:
                    found = self._run(sample, pair)[:1]
            except Exception as error:  # the network's own, which was not written to be run in part
                raise WhycamError(f"{type(error).__name__}: {_first_line(error)}") from error
            peak = max(peak, counter.peak)
            if not self.network.agrees(found, self.network.output[sample : sample + 1], tolerance):
                raise WhycamError("resumed with the recorded activations, the network gives another answer")
        self.set_limit(peak, 2)

    @property
    def group(self) -> int:
        """How many variants are run together."""
        return self.limit

    def outputs(self, group: Sequence[Tensor]) -> list[Tensor]:
        """The network's answer to each variant, `(batch, ...)`."""
        variants = torch.stack(list(group))
        answers = []
        for sample in range(self.network.samples):
            rows = variants[:, sample]
            answers.append(self.in_pieces(lambda piece, n=sample, rows=rows: self._run(n, rows[piece]), len(rows)))  # type: ignore[misc]
        return list(torch.stack(answers, 1))

    def _run(self, sample: int, rows: Tensor) -> Tensor:
        assert self.resumed is not None  # since prepared
        assert self.layer.before is not None
        raw = dict(tensors(self.layer.before.value))[self.layer.before.path]
        laid = _laid_out(self.layer, rows, raw[sample : sample + 1])
        return self.network.answer(self.resumed.run(sample, laid), len(rows))


class Scorer:
    """`score` or `score_from` of one target."""

    def __init__(
        self,
        bound: Bound,
        as_probability: Callable[[], Score],
        runners: Sequence[Callable[[], Runner]],
        plain: Callable[[], Runner] | None,
        work: Work,
        title: str,
    ) -> None:
        """`runners` are tried in turn; `plain` is what a sample of variants is scored by as well."""
        self.bound, self.as_probability = bound, as_probability
        self.runners, self.plain, self.work, self.title = runners, plain, work, title
        self.runner: Runner | None = None

    def __call__(self, variants: Iterable[Tensor], *, probability: bool = False) -> Float[Tensor, "variant batch"]:
        """The scores of each variant. See `quantities.Score`."""
        score: Score = self.as_probability() if probability else self.bound
        total = len(variants) if isinstance(variants, Sized) else None
        stream = iter(variants)
        first = next(stream, None)
        if first is None:
            raise WhycamError(f"{self.title} asked for the scores of no variants.")
        found: list[Tensor] = []
        with ExitStack() as stack:
            runner = self._ready(first)
            stack.enter_context(runner.network.running())
            advance = stack.enter_context(runner.execution.progress.of(self.title, total, f"runs of {runner.about}"))
            stream = itertools.chain([first], stream)
            sample: list[Tensor] = []
            while group := list(itertools.islice(stream, runner.group)):
                if self.plain is not None and len(sample) < _SAMPLE:
                    sample += group[: _SAMPLE - len(sample)]
                found += [score(output) for output in runner.outputs(group)]
                advance(len(group))
            self._note(runner, len(found))
            made = torch.stack(found)
            if self.plain is not None:
                self._compare(sample, made, score)
        return made

    def _ready(self, variant: Tensor) -> Runner:
        """The first runner that can be used, once and for all."""
        if self.runner is not None:
            return self.runner
        for number, make in enumerate(self.runners, 1):
            runner = make()
            try:
                with runner.network.running():
                    runner.prepare(variant)
            except WhycamError as error:
                if number == len(self.runners):
                    raise
                self.work.fallback = str(error).rstrip(".")
                continue
            self.runner = runner
            break
        assert self.runner is not None  # the last one was ready, or had raised
        if isinstance(self.runner, Above):
            self.work.parts += 2
        elif not self.runner.alone:
            self.work.forwards += 1
        self.work.part = self.runner.about
        return self.runner

    def _note(self, runner: Runner, variants: int) -> None:
        self.work.variants += variants
        self.work.rows = max(self.work.rows, min(runner.limit, variants * runner.network.samples))
        self.work.halved = runner.halved
        if isinstance(runner, Above):
            self.work.parts += variants
        else:
            self.work.forwards += variants

    def _compare(self, sample: Sequence[Tensor], made: Tensor, score: Score) -> None:
        """How far the fast copy's scores are from the plain network's, over the first variants."""
        assert self.plain is not None  # else there is nothing to compare with
        runner = self.plain()
        runner.prepare(sample[0])
        exact = torch.stack([score(output) for output in runner.outputs(sample)])
        self._note(runner, 0)
        if isinstance(runner, Above):
            self.work.parts += len(sample) + 2
        else:
            self.work.forwards += len(sample) + 1
        deviation = float((made[: len(sample)] - exact).abs().amax())
        self.work.deviation = max(self.work.deviation or 0.0, deviation)


def _laid_out(layer: LayerRecord, maps: Tensor, raw: Tensor) -> Tensor:
    """Maps as the layer returns them, in its own precision; `raw` is what it returned, for what no map shows."""
    return layer.layout.from_maps(maps.to(raw.dtype), raw).contiguous()


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape[1:] == other.shape[1:]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
