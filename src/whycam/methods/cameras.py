from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.kit.arrays import Enlarge, lazily, positive, resize
from whycam.kit.options import AtLeastOne, Count
from whycam.kit.quantities import Trace, Traced
from whycam.kit.registry import method

#: How many channels at once are resized to the input, which all of them together would not fit in memory.
_CHANNELS = 64


@method("CAMERAS", paper="arXiv:2106.10649", moves=True)
def cameras(
    inputs: Float[Tensor, "batch color *space"],
    trace: Trace,
    *,
    steps: Count = 8,
    largest: AtLeastOne = 4.125,
    same_class: bool = True,
    enlarge: Enlarge = "bilinear",
) -> Float[Tensor, "batch *space"]:
    """Run the input at several sizes, average activations and gradients resized to it, and add up their products.

    At the input's own size, with detail that no single layer has. In units of the score only roughly: an average
    activation is multiplied by an average gradient of other sizes. The positive part is kept.

    `steps` sizes are evenly spaced from the input's own to `largest` times that. The defaults are the authors': 224,
    324 and so on to 924 pixels for an input of 224. They cost as much as 61 runs at the input's own size and 17 times
    its memory; four sizes up to `largest=2.34`, as in the authors' README, cost 12. The network has to take every size.

    A size is left out for those samples whose class of largest score differs there from that at their own size. The
    authors' code does so where no class was named; where one was, it leaves no size out, for which there is
    `same_class=False`. Outputs other than one number for each class are not compared.

    The input is enlarged linearly, between pixel centers; `enlarge="cubic"` is the authors' code, whose curve
    overshoots at edges. Their map is scaled to [0, 1], which is NaN for one without positive values; this one is not.
    """
    space = tuple(inputs.shape[2:])
    sizes = [1 + (largest - 1) * step / max(1, steps - 1) for step in range(steps)]
    runs = list(trace(lazily(lambda size: _resized(inputs, [round(side * size) for side in space], enlarge), sizes)))
    kept = _kept(runs) if same_class else torch.ones(steps, len(inputs), dtype=torch.bool, device=inputs.device)
    maps = torch.zeros_like(inputs[:, 0])
    for first in range(0, runs[0].activations.shape[1], _CHANNELS):
        channels = slice(first, first + _CHANNELS)
        activations = _average([run.activations[:, channels] for run in runs], kept, space)
        maps += (activations * _average([run.gradients[:, channels] for run in runs], kept, space)).sum(1)
    return positive(maps)


def _resized(
    maps: Float[Tensor, "batch channel *space"], size: Sequence[int], enlarge: Enlarge = "bilinear"
) -> Float[Tensor, "batch channel *size"]:
    return resize(maps.flatten(0, 1), size, enlarge).reshape(*maps.shape[:2], *size)


def _kept(runs: list[Traced]) -> Bool[Tensor, "step batch"]:
    """Whether the network answers with the same class at each size as at the first."""
    outputs = [run.output for run in runs]
    if outputs[0].ndim > 2:
        return torch.ones(len(runs), len(outputs[0]), dtype=torch.bool, device=outputs[0].device)
    rows = torch.stack([output.reshape(len(output), -1) for output in outputs])
    classes = rows.argmax(2) if rows.shape[2] > 1 else (rows[..., 0] > 0).long()  # one unit decides by its sign
    return classes == classes[0]


def _average(
    maps: list[Tensor], kept: Bool[Tensor, "step batch"], space: tuple[int, ...]
) -> Float[Tensor, "batch channel *space"]:
    """The mean of the kept maps, all resized to the input."""
    aside = [1] * (len(space) + 1)
    summed = maps[0].new_zeros(())
    for each, use in zip(maps, kept, strict=True):
        summed = summed + _resized(each, space).masked_fill(~use.reshape(-1, *aside), 0)
    return summed / kept.sum(0).reshape(-1, *aside)
