"""Where each method's maps are made, and the recordings that they are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from whycam.engine.inputs import Batch
from whycam.errors import WhycamError
from whycam.kit.registry import Method
from whycam.network.layer_refs import LayerRef, find_layers, stage_count
from whycam.network.layers.default_layer import Choice, choose, stages, zero_everywhere
from whycam.network.layers.default_layer import correct as correct_choice
from whycam.network.layers.features import features, known_otherwise
from whycam.network.layers.positions import Located, Location, locate
from whycam.network.layouts import Layout, is_plain, readings
from whycam.network.outputs import OutputSelector
from whycam.network.pytree import first_tensor
from whycam.network.recording.record import Recording, Resolve, record
from whycam.targets import ResolvedTarget

#: Quantities for which the network is resumed from the layer.
FROM_THE_LAYER = frozenset({"score_from", "contributions", "curvature"})


class Passes(NamedTuple):
    """How often a network ran."""

    forwards: int = 0
    backwards: int = 0

    def plus(self, forwards: int, backwards: int = 0) -> "Passes":
        """The sum."""
        return Passes(self.forwards + forwards, self.backwards + backwards)


@dataclass(frozen=True)
class LayerRequest:
    """What a caller gave as one layer: one or several specs, and whether several become one map."""

    specs: tuple[Any, ...]
    fused: bool


@dataclass(frozen=True)
class Plan:
    """Where one method's maps are made: the taps of one map, and the reason if nobody named them."""

    taps: tuple[LayerRef, ...]
    fused: bool
    choice: Choice | None = None


def plan(
    module: nn.Module,
    batch: Batch,
    methods: Sequence[Method],
    places: Sequence[LayerRequest],
    resolvers: Sequence[Resolve],
) -> tuple[dict[str, list[Plan]], Passes]:
    """For each method, where its maps are made; and the passes spent on choosing."""
    plans: dict[str, list[Plan]] = {}
    passes = Passes()
    for method in methods:
        plans[method.name] = []
        if not method.has_layer:
            plans[method.name].append(Plan((), fused=False))
            continue
        for place in places:
            if not place.specs:
                raise WhycamError(
                    "layer is an empty list; name at least one layer, or leave it out to have one chosen."
                )
            if place.specs == (None,) and method.stages > 1:
                latest, forwards = stages(module, batch.inputs, method.stages, or_fewer=True)
                passes = passes.plus(forwards)
                plans[method.name].append(Plan(tuple(latest), fused=True))
                continue
            if place.specs == (None,):
                chosen, *spent = choose(module, batch.inputs, side=method.side, resolve=_first(resolvers[0]))
                passes = passes.plus(*spent)
                plans[method.name].append(Plan((chosen.tap,), fused=False, choice=chosen))
                continue
            taps: list[LayerRef] = []
            for spec in place.specs:
                found, forwards = _find(module, batch, spec)
                taps += [tap for tap in found if tap not in taps]
                passes = passes.plus(forwards)
            plans[method.name] += [Plan(tuple(taps), fused=True)] if place.fused else [Plan((t,), False) for t in taps]
    return plans, passes


def _find(module: nn.Module, batch: Batch, spec: Any) -> tuple[list[LayerRef], int]:
    """The places that one spec stands for, and the forwards it took to find them."""
    count = stage_count(spec)
    return (find_layers(module, spec), 0) if count is None else stages(module, batch.inputs, count)


@dataclass(frozen=True)
class Measured:
    """The recordings that the methods read: the plain one, and the one with guided ReLUs where asked.

    `locations` says how it is known where the positions of a layer lie, by the tap that was asked for; `refusals` why a
    layer has no map, and `looking` how many forwards it took to find these out.
    """

    plain: Recording | None
    guided: Recording | None
    guided_refusal: str | None
    locations: Mapping[LayerRef, Location]
    refusals: Mapping[LayerRef, str]
    looking: int = 0

    @property
    def passes(self) -> Passes:
        """What the recordings took."""
        runs = [run for run in (self.plain, self.guided) if run is not None]
        return Passes(sum(run.forwards for run in runs), sum(run.backwards for run in runs))

    @property
    def disconnected(self) -> bool:
        """Whether gradients were measured and no score depends on any layer."""
        rows = [each.gradients for each in self.plain.layers.values()] if self.plain is not None else []
        return any(rows) and all(gradient is None for row in rows for gradient in row)

    @property
    def any(self) -> Recording:
        """One of them: both hold the same output, targets and scores."""
        found = self.plain if self.plain is not None else self.guided
        assert found is not None  # every method needs one of the two
        return found


def measure(
    module: nn.Module,
    batch: Batch,
    methods: Sequence[Method],
    plans: Mapping[str, Sequence[Plan]],
    resolvers: Sequence[Resolve],
    layout: Layout | None,
    *,
    must_depend: bool = True,
    extra: frozenset[str] = frozenset(),
) -> Measured:
    """Record what the methods need, and `extra`, at the layers of their plans."""
    needs = extra.union(*(method.needs for method in methods))
    taps = list(dict.fromkeys(tap for each in plans.values() for plan in each for tap in plan.taps))
    chosen = {plan.choice.tap: plan.choice for each in plans.values() for plan in each if plan.choice is not None}
    layouts = {tap: choice.layout for tap, choice in chosen.items()} if layout is None else dict.fromkeys(taps, layout)
    locations: dict[LayerRef, Location] = {tap: choice.location for tap, choice in chosen.items()}
    refusals: dict[LayerRef, str] = {}
    plain = guided = refusal = None
    looking = 0
    if needs - {"guided_gradients"}:

        def run(layouts: Mapping[LayerRef, Layout]) -> Recording:
            return record(
                module,
                batch.inputs,
                taps,
                resolvers,
                gradients="gradients" in needs,
                input_gradients="input_gradients" in needs,
                layouts=layouts,
                must_depend=must_depend,
                views=batch.views,
                resume=bool(needs & FROM_THE_LAYER),
            )

        plain = run(layouts)
        if layout is not None:
            locations = dict.fromkeys(plain.layers, "as given")
        else:
            found, looking = _look(module, batch, plain, known=locations)
            refusals = {tap: _misplaced(tap) for tap, each in found.items() if each.layout is None}
            locations |= {tap: each.location for tap, each in found.items()}
            moved = {
                tap: each.layout
                for tap, each in found.items()
                if each.layout is not None and each.layout != plain.layers[tap].layout
            }
            if moved:
                first, plain = plain, run({**layouts, **moved})
                looking += first.forwards
    if "guided_gradients" in needs:
        try:
            guided = record(module, batch.inputs, [], resolvers, input_gradients=True, guided=True)
        except WhycamError as error:
            if plain is None:
                raise
            refusal = str(error)
            looking += 1
    return Measured(plain, guided, refusal, locations, refusals, looking)


def _look(
    module: nn.Module, batch: Batch, recording: Recording, known: Mapping[LayerRef, Location]
) -> tuple[dict[LayerRef, Located], int]:
    """Where the positions lie of layers that were named and are not plainly channels first; the forwards spent."""
    first = first_tensor(batch.inputs)
    doubtful, others = {}, {}
    for tap, layer in recording.layers.items():
        picture = layer.picture if layer.picture is not None else first
        if tap in known or layer.refusal:
            continue
        if is_plain(layer.layout, layer.shape, picture.shape) and not known_otherwise(module, batch.inputs):
            continue
        if picture is not first:  # which alone is changed to see where its positions lie
            others[tap] = Located(layer.layout, "undetermined")
            continue
        doubtful[tap] = [layer.layout]
    if not doubtful:
        return others, 0
    seen, forwards = features(module, batch.inputs)
    by_name = {name: feature for feature in seen for name in feature.names}
    for tap in doubtful:
        feature = by_name.get(tap.module)
        if feature is not None and tap.side == "output" and feature.shape[1:] == recording.layers[tap].shape[1:]:
            doubtful[tap] = list(feature.readings)
        else:
            doubtful[tap] = readings(recording.layers[tap].shape, first.shape) or doubtful[tap]
    found, spent = locate(module, batch.inputs, doubtful)
    return {**found, **others}, forwards + spent


def _misplaced(tap: LayerRef) -> str:
    return (
        f"the positions of layer {str(tap)!r} do not lie as in the input: a change of one half of the input shows "
        "where the other half was expected, so its map would be drawn in the wrong places. Choose another layer "
        "(`whycam layers`), or say how to read this one with layout=."
    )


def correct(
    module: nn.Module,
    batch: Batch,
    methods: Sequence[Method],
    plans: Mapping[str, Sequence[Plan]],
    measured: Measured,
    resolvers: Sequence[Resolve],
) -> tuple[dict[str, list[Plan]], Passes]:
    """The plans with another layer where the chosen one has no gradient anywhere, and the passes spent on it."""
    found: dict[Choice, Choice] = {}
    passes = Passes()
    for method in methods:
        for plan in plans[method.name]:
            if plan.choice is None or plan.choice in found or "gradients" not in method.needs or measured.plain is None:
                continue
            layer = measured.plain.layers[plan.choice.tap]
            sound = bool(torch.isfinite(layer.activations).all())
            if sound and all(map(zero_everywhere, layer.gradients)):
                better, *spent = correct_choice(
                    module,
                    batch.inputs,
                    _first(resolvers[0]),
                    side=method.side,
                    tried=plan.choice.tap,
                    lasting=any(layer.outside) or all(gradient is None for gradient in layer.gradients),
                )
                found[plan.choice] = better if better is not None else plan.choice
                passes = passes.plus(*spent)
    moved = {
        name: [
            replace(plan, taps=(found[plan.choice].tap,), choice=found[plan.choice]) if plan.choice in found else plan
            for plan in each
        ]
        for name, each in plans.items()
    }
    return moved, passes


def _first(resolve: Resolve) -> Resolve:
    """The same target for the first sample alone; the largest output where it is one for this very batch."""

    def one(output: Tensor) -> ResolvedTarget:
        try:
            bound = resolve(output)
            bound(output)
        except Exception:  # a caller's own function may fail in any way for a batch it was not written for
            return ResolvedTarget(lambda output: output.flatten(1).amax(1), ("the largest output",))
        return bound

    return OutputSelector(one, resolve.part) if isinstance(resolve, OutputSelector) else one
