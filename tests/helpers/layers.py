"""Quantities of one layer: what a first pass records of it, and networks whose layer is what they are given."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from whycam.network.layer_refs import find_layers
from whycam.network.outputs import OutputPath, OutputSelector
from whycam.network.recording.record import LayerRecord, record
from whycam.targets import ResolvedTarget, resolve


class Recorded(NamedTuple):
    """What a first pass records of a layer, the target in its terms, and the scores."""

    layer: LayerRecord
    target: ResolvedTarget
    scores: Tensor


def recorded(
    model: nn.Module, inputs: Any, layer: str, target: Any = 1, part: OutputPath | None = None, **options: Any
) -> Recorded:
    found = record(
        model, inputs, find_layers(model, layer), [OutputSelector(partial(resolve, target), part)], **options
    )
    (one,) = found.layers.values()
    return Recorded(one, found.targets[0], found.scores[0])


class Tail(nn.Module):
    """A layer that hands on its input, and anything above it; the answer's class 1 is what is asked about."""

    def __init__(self, above: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.above = above

    def forward(self, x: Tensor) -> Tensor:
        scores = self.above(self.layer(x))
        return torch.stack([0 * scores, scores], 1)
