"""Where each method's maps are made, and the recordings that they are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from whycam.batches import Batch
from whycam.errors import WhycamError
from whycam.network.choice import Choice, choose, zero_everywhere
from whycam.network.choice import correct as correct_choice
from whycam.network.layouts import Layout
from whycam.network.recording import Bind, Recording, record
from whycam.network.taps import Tap, find_all, find_taps
from whycam.registry import Method
from whycam.targets import Bound


class Passes(NamedTuple):
    """How often a network ran."""

    forwards: int = 0
    backwards: int = 0

    def plus(self, forwards: int, backwards: int = 0) -> "Passes":
        """The sum."""
        return Passes(self.forwards + forwards, self.backwards + backwards)


@dataclass(frozen=True)
class Place:
    """What a caller gave as one layer: one or several specs, and whether several become one map."""

    specs: tuple[Any, ...]
    fused: bool


@dataclass(frozen=True)
class Plan:
    """Where one method's maps are made: the taps of one map, and the reason if nobody named them."""

    taps: tuple[Tap, ...]
    fused: bool
    choice: Choice | None = None


def plan(
    module: nn.Module, batch: Batch, methods: Sequence[Method], places: Sequence[Place]
) -> tuple[dict[str, list[Plan]], Passes]:
    """For each method, where its maps are made; and the passes spent on choosing."""
    plans: dict[str, list[Plan]] = {}
    forwards = 0
    for method in methods:
        plans[method.name] = []
        if not method.has_layer:
            plans[method.name].append(Plan((), fused=False))
            continue
        for place in places:
            if place.specs == (None,):
                chosen, spent = choose(module, batch.inputs, side=method.side)
                forwards += spent
                plans[method.name].append(Plan((chosen.tap,), fused=False, choice=chosen))
            elif not place.specs:
                raise WhycamError(
                    "layer is an empty list; name at least one layer, or leave it out to have one chosen."
                )
            elif place.fused:
                plans[method.name].append(Plan(tuple(find_all(module, place.specs)), fused=True))
            else:
                plans[method.name] += [Plan((tap,), fused=False) for tap in find_taps(module, place.specs[0])]
    return plans, Passes(forwards)


@dataclass(frozen=True)
class Measured:
    """The recordings that the methods read: the plain one, and the one with guided ReLUs where asked."""

    plain: Recording | None
    guided: Recording | None
    guided_refusal: str | None

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
    binds: Sequence[Bind],
    layout: Layout | None,
    *,
    must_depend: bool = True,
) -> Measured:
    needs = frozenset().union(*(method.needs for method in methods))
    taps = list(dict.fromkeys(tap for each in plans.values() for plan in each for tap in plan.taps))
    plain = guided = refusal = None
    if needs - {"guided_gradients"}:
        plain = record(
            module,
            batch.inputs,
            taps,
            binds,
            gradients="gradients" in needs,
            input_gradients="input_gradients" in needs,
            layouts=dict.fromkeys(taps, layout) if layout is not None else None,
            must_depend=must_depend,
        )
    if "guided_gradients" in needs:
        try:
            guided = record(module, batch.inputs, [], binds, input_gradients=True, guided=True)
        except WhycamError as error:
            if plain is None:
                raise
            refusal = str(error)
    return Measured(plain, guided, refusal)


def correct(
    module: nn.Module,
    batch: Batch,
    methods: Sequence[Method],
    plans: Mapping[str, Sequence[Plan]],
    measured: Measured,
    binds: Sequence[Bind],
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
                    _first(binds[0]),
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


def _first(bind: Bind) -> Bind:
    """The same target for the first sample alone; the largest output where it is one for this very batch."""

    def one(output: Tensor) -> Bound:
        try:
            bound = bind(output)
            bound(output)
        except Exception:  # a caller's own function may fail in any way for a batch it was not written for
            return Bound(lambda output: output.flatten(1).amax(1), ("the largest output",))
        return bound

    return one
