"""The quantities that methods ask for, from what was recorded; and the functions among them, which run the network."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from whycam.engine.inputs import Batch
from whycam.engine.measure import Measured
from whycam.errors import LayerRefused, WhycamError
from whycam.kit.arrays import wide
from whycam.kit.quantities import OF_ATTENTION, Prompts
from whycam.network.layer_refs import LayerRef
from whycam.network.layouts import Layout
from whycam.network.quantities.biases import bias_gradients
from whycam.network.quantities.curvature import curvature
from whycam.network.quantities.head_weights import head_weights
from whycam.network.recording.record import LayerRecord
from whycam.network.variants.dimmed import Dimmed
from whycam.network.variants.fast_copy import Prepared, prepare
from whycam.network.variants.hidden import Hidden
from whycam.network.variants.loosened import LOOSENED, loosened
from whycam.network.variants.scoring import (
    Above,
    AsReturned,
    Network,
    Replaced,
    RunConfig,
    Runner,
    Runners,
    RunStats,
    Scorer,
    Whole,
    autocast_of,
)
from whycam.network.variants.shared_copy import twin
from whycam.network.variants.tracing import Differentiator, Propagator, Tracer


class QuantityProvider:
    """Gives methods what they ask for. `work` is what was run for the method that asks now."""

    def __init__(self, module: nn.Module, batch: Batch, measured: Measured, execution: RunConfig) -> None:
        self.module, self.batch, self.measured, self.execution = module, batch, measured, execution
        device = batch.context.inputs.device
        # the same part of every answer, whatever their sizes
        part = measured.any.answer.part
        self.network = Network(module, batch.inputs, part, measured.any.output, autocast_of(device))
        self.work: list[RunStats] = []
        self._prepared: Prepared | None = None
        self._runners: dict[tuple[LayerRef, Layout, type[Runner]] | None, Runners] = {}

    def quantity(self, name: str, layer: LayerRecord | None, number: int, title: str) -> Any:
        """One quantity of a target, at a layer; `title` is of the method that asks."""
        if name == "guided_gradients":
            if self.measured.guided is None:
                raise WhycamError(self.measured.guided_refusal or "guided gradients were not measured")
            return self.measured.guided.input_gradients[number]
        if name == "inputs":
            inputs = wide(self.batch.context.inputs.detach())
            return inputs.clone() if inputs.is_inference() else inputs
        recording = self.measured.plain
        assert recording is not None  # every other quantity comes from the plain recording
        bound = recording.targets[number]
        probability = bound.as_probability
        if name == "scores":
            return recording.scores[number]
        if name == "input_gradients":
            return recording.input_gradients[number]
        given = self.batch.context.inputs.shape[0]
        if name in ("score", "trace", "differentiate", "relevance") and given != self.network.samples:
            raise WhycamError(
                f"{title} runs the network on other inputs, one for each sample, and {given} came "
                f"for the {self.network.samples} that the network answers for; use a method that reads the layer alone."
            )
        if name == "score":
            return Scorer(
                bound,
                probability,
                self._whole(),
                self._plain(lambda: Whole(self.network, self.execution)),
                self._begin(),
                title,
            )
        if name == "relevance":
            return Propagator(self.network, bound, self._begin())
        if name == "differentiate":
            return Differentiator(self.network, self.execution, bound, probability, self._begin())
        if name == "bias_gradients":
            self._begin("forwards", "backwards")
            with self.network.as_called():
                return bias_gradients(self.module, self.batch.inputs, bound, self.network.part)
        assert layer is not None  # the rest belong to a layer
        if name == "score_dimmed":
            plain = self._plain(lambda: Dimmed(self.network, self.execution, layer, lambda: twin(self.module)))
            return Scorer(bound, probability, self._above(layer, Dimmed), plain, self._begin(), title)
        if name in OF_ATTENTION:
            if self.measured.attentions is None:
                raise LayerRefused(f"{title} reads attention, and none was measured.")
            attentions = self.measured.attentions
            if name == "prompts":
                last = partial(AsReturned, self.network, self.execution, layer, lambda: twin(self.module))
                runners = Runners(last, shared=True)
                runners = self._runners.setdefault((layer.tap, layer.layout, AsReturned), runners)
                held = bound.prompts or (bound,)
                answers = torch.stack([each(recording.output) for each in held], 1)
                work = self._begin()
                return Prompts(
                    wide(answers),
                    [Scorer(replace(bound, score=each), probability, runners, None, work, title) for each in held],
                )
            if name == "score_tokens":
                places = attentions.places
                runners = Runners(lambda: Hidden(self.network, self.execution, layer, places))
                runners = self._runners.setdefault((layer.tap, layer.layout, Hidden), runners)
                return Scorer(bound, probability, runners, None, self._begin(), title)
            if title in attentions.layered and self.measured.layered is not None:
                recording = self.measured.layered
            return attentions.quantity(name, recording, layer, number, title)
        if name == "activations":
            return layer.activations
        if name == "gradients":
            gradient = layer.gradients[number]
            return gradient if gradient is not None else torch.zeros_like(layer.activations)
        if name == "score_from":
            plain = self._plain(lambda: Replaced(self.network, self.execution, layer))
            return Scorer(bound, probability, self._above(layer), plain, self._begin(), title)
        if name == "trace":
            return Tracer(self.network, self.execution, layer, bound, self._begin(), title)
        if name == "curvature":
            self._begin(self._above_or_whole(layer), "backwards", "backwards")
            with self.network.as_called():
                return curvature(self.module, self.batch.inputs, layer, bound, self.network.part, self.network.output)
        assert name == "head_weights", name
        return head_weights(self.module, recording, layer, bound)

    def _above_or_whole(self, layer: LayerRecord) -> str:
        """What running what is above a layer counts as."""
        before = layer.before
        return "parts" if before is not None and not before.leaves and layer.rows is None else "forwards"

    def _begin(self, *passes: str) -> RunStats:
        """A new account of what is run, with passes that are certain to be made."""
        work = RunStats()
        for each in passes:
            setattr(work, each, getattr(work, each) + 1)
        self.work.append(work)
        return work

    def _whole(self) -> Runners:
        def whole() -> Runner:
            if self.execution.precision is None:
                copy = loosened(self.module)
                return Whole(self.network, self.execution, copy, said=LOOSENED if copy is not None else "")
            fast = self._fast()
            compiled = fast.at if fast.compiled else None
            return Whole(self.network, self.execution, fast.module, fast.precision, fast.said, compiled)

        return self._runners.setdefault(None, Runners(whole, shared=len(self.measured.any.targets) > 1))

    def _above(self, layer: LayerRecord, kind: type[Above] = Above) -> Runners:
        def above() -> Runner:
            if self.execution.precision is None:
                return kind(self.network, self.execution, layer, lambda: twin(self.module))
            fast = self._fast()
            return kind(self.network, self.execution, layer, lambda: twin(fast.module), fast.precision, _eager(fast))

        def replaced() -> Runner:
            if self.execution.precision is None:
                return Replaced(self.network, self.execution, layer)
            fast = self._fast()
            return Replaced(self.network, self.execution, layer, fast.module, fast.precision, _eager(fast))

        makers = (above, replaced) if kind is Above else (above,)
        return self._runners.setdefault((layer.tap, layer.layout, kind), Runners(*makers))

    def _plain(self, make: Callable[[], Runner]) -> Callable[[], Runner] | None:
        """The full-precision scorer for spot checks of a fast copy, if one is used."""
        return make if self.execution.precision is not None else None

    def _fast(self) -> Prepared:
        """The fast private copy, made when it is first needed."""
        if self._prepared is None:
            assert self.execution.precision is not None  # else nothing asks for it
            self._prepared = prepare(
                self.module,
                self.batch.inputs,
                precision=self.execution.precision,
                keep={tap.module for tap in self.measured.any.layers},
                compile=self.execution.compile,
            )
        return self._prepared


def _eager(fast: Prepared) -> str:
    """What is said of a copy whose compiled code is not what runs."""
    said = fast.said.removesuffix(", compiled")
    return f"{said}; not compiled, which only whole forwards of edited inputs can be" if fast.compiled else said
