"""Where each method's maps are made: the layers that were named, or the one that is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from whycam.engine.inputs import Batch
from whycam.engine.request import LayerRequest
from whycam.kit.quantities import OF_ATTENTION
from whycam.kit.registry import Method
from whycam.network.layer_refs import LayerRef, find_layers, stage_count
from whycam.network.layers.attention_block import choose_block
from whycam.network.layers.default_layer import Choice, choose, stages, zero_everywhere
from whycam.network.layers.default_layer import correct as correct_choice
from whycam.network.layers.pyramid import pyramid, why_pyramid
from whycam.network.layers.segmenter import of_segmenter
from whycam.network.layouts import ChannelsFirst, Layout
from whycam.network.model_tree import tree_of
from whycam.network.outputs import OutputSelector
from whycam.network.recording.record import Recording, Resolve
from whycam.targets import ResolvedTarget


class Passes(NamedTuple):
    """How often a network ran."""

    forwards: int = 0
    backwards: int = 0

    def plus(self, forwards: int, backwards: int = 0) -> "Passes":
        """The sum."""
        return Passes(self.forwards + forwards, self.backwards + backwards)


@dataclass(frozen=True)
class Plan:
    """Where one method's maps are made: the taps of one map, and the reason if nobody named them.

    `fusion` is how they become one map where the caller does not say, `why` they are these, and `layout` how they are
    read, for scales that a network is known to have. `refusal` says why the method has no layer here.
    """

    taps: tuple[LayerRef, ...]
    fused: bool
    choice: Choice | None = None
    fusion: str = ""
    why: str = ""
    layout: Layout | None = None
    refusal: str = ""

    @property
    def reason(self) -> str:
        """Why the maps are made there."""
        return self.why or (self.choice.why if self.choice is not None else "as asked")


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
            if place.specs == (None,) and method.needs & OF_ATTENTION:
                block, forwards = choose_block(module, batch.inputs)
                passes = passes.plus(forwards)
                if not isinstance(block, str) and "score_dimmed" in method.needs:
                    given = block.tap._replace(side="input")
                    block = replace(block, tap=given, why=block.why.replace("the last", "what comes to the last"))
                plans[method.name].append(
                    Plan((), fused=False, refusal=f"{method.title} is for transformers. {block}")
                    if isinstance(block, str)
                    else Plan((block.tap,), fused=False, choice=block)
                )
                continue
            if place.specs == (None,) and method.stages > 1:
                latest, forwards = stages(module, batch.inputs, method.stages, or_fewer=True, resolve=resolvers[0])
                passes = passes.plus(forwards)
                plans[method.name].append(Plan(tuple(latest), fused=True))
                continue
            first = resolvers[0]
            settling = first.settling if isinstance(first, OutputSelector) else None
            if place.specs == (None,) and settling and not settling.dense and (levels := pyramid(module)):
                taps = [found for name in levels for found in find_layers(module, name)]
                plans[method.name].append(
                    Plan(tuple(taps), len(taps) > 1, fusion="sum", why=why_pyramid(taps), layout=ChannelsFirst())
                )
                continue
            if place.specs == (None,) and (settling is None or settling.dense):
                part = first.part if isinstance(first, OutputSelector) else None
                usual, *spent = of_segmenter(
                    module, batch.inputs, weighed, side=method.side, asked=settling is not None, part=part
                )
                passes = passes.plus(*spent)
                plans[method.name] += [Plan((tap,), False, why=why) for tap, why in usual[: None if place.each else 1]]
                if usual:
                    continue
            if place.specs == (None,):
                chosen, *spent = choose(module, batch.inputs, side=method.side, resolve=of_answer(resolvers[0]))
                passes = passes.plus(*spent)
                plans[method.name].append(Plan((chosen.tap,), fused=False, choice=chosen))
                continue
            taps = []
            for spec in place.specs:
                found, forwards = _find(module, batch, spec)
                taps += [tap for tap in found if tap not in taps]
                passes = passes.plus(forwards) if forwards else passes
            plans[method.name] += [Plan(tuple(taps), fused=True)] if place.fused else [Plan((t,), False) for t in taps]
    return plans, passes


def _find(module: nn.Module, batch: Batch, spec: Any) -> tuple[list[LayerRef], int]:
    """The places that one spec stands for, and the forwards it took to find them."""
    count = stage_count(spec)
    if count is not None:
        return stages(module, batch.inputs, count)
    found = tree_of(module).found
    if not isinstance(spec, str):
        return find_layers(module, spec), 0
    if spec not in found:
        found[spec] = find_layers(module, spec)
    return found[spec], 0


def correct(
    module: nn.Module,
    batch: Batch,
    methods: Sequence[Method],
    plans: Mapping[str, Sequence[Plan]],
    plain: Recording | None,
    resolvers: Sequence[Resolve],
) -> tuple[dict[str, list[Plan]], Passes]:
    """The plans with another layer where the chosen one has no gradient anywhere, and the passes spent on it."""
    found: dict[Choice, Choice] = {}
    passes = Passes()
    for method in methods:
        for plan in plans[method.name]:
            if plan.choice is None or plan.choice in found or "gradients" not in method.needs or plain is None:
                continue
            layer = plain.layers[plan.choice.tap]
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


def of_answer(resolve: Resolve) -> OutputSelector:
    """What changes with all of the answer, so that the choice of a layer does not depend on what is asked about it."""
    if not isinstance(resolve, OutputSelector):
        return OutputSelector(weighed)
    return (
        resolve if resolve.settling is not None else replace(resolve, resolve=weighed)
    )  # of many parts there is no sum


def weighed(output: Tensor, **_: Any) -> ResolvedTarget:
    """All of the answer's numbers, each with a weight of its own."""
    width = output[0].numel()
    weights = torch.rand(width, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu") + 0.5

    def score(output: Tensor) -> Tensor:
        return output.reshape(len(output), -1) @ weights.to(output)

    return ResolvedTarget(score, ("all of the answer",) * len(output))


def _first(resolve: Resolve) -> Resolve:
    """The same target for the first sample alone; the largest output where it is one for this very batch."""

    def one(output: Tensor, **known: Any) -> ResolvedTarget:
        try:
            bound = resolve(output, **known)
            bound(output)
        except Exception:  # a caller's own function may fail in any way for a batch it was not written for
            return ResolvedTarget(lambda output: output.reshape(len(output), -1).amax(1), ("the largest output",))
        return bound

    return replace(resolve, resolve=one) if isinstance(resolve, OutputSelector) else one
