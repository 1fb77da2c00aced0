"""One batch explained by every method, layer and target of a request, which can be explained again, changed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from jaxtyping import Float, Int
from torch import Tensor, nn

from whycam.engine.attention import attend
from whycam.engine.inputs import Batch
from whycam.engine.layer_plan import Plan
from whycam.engine.maps import MapBuilder, plainly
from whycam.engine.measure import Measured, fusion_needs, measure
from whycam.engine.request import Request
from whycam.engine.session import Session, settled, target_keys
from whycam.errors import WhycamError
from whycam.kit.registry import Method, declare
from whycam.network.input_axes import as_given
from whycam.network.outputs import OutputSelector
from whycam.network.recording.record import Resolve
from whycam.network.variants.scoring import RunConfig
from whycam.results.explanation import Explanation
from whycam.results.values import Cost
from whycam.targets import resolve
from whycam.targets.structured import Settling

#: (method, layer, target), as in a `Comparison`.
Key: TypeAlias = tuple[str, str, Any]


def _asked(inputs: Tensor, scores: Tensor, score: Any) -> Tensor:
    """Reads what metrics read, so that it is measured whatever the methods need."""
    return inputs[:, 0]


ASKED = declare(_asked)


@dataclass(frozen=True)
class Entry:
    """One method at one layer for one target: its explanation, and the seconds it took by itself for the batch."""

    explanation: Explanation
    seconds: float


@dataclass(frozen=True)
class Combination:
    """What is made for one target, and where: the method, its places, and the target's number and name."""

    method: Method
    plan: Plan
    number: int
    name: Any


class Explained:
    """A batch, what was measured of it, and its maps by every method, layer and target.

    Attributes:
        entries: by (method, layer, target). `failures`: for combinations that cannot be, the reason.
        targets: how each target is called there, in order.
        shared: seconds of the pass that all of them share.
        changed, stages: all maps of changed batches and of randomized networks, as far as metrics asked for them.

    Args:
        run: how the variants of methods and metrics are run, in place of the request's.
    """

    def __init__(self, session: Session, batch: Batch, request: Request, run: RunConfig | None = None) -> None:
        run = run if run is not None else request.run
        started = time.perf_counter()
        self.session, self.batch = session, batch
        self.request = replace(request, methods=(*request.methods, ASKED), run=run)
        found = session.ground(batch, self.request)
        self.measured = found.measured
        self.maker = MapBuilder(session.vision, session.module, batch, self.measured, self.request)
        self.targets = target_keys(request, self.measured)
        self.shared = time.perf_counter() - started
        self.combinations = [
            Combination(method, plan, number, name)
            for method in request.methods
            for plan in found.plans[method.name]
            for number, name in enumerate(self.targets if method.class_specific else [None])
        ]
        self.changed: dict[Any, dict[Key, Tensor]] = {}
        self.stages: dict[Any, list[tuple[str, dict[Key, Tensor]]]] = {}
        self.made_by: dict[Key, Combination] = {}
        seconds: dict[Key, float] = {}
        for each in self.combinations:
            begun = time.perf_counter()
            new = self._make(self.maker, each)
            self.made_by |= dict.fromkeys(new, each)
            seconds |= dict.fromkeys(new, (time.perf_counter() - begun) / max(len(new), 1))
        cost = Cost(*self.measured.passes.plus(*found.choosing), self.shared)
        made = self.maker.explanations(cost)
        self.entries = {key: Entry(made[key], seconds[key]) for key in made}
        self.failures = {key: str(error) for key, error in self.maker.failures.items()}

    def __len__(self) -> int:
        return len(self.maker.recording.output)

    def maps(self, key: Key) -> Float[Tensor, "batch *space"]:
        """One combination's maps at the input's size, raw, float64.

        Raises:
            WhycamError: maps with other axes than the input has.
        """
        return at_size(self.entries[key].explanation)

    def again(
        self,
        only: Key | None = None,
        *,
        picture: Tensor | None = None,
        module: nn.Module | None = None,
        classes: Int[Tensor, " batch"] | None = None,
    ) -> dict[Key, Tensor]:
        """All maps, or one combination's, as they would be with another picture `(batch, color, *space)`, another
        network of the same layers, or other classes; where none is named the target is the same, whatever the answer.
        """
        batch, session = self.batch, self.session
        if picture is not None:
            space = batch.context.space
            picture = picture.to(batch.context.inputs.dtype)
            batch = batch.with_picture(picture if space is None else as_given(picture, space))
        if module is not None:
            session = Session(replace(session.vision, module=module))
        known, labels = self.measured.any, session.vision.labels
        resolvers: list[Resolve] = [
            each if target.again is None else replace(each, part=None, settling=Settling(target.again, labels))
            for each, target in zip(settled(self.measured), known.targets, strict=True)
        ]
        if classes is not None:
            part = known.answer.part
            resolvers = [OutputSelector(partial(resolve, classes.tolist(), labels=labels), part)] * len(resolvers)
        combinations = self.combinations
        if only is not None:
            one = self.made_by[only]
            combinations, resolvers = [replace(one, number=0)], [resolvers[one.number]]
        with session.tree():
            measured = self._measured(session, batch, combinations, resolvers)
            maker = MapBuilder(session.vision, session.module, batch, measured, self.request)
            for each in combinations:
                self._make(maker, each)
        made = maker.explanations(Cost(0, 0, 0.0))
        return {key: at_size(made[key]) for key in self.entries if key in made}

    def _measured(
        self, session: Session, batch: Batch, combinations: Sequence[Combination], resolvers: list[Resolve]
    ) -> Measured:
        """What these read, at the same places of this or another network, which are read as they were."""
        request = self.request
        methods = [*{each.method.name: each.method for each in combinations}.values(), ASKED]
        plans: dict[str, list[Plan]] = {each.name: [] for each in methods}
        for each in combinations:
            if each.plan not in plans[each.method.name]:
                plans[each.method.name].append(each.plan)
        attentions, _ = attend(session.module, batch, methods, request.options, plans, resolvers)
        layers = self.measured.plain.layers if self.measured.plain is not None else {}
        taps = {tap for several in plans.values() for plan in several for tap in plan.taps}
        known = [Plan((tap,), fused=False, layout=layers[tap].layout) for tap in taps if tap in layers]
        return measure(
            session.module,
            batch,
            methods,
            {**plans, "": known},
            resolvers,
            request.layout,
            must_depend=False,
            extra=fusion_needs(methods, plans, request.fusion),
            attentions=attentions,
        )

    def _make(self, maker: MapBuilder, wanted: Combination) -> list[Key]:
        """Make one combination; what came of it: for each call of `NAME#*` a map."""
        before = set(maker.drafts)
        with plainly(self.batch.context.inputs.device):
            maker.make(wanted.method, wanted.plan, wanted.number, wanted.name)
        return [key for key in maker.drafts if key not in before]


def at_size(explanation: Explanation) -> Float[Tensor, "batch *space"]:
    """Maps at the input's size, raw, float64.

    Raises:
        WhycamError: maps with other axes than the input has.
    """
    assert explanation.context is not None  # always so for what was explained here
    maps = explanation.heatmaps(normalize="none")
    if maps.shape[1:] != explanation.context.size:
        raise WhycamError(
            f"the maps have {maps.ndim - 1} axes and the input {len(explanation.context.size)}, so nothing of it can "
            "be removed or kept by them."
        )
    return maps.double()
