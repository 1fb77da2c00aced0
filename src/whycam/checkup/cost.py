"""What a method would cost on a network, before it is run: a dry run whose functions count and hardly run anything.

The method itself is called, on quantities that were really recorded. In the place of the functions that run the network
(`score`, `score_from`, `trace`, `differentiate`) it gets stand-ins that make ready what would run, run the first of the
variants, count the rest, and answer with numbers that are made up: of the right shape, the same every time, and not all
alike, lest a method stop early.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.engine.inputs import Batch
from whycam.engine.layer_plan import plan
from whycam.engine.maps import MapBuilder
from whycam.engine.measure import FROM_THE_LAYER, Ground, Measured, fusion_needs
from whycam.engine.provider import QuantityProvider
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.kit.arrays import resize
from whycam.kit.progress import Progress, duration
from whycam.kit.quantities import FUNCTIONS, Traced
from whycam.kit.registry import Method
from whycam.network.diagnosis.flops import counted
from whycam.network.diagnosis.survey import is_ours
from whycam.network.hooks import call
from whycam.network.layer_refs import LayerRef
from whycam.network.pytree import detached_copy
from whycam.network.recording.record import LayerRecord
from whycam.network.variants.scoring import Above, Network, Runner, Runners, RunStats, Scorer
from whycam.network.variants.tracing import Differentiator, Tracer
from whycam.targets import key

#: How many variants are really scored at least.
_ENOUGH = 4
#: How often something is timed, at most, and for how many seconds.
_TIMES, _SECONDS = 3, 1.0


@dataclass(frozen=True)
class Runs:
    """Runs of a part of the network.

    Attributes:
        part: which, in words: `the part above layer4`.
        number: how many, each of the whole batch.
        share: of the network's operations, how many one run takes; `None` where none can be counted.
    """

    part: str
    number: int
    share: float | None

    def __str__(self) -> str:
        share = f" ({self.share:.2g} of the network each)" if self.share is not None else ""
        return f"{self.number:,} run{_s(self.number)} of {self.part}{share}"


@dataclass(frozen=True)
class Estimate:
    """What one method would cost on a network and inputs.

    Attributes:
        name, title: the method's. `layer`: where its map would be made; empty for methods without one.
        reason: why it cannot be run here; empty where it can, and then the rest is known.
        forwards, backwards: passes of the whole network. They are those that `Explanation.cost` has afterwards, less
            those that go into choosing the layer, once for all methods.
        parts: runs of parts of the network.
        total: all of it in operations, as a multiple of one forward's; `None` where none can be counted.
        seconds: about how long it takes.
        fallback: why whole forwards would be run where a part was meant to be.
    """

    name: str
    title: str
    layer: str = ""
    reason: str = ""
    forwards: int = 0
    backwards: int = 0
    parts: tuple[Runs, ...] = ()
    total: float | None = None
    seconds: float = 0.0
    fallback: str = ""

    @property
    def possible(self) -> bool:
        """Whether the method can be run here."""
        return not self.reason

    @property
    def passes(self) -> str:
        """What is run, in words: `1 forward, 512 runs of the part above layer4 (0.0004 of the network each)`."""
        counts = ((self.forwards, "forward"), (self.backwards, "backward"))
        said = [f"{number:,} {what}{_s(number)}" for number, what in counts if number]
        return ", ".join([*said, *map(str, self.parts)])

    @property
    def worth(self) -> str:
        """`total` in words: `1.2`, `4,001`; empty where it is not known."""
        return "" if self.total is None else f"{self.total:,.0f}" if self.total >= 100 else f"{self.total:.3g}"

    def __str__(self) -> str:
        if self.reason:
            return f"{self.title}: not possible: {self.reason}"
        worth = f", {self.worth} forwards' worth of operations" if self.total is not None else ""
        return f"{self.title}: {self.passes}{worth}, about {duration(self.seconds)}"


def estimates(session: Session, inputs: Any, request: Request, progress: Progress) -> list[Estimate]:
    """What `Explainer.cost` returns."""
    rehearsal = Rehearsal(session, session.batch(inputs, request), request)
    made = []
    with progress.of("Estimating", len(request.methods), "methods") as advance:
        for method in request.methods:
            made.append(rehearsal.of(method))
            advance(1)
    return made


@dataclass(frozen=True)
class _Recorded:
    """A recording that several methods read, and what it took, in operations."""

    ground: Ground
    method: str
    operations: int
    maker: MapBuilder
    supply: "_Counting"


@dataclass
class _Bill:
    """What the method that is called now is found to take, beside the recording and its own arithmetic."""

    operations: float = 0.0
    seconds: float = 0.0
    aside: float = 0.0  # seconds that went into finding this out


@dataclass(frozen=True)
class _Seen:
    """One run of the network forwards and backwards that was really made, and what it took."""

    result: Any
    pixels: int
    work: RunStats
    operations: int
    seconds: float


class Rehearsal:
    """Dry runs of methods on one network and batch; what one has found out serves the next.

    Attributes:
        backwards: backward passes that were really made.
    """

    def __init__(self, session: Session, batch: Batch, request: Request) -> None:
        self.session, self.batch, self.request = session, batch, request
        self.module = session.module
        self.target = key(request.targets[0])
        self.backwards = 0
        self.bill = _Bill()
        self.runners: dict[Any, _Once] = {}
        self.seen: dict[Any, _Seen] = {}
        self._recorded: dict[Any, _Recorded] = {}
        self._forward: tuple[int, float] | None = None
        self._shares: dict[str, int] = {}

    def of(self, method: Method) -> Estimate:
        """What one method would cost. What the network itself raises is a reason why it cannot be run."""
        try:
            return self._of(method)
        except WhycamError as error:
            return Estimate(method.name, method.title, reason=str(error))
        except Exception as error:  # a model that runs for a prediction may raise once gradients are on
            if is_ours(error):
                raise
            return Estimate(method.name, method.title, reason=f"{type(error).__name__}: {error}")

    def _of(self, method: Method) -> Estimate:
        found = self._ground(method)
        plans, measured = found.ground.plans[found.method], found.ground.measured
        operations, seconds = self.one_forward(found.supply.network)
        maker = found.maker
        maker.drafts.clear()
        maker.failures.clear()
        found.supply.begin()
        self.bill = _Bill()
        started = time.perf_counter()
        for each in plans:
            maker.make(method, each, 0, self.target if method.class_specific else None)
        own = max(0.0, time.perf_counter() - started - self.bill.aside)
        if not maker.drafts:
            return Estimate(method.name, method.title, reason=str(next(iter(maker.failures.values()))))
        made = list(maker.drafts.values())
        work = [work for each in made for work in each["work"]]
        recorded = found.operations / operations if operations else float(sum(measured.passes))
        parts: dict[str, int] = {}
        for one in work:
            if one.parts:
                parts[one.part] = parts.get(one.part, 0) + one.parts
        return Estimate(
            method.name,
            method.title,
            layer=" + ".join(each["layer"].name for each in made) if method.has_layer else "",
            forwards=measured.passes.forwards + sum(each.forwards for each in work),
            backwards=measured.passes.backwards + sum(each.backwards for each in work),
            parts=tuple(
                Runs(part, number, self._shares.get(part, operations) / operations if operations else None)
                for part, number in parts.items()
            ),
            total=(found.operations + self.bill.operations) / operations if operations else None,
            seconds=recorded * seconds + self.bill.seconds + own,
            fallback=next((each.fallback for each in work if each.fallback), ""),
        )

    def _ground(self, method: Method) -> _Recorded:
        """What the method reads, recorded as the engine would record it for this method alone."""
        request = replace(self.request, methods=(method,))
        plans, spent = plan(self.module, self.batch, [method], request.layers, self.session.resolvers(request))
        self.backwards += spent.backwards
        needs = method.needs | fusion_needs([method], plans, request.fusion)
        known = (
            tuple(plans[method.name]),
            bool(needs - {"guided_gradients"}),
            bool(needs & FROM_THE_LAYER),
            *(name in needs for name in ("gradients", "input_gradients", "guided_gradients")),
        )
        if known not in self._recorded:
            with counted() as counter:
                ground = self.session.ground(self.batch, request)
            self.backwards += ground.choosing.backwards + ground.measured.passes.backwards
            maker = MapBuilder(self.session.vision, self.module, self.batch, ground.measured, self.request)
            maker.supply = supply = _Counting(self, ground.measured)
            self._recorded[known] = _Recorded(ground, method.name, counter.get_total_flops(), maker, supply)
        return self._recorded[known]

    # --- what single runs take

    def one_forward(self, network: Network) -> tuple[int, float]:
        """The operations of one forward of the batch, and its seconds."""
        if self._forward is None:

            def run() -> None:
                with network.running(), torch.no_grad():
                    call(network.model, detached_copy(network.inputs))

            with counted() as counter:
                run()
            self._forward = counter.get_total_flops(), self._fastest(run)
        return self._forward

    def once(self, known: Any, make: Callable[[], Runner]) -> Callable[[], Runner]:
        """What gives a runner that is made ready once for all methods."""

        def made() -> Runner:
            if known not in self.runners:
                self.runners[known] = _Once(make())
            return self.runners[known].runner

        return made

    def scoring(self, runner: Runner, group: Tensor) -> tuple[float, float]:
        """The operations of scoring one variant, and its seconds among those of a group."""
        once = next(each for each in self.runners.values() if each.runner is runner)
        operations: float = self.one_forward(runner.network)[0]
        if isinstance(runner, Above):
            if runner.about not in self._shares:
                with counted() as counter:
                    runner.outputs(group[:1])
                self._shares[runner.about] = counter.get_total_flops()
            operations = self._shares[runner.about]
        if group.shape not in once.seconds:
            once.seconds[group.shape] = self._fastest(lambda: runner.outputs(group)) / len(group)
        return operations, once.seconds[group.shape]

    def _fastest(self, run: Callable[[], Any]) -> float:
        """The seconds of the fastest of a few runs."""
        found: list[float] = []
        while len(found) < _TIMES and sum(found) < _SECONDS:
            self._wait()
            started = time.perf_counter()
            run()
            self._wait()
            found.append(time.perf_counter() - started)
        return min(found)

    def _wait(self) -> None:
        """Until the device has done what it was given."""
        device = self.batch.context.inputs.device
        if device.type in ("cuda", "mps", "xpu"):
            getattr(torch, device.type).synchronize()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """A block whose time is not the method's."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.bill.aside += time.perf_counter() - started

    def passes(self, known: Any, pixels: int, work: RunStats, run: Callable[[RunStats], Any]) -> tuple[_Seen, float]:
        """A run forwards and backwards that was really made, to stand for this one, and how much larger this one is.

        Of sizes other than the first, one is run, to see that the network takes it. Operations go with the pixels.
        """
        seen = [self.seen[each] for each in ((known, 0), (known, 1)) if each in self.seen]
        found = next((each for each in seen if each.pixels == pixels), seen[-1] if len(seen) > 1 else None)
        if found is None:
            probe = RunStats()
            with self.aside():
                with counted() as counter:
                    result = run(probe)
                taken = replace(probe)
                seconds = self._fastest(lambda: run(probe))
            self.backwards += probe.backwards
            found = _Seen(result, pixels, taken, counter.get_total_flops(), seconds)
            self.seen[known, len(seen)] = found
        work.variants += found.work.variants
        work.forwards += found.work.forwards
        work.backwards += found.work.backwards
        larger = pixels / found.pixels
        self.bill.operations += found.operations * larger
        self.bill.seconds += found.seconds * larger
        return found, larger


class _Once:
    """A runner that is made ready for the first method, and is for the others as it was then."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.seconds: dict[Any, float] = {}
        self._prepare = runner.prepare
        self._prepared: dict[str, Any] = {}
        self._refusal: WhycamError | None = None
        runner.prepare = self._ready  # type: ignore[method-assign]

    def _ready(self, variant: Tensor) -> None:
        if self._refusal is not None:
            raise self._refusal
        if not self._prepared:
            try:
                self._prepare(variant)
            except WhycamError as error:
                self._refusal = error
                raise
            self._prepared = dict(vars(self.runner))
        vars(self.runner).update(self._prepared)


class _Counting(QuantityProvider):
    """Gives methods what was recorded, and stand-ins for the functions that run the network."""

    def __init__(self, rehearsal: Rehearsal, measured: Measured) -> None:
        super().__init__(rehearsal.module, rehearsal.batch, measured, rehearsal.request.run)
        self.rehearsal = rehearsal
        self.shared: dict[LayerRef | None, Runners] = {}

    def quantity(self, name: str, layer: LayerRecord | None, number: int, title: str) -> Any:
        """One quantity of a target, at a layer."""
        if name not in FUNCTIONS:
            before = len(self.work)
            with counted() as counter:
                found = super().quantity(name, layer, number, title)
            self.rehearsal.bill.operations += counter.get_total_flops()
            self.rehearsal.backwards += sum(each.backwards for each in self.work[before:])
            return found
        found = super().quantity(name, layer, number, title)
        if isinstance(found, Scorer):
            return _Scores(self.rehearsal, found)
        if isinstance(found, Tracer):
            return _Traces(self.rehearsal, found)
        assert isinstance(found, Differentiator), name
        return _Slopes(self.rehearsal, found)

    def begin(self) -> None:
        """Another method comes, which shares no runners with the one before."""
        self.shared.clear()

    def _whole(self) -> Runners:
        return self._share(None, super()._whole())

    def _above(self, layer: LayerRecord) -> Runners:
        return self._share(layer.tap, super()._above(layer))

    def _share(self, known: LayerRef | None, real: Runners) -> Runners:
        makers = (self.rehearsal.once((known, number), make) for number, make in enumerate(real.makers))
        return self.shared.setdefault(known, Runners(*makers))


class _Scores(Scorer):
    """Stands for `score` and `score_from`: scores the first variants, counts the others, and makes up what they got."""

    def __init__(self, rehearsal: Rehearsal, real: Scorer) -> None:
        super().__init__(real.bound, real.as_probability, real.runners, real.plain, real.work, real.title)
        self.rehearsal = rehearsal

    def __call__(self, variants: Iterable[Tensor], *, probability: bool = False) -> Float[Tensor, "variant batch"]:
        """Scores that are made up."""
        score = self.as_probability() if probability else self.bound
        with self.rehearsal.aside():
            before = replace(self.work)
            stream = iter(variants)
            drawn, _ = _drawn(stream, 1)
            if not drawn or not isinstance(drawn[0], Tensor):
                return super().__call__(drawn)  # which refuses it
            # whatever is run beside the variants is run for the first of them; from then on each is one run
            runner = self.runners.ready(drawn[0], self.work)
            more, seconds = _drawn(stream, max(runner.group, _ENOUGH) - 1)
            drawn += more
            count = len(variants) if isinstance(variants, Sized) else len(drawn) + sum(1 for _ in stream)
            super().__call__(drawn, probability=probability)
            runner = self.runners.ready(drawn[0], self.work)
            self.work.note(runner, count - len(drawn))
            made = _made_up(score(runner.network.output), count, probability=probability)
            part, each = self.rehearsal.scoring(runner, torch.stack(drawn[: runner.group]))
            whole, _ = self.rehearsal.one_forward(runner.network)
            forwards, parts = self.work.forwards - before.forwards, self.work.parts - before.parts
            self.rehearsal.bill.operations += forwards * whole + parts * part
            self.rehearsal.bill.seconds += (forwards + parts) * each + count * seconds
        return made


class _Traces(Tracer):
    """Stands for `trace`."""

    def __init__(self, rehearsal: Rehearsal, real: Tracer) -> None:
        super().__init__(real.network, real.execution, real.layer, real.bound, real.work, real.title)
        self.rehearsal = rehearsal

    def __call__(self, variants: Iterable[Tensor]) -> Iterator[Traced]:
        """What was really seen of the first variant, more or less of it each time."""
        for number, variant in enumerate(variants):

            def run(work: RunStats, variant: Tensor = variant) -> Traced:
                real = Tracer(self.network, self.execution, self.layer, self.bound, work, self.title)
                return next(iter(real([variant])))

            seen, larger = self.rehearsal.passes(self.layer.tap, variant[0, 0].numel(), self.work, run)
            yield _scaled(seen.result, larger, 0.5 + _spread(number))


class _Slopes(Differentiator):
    """Stands for `differentiate`."""

    def __init__(self, rehearsal: Rehearsal, real: Differentiator) -> None:
        super().__init__(real.network, real.bound, real.as_probability, real.work)
        self.rehearsal, self.count = rehearsal, itertools.count()

    def __call__(self, inputs: Tensor, *, probability: bool = False) -> tuple[Tensor, Tensor]:
        """What was really seen of the first inputs, more or less of it each time."""

        def run(work: RunStats) -> tuple[Tensor, Tensor]:
            real = Differentiator(self.network, self.bound, self.as_probability, work)
            return real(inputs, probability=probability)

        known = "the inputs", probability
        seen, _ = self.rehearsal.passes(known, inputs[0, 0].numel(), self.work, run)
        scores, gradients = seen.result
        factor = 0.5 + _spread(next(self.count))
        return factor * scores, factor * gradients


def _drawn(stream: Iterator[Tensor], most: int) -> tuple[list[Tensor], float]:
    """The next variants, and the seconds that making one took."""
    started = time.perf_counter()
    made = list(itertools.islice(stream, most))
    return made, (time.perf_counter() - started) / max(1, len(made))


def _spread(number: int) -> float:
    """Numbers spread over [0, 1), no two alike."""
    return math.fmod(number * (math.sqrt(5) - 1) / 2, 1)


def _made_up(scores: Float[Tensor, " batch"], count: int, *, probability: bool) -> Float[Tensor, "variant batch"]:
    """Scores around those of the inputs themselves; probabilities below them."""
    spread = scores.new_tensor([_spread(number) for number in range(count)])[:, None]
    size = scores.abs().where(scores != 0, scores.new_ones(()))
    return size * (spread + 0.1) / 1.1 if probability else scores + size * (spread - 0.5)


def _scaled(run: Traced, larger: float, factor: float) -> Traced:
    """A run as it might have been of an input of another size."""
    side = larger ** (1 / (run.activations.ndim - 2))
    size = [max(1, round(each * side)) for each in run.activations.shape[2:]]

    def of_size(maps: Tensor) -> Tensor:
        return factor * resize(maps.flatten(0, 1), size).reshape(*maps.shape[:2], *size)

    return Traced(of_size(run.activations), of_size(run.gradients), factor * run.scores, run.output)


def _s(number: int) -> str:
    return "" if number == 1 else "s"
