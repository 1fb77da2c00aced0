"""The network run again on other inputs, forwards and backwards: for methods that smooth, or follow a path."""

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import replace

import torch
from torch import Tensor

from whycam.errors import WhycamError
from whycam.kit.arrays import wide
from whycam.kit.quantities import Rules, Traced
from whycam.network.adapted import refuse_adapted
from whycam.network.hooks import Inputs
from whycam.network.layouts import Tokens
from whycam.network.outputs import OutputSelector
from whycam.network.pytree import replaced, tensors
from whycam.network.recording.record import LayerRecord, Recording, record
from whycam.network.recording.relevance import Relevance
from whycam.network.variants.scoring import Network, RunConfig, RunStats
from whycam.targets import ResolvedTarget, Score


class Tracer:
    """`trace` of one target at one layer."""

    def __init__(
        self,
        network: Network,
        execution: RunConfig,
        layer: LayerRecord,
        bound: ResolvedTarget,
        work: RunStats,
        title: str,
    ) -> None:
        self.network, self.execution, self.layer, self.bound = network, execution, layer, bound
        self.work, self.title = work, title

    def __call__(self, variants: Iterable[Tensor]) -> Iterator[Traced]:
        """What the network did on each variant. See `quantities.Trace`."""
        total = len(variants) if isinstance(variants, Sized) else None
        with self.execution.progress.of(self.title, total, "forwards and backwards") as advance:
            for variant in variants:
                yield self._one(variant)
                advance(1)

    def _one(self, variant: Tensor) -> Traced:
        tap, layout = self.layer.tap, self.layer.layout
        same = variant.shape == self.network.picture.shape
        layouts = {} if isinstance(layout, Tokens) and not same else {tap: layout}
        with self.network.as_called():
            recording = record(
                self.network.model,
                edited(self.network, variant),
                [tap],
                [OutputSelector(lambda *_, **__: self.bound, self.network.part)],
                layouts=layouts,
                must_depend=False,
            )
        layer = recording.layers[tap]
        if layer.refusal:
            raise WhycamError(layer.refusal)
        gradients = layer.gradients[0] if layer.gradients else None
        _count(self.work, recording)
        return Traced(
            layer.activations,
            torch.zeros_like(layer.activations) if gradients is None else gradients,
            recording.scores[0],
            recording.output,
        )


class Differentiator:
    """`differentiate` of one target."""

    def __init__(
        self,
        network: Network,
        execution: RunConfig,
        bound: ResolvedTarget,
        as_probability: Callable[[], Score],
        work: RunStats,
    ) -> None:
        self.network, self.execution, self.bound = network, execution, bound
        self.as_probability, self.work = as_probability, work

    def __call__(self, inputs: Tensor, *, probability: bool = False) -> tuple[Tensor, Tensor]:
        """The scores of other inputs, and their gradients. See `quantities.Differentiate`."""
        self.execution.progress.tick()
        bound = replace(self.bound, score=self.as_probability()) if probability else self.bound
        question = OutputSelector(lambda *_, **__: bound, self.network.part)
        with self.network.as_called():
            recording = record(self.network.model, edited(self.network, inputs), [], [question], input_gradients=True)
        _count(self.work, recording)
        return recording.scores[0], recording.input_gradients[0]


class Propagator:
    """`relevance` of one target."""

    def __init__(self, network: Network, bound: ResolvedTarget, work: RunStats) -> None:
        self.network, self.bound, self.work = network, bound, work

    def __call__(self, *, rules: Rules = "cp_lrp", linear_gamma: float = 0.0, conv_gamma: float = 0.0) -> Tensor:
        """The relevance of each input value. See `quantities.Relevance`."""
        refuse_adapted(self.network.model, "relevance", "use grad_cam", unless_in_torch=True)
        mode = Relevance(rules, linear_gamma=linear_gamma, conv_gamma=conv_gamma)
        question = OutputSelector(lambda *_, **__: self.bound, self.network.part)
        with self.network.as_called():
            recording = record(
                self.network.model, self.network.inputs, [], [question], input_gradients=True, relevance=mode
            )
        _count(self.work, recording)
        self.work.left = tuple(mode.left)
        return wide(self.network.picture.detach()) * recording.input_gradients[0]


def edited(network: Network, variant: Tensor) -> Inputs:
    """The network's inputs with the picture replaced."""
    path = next(path for path, tensor in tensors(network.inputs) if tensor is network.picture)
    made: Inputs = replaced(network.inputs, path, variant.detach().to(network.picture.dtype))
    return made


def _count(work: RunStats, recording: Recording) -> None:
    work.variants += 1
    work.forwards += recording.forwards
    work.backwards += recording.backwards
