"""What a method would cost on a network, before it is run: the method is called with functions that count.

What it reads is really recorded. Its functions that run the network (`score`, `score_from`, `trace`, `differentiate`)
run the first variants, count the others, and repeat the answers. A forward, a run forwards and backwards, and one of
the part above the layer are measured once, for all methods.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from whycam.engine.inputs import Batch
from whycam.engine.layer_plan import plan
from whycam.engine.maps import MapBuilder, plainly
from whycam.engine.measure import Ground, Measured, fusion_needs
from whycam.engine.provider import QuantityProvider
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.kit.progress import Progress, duration
from whycam.kit.quantities import FUNCTIONS, OF_ATTENTION, Prompts
from whycam.kit.registry import Method
from whycam.kit.words import plural
from whycam.network.diagnosis.flops import counted
from whycam.network.diagnosis.survey import is_ours
from whycam.network.hooks import call
from whycam.network.pytree import detached_copy
from whycam.network.recording.record import LayerRecord
from whycam.network.variants.scoring import Above, Network, RunStats, Scorer
from whycam.network.variants.tracing import Differentiator, Propagator, Tracer
from whycam.targets import key

#: How many variants are really scored at least: as many as a fast copy's scores are compared on.
_ENOUGH = 4


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
        return f"{plural(self.number, 'run')} of {self.part}{share}"


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
        said = [plural(number, what) for number, what in counts if number]
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


def refusal(error: Exception) -> WhycamError:
    """What the network itself raised, as a refusal; a mistake of ours goes on."""
    if isinstance(error, WhycamError):
        return error
    if is_ours(error):
        raise error
    return WhycamError(f"{type(error).__name__}: {error}")


class _Price(NamedTuple):
    """What one run takes."""

    operations: float
    seconds: float


class Rehearsal:
    """Dry runs of methods on one network and batch; what one has found out serves the next.

    Attributes:
        backwards: backward passes that were really made.
        operations, taken: what the method that is called now runs beside the recording, in operations and seconds.
        aside: seconds that went into finding that out.
    """

    def __init__(self, session: Session, batch: Batch, request: Request) -> None:
        self.session, self.batch, self.request = session, batch, request
        self.backwards = 0
        self.operations = self.taken = self.aside = 0.0
        self._grounds: dict[Any, tuple[Ground, int]] = {}
        self._measured: dict[Any, tuple[Any, _Price]] = {}
        self._sizes: dict[Any, list[torch.Size]] = {}

    def of(self, method: Method) -> Estimate:
        """What one method would cost. What the network itself raises is a reason why it cannot be run."""
        try:
            return self._of(method)
        except Exception as error:  # a model that runs for a prediction may raise once gradients are on
            return Estimate(method.name, method.title, reason=str(refusal(error)))

    def _of(self, method: Method) -> Estimate:
        ground, recorded = self._ground(method)
        maker = MapBuilder(self.session.vision, self.session.module, self.batch, ground.measured, self.request)
        maker.supply = _Counting(self, ground.measured)
        forward = self.forward(maker.supply.network)
        target = key(self.request.targets[0]) if method.class_specific else None
        self.operations = self.taken = self.aside = 0.0
        started = time.perf_counter()
        with plainly(self.batch.context.inputs.device):
            for each in next(iter(ground.plans.values())):
                maker.make(method, each, 0, target)
        own = time.perf_counter() - started - self.aside
        if not maker.drafts:
            return Estimate(method.name, method.title, reason=str(next(iter(maker.failures.values()))))
        drafts = list(maker.drafts.values())
        work = [work for each in drafts for work in each["work"]]
        passes = ground.measured.passes
        parts: Counter[str] = Counter()
        for one in work:
            parts[one.part] += one.parts
        whole = forward.operations
        return Estimate(
            method.name,
            method.title,
            layer=" + ".join(each["layer"].name for each in drafts) if method.has_layer else "",
            forwards=passes.forwards + sum(each.forwards for each in work),
            backwards=passes.backwards + sum(each.backwards for each in work),
            parts=tuple(
                Runs(part, number, self._measured.get(part, (0, forward))[1].operations / whole if whole else None)
                for part, number in parts.items()
                if number
            ),
            total=(recorded + self.operations) / whole if whole else None,
            seconds=(recorded / whole if whole else sum(passes)) * forward.seconds + self.taken + max(0.0, own),
            fallback=next((each.fallback for each in work if each.fallback), ""),
        )

    def _ground(self, method: Method) -> tuple[Ground, int]:
        """What the method reads, recorded as it is for this method alone, and the operations that this took."""
        request = replace(self.request, methods=(method,))
        plans, spent = plan(
            self.session.module, self.batch, [method], request.layers, self.session.resolvers(request, self.batch)
        )
        self.backwards += spent.backwards
        own = method.title if method.needs & OF_ATTENTION else ""  # what is folded is kept for one method
        known = tuple(plans[method.name]), method.needs | fusion_needs([method], plans, request.fusion), own
        if known not in self._grounds:
            with counted() as counter:
                ground = self.session.ground(self.batch, request)
            self.backwards += ground.choosing.backwards + ground.measured.passes.backwards
            self._grounds[known] = ground, counter.get_total_flops()
        return self._grounds[known]

    def measured(self, known: Any, run: Callable[[], Any], runs: int = 1) -> tuple[Any, _Price]:
        """What something gave that stands for so many runs, and the price of one; it is done twice, once for all."""
        if known not in self._measured:
            with counted() as counter:
                found = run()
            self._measured[known] = found, _Price(counter.get_total_flops() / runs, self.seconds(run) / runs)
        return self._measured[known]

    def seconds(self, run: Callable[[], Any]) -> float:
        """The seconds that something takes, until the device has done it."""
        device = self.batch.context.inputs.device
        wait = getattr(torch, device.type).synchronize if device.type in ("cuda", "mps", "xpu") else lambda: None
        wait()
        started = time.perf_counter()
        run()
        wait()
        return time.perf_counter() - started

    def forward(self, network: Network) -> _Price:
        """One forward of the batch."""

        def run() -> None:
            with network.running(), torch.no_grad():
                call(network.model, detached_copy(network.inputs))

        return self.measured("forward", run)[1]

    def add(self, price: _Price, runs: float) -> None:
        """Count runs of one price."""
        self.operations += price.operations * runs
        self.taken += price.seconds * runs

    @contextmanager
    def beside(self) -> Iterator[None]:
        """A block whose time is not the method's."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.aside += time.perf_counter() - started

    def scores(self, real: Scorer, variants: Iterable[Tensor], *, probability: bool = False) -> Tensor:
        """Stands for `score` and `score_from`: scores the first variants, counts the others, and repeats the scores."""
        runners, work, before = real.runners, real.work, replace(real.work)
        stream, drawn = iter(variants), []

        def some() -> Iterator[Tensor]:
            for variant in stream:
                drawn.append(variant)
                yield variant
                if runners.now is not None and len(drawn) >= max(runners.now.group, _ENOUGH):
                    return

        with self.beside():
            found = real(some(), probability=probability)
        count = len(variants) if isinstance(variants, Sized) else len(drawn) + sum(1 for _ in stream)
        with self.beside():
            runner = runners.ready(drawn[0], work)
            work.note(runner, count - len(drawn))
            pack = torch.stack(drawn[: runner.group])
            _, price = self.measured(runner.about, lambda: runner.outputs(pack), len(pack))
            whole = self.forward(runner.network) if isinstance(runner, Above) else price
            self.add(whole, work.forwards - before.forwards)
            self.add(price, work.parts - before.parts)
            if isinstance(variants, Sized):  # which can be drawn from anew
                self.taken += count * self.seconds(lambda: next(iter(variants)))
        return found[torch.arange(count, device=found.device) % len(found)]

    def traced(self, real: Tracer, variants: Iterable[Tensor]) -> Iterator[Any]:
        """Stands for `trace`."""
        for variant in variants:
            yield self._back_and_forth(real.layer.tap, real, variant, lambda once, inputs: next(once([inputs])))

    def slopes(self, real: Differentiator, inputs: Tensor, *, probability: bool = False) -> tuple[Tensor, Tensor]:
        """Stands for `differentiate`."""
        found: tuple[Tensor, Tensor] = self._back_and_forth(
            probability, real, inputs, lambda once, inputs: once(inputs, probability=probability)
        )
        return found

    def relevances(self, real: Propagator, **options: Any) -> Tensor:
        """Stands for `relevance`."""
        kind = tuple(sorted(options.items()))
        found: Tensor = self._back_and_forth(kind, real, real.network.picture, lambda once, _: once(**options))
        return found

    def _back_and_forth(self, kind: Any, real: Any, inputs: Tensor, run: Callable[[Any, Tensor], Any]) -> Any:
        """What a run forwards and backwards gave that was really made, and stands for this one.

        Of other sizes than the first, one is run, to see that the network takes it. Operations go with the pixels.
        """
        sizes = self._sizes.setdefault(kind, [])
        if inputs.shape not in sizes and len(sizes) < 2:
            sizes.append(inputs.shape)
        size = inputs.shape if inputs.shape in sizes else sizes[-1]

        def made() -> tuple[Any, RunStats]:
            once = copy(real)
            once.work = RunStats()
            found = run(once, inputs)
            self.backwards += once.work.backwards
            return found, once.work

        with self.beside():
            (found, work), price = self.measured((kind, size), made)
        real.work.forwards += work.forwards
        real.work.backwards += work.backwards
        self.add(price, inputs.numel() / size.numel())
        return found


class _Counting(QuantityProvider):
    """Gives methods what was recorded, and stand-ins for the functions that run the network."""

    def __init__(self, rehearsal: Rehearsal, measured: Measured) -> None:
        super().__init__(rehearsal.session.module, rehearsal.batch, measured, rehearsal.request.run)
        self.rehearsal = rehearsal

    def quantity(self, name: str, layer: LayerRecord | None, number: int, title: str) -> Any:
        """One quantity of a target, at a layer."""
        before = len(self.work)
        with counted() as counter:
            found = super().quantity(name, layer, number, title)
        if name not in FUNCTIONS:
            self.rehearsal.operations += counter.get_total_flops()
            self.rehearsal.backwards += sum(each.backwards for each in self.work[before:])
            return found
        stands_for = {
            "trace": self.rehearsal.traced,
            "differentiate": self.rehearsal.slopes,
            "relevance": self.rehearsal.relevances,
        }
        stand_in: Any = stands_for.get(name, self.rehearsal.scores)
        if isinstance(found, Prompts):
            return found._replace(scores=[partial(stand_in, each) for each in found.scores])
        return partial(stand_in, found)
