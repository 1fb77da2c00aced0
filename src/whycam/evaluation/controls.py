"""Maps that know nothing of the network, which a method has to beat."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.evaluation.truth import as_masks
from whycam.kit.arrays import generator, resize

#: (inputs `(batch, color, *space)`, numbers of the samples, seed) -> maps `(batch, *space)`, float64.
Control: TypeAlias = Callable[[Tensor, Sequence[int], int], Tensor]

#: How many random cells lie along each axis, as in the last layer of most networks.
CELLS = 7


def random(inputs: Tensor, samples: Sequence[int], seed: int) -> Float[Tensor, "batch *space"]:
    """Random cells, drawn for each sample, enlarged as a layer's map is."""
    space = inputs.shape[2:]
    cells = [
        torch.rand([CELLS] * len(space), generator=generator(seed, sample), dtype=torch.float64) for sample in samples
    ]
    return resize(torch.stack(cells), space).to(inputs.device)


def centre(inputs: Tensor, samples: Sequence[int], seed: int) -> Float[Tensor, "batch *space"]:
    """A Gaussian in the middle, whose deviation is a quarter of each axis: where photographers put things."""
    made = torch.ones(inputs.shape[2:], dtype=torch.float64)
    for axis, side in enumerate(inputs.shape[2:]):
        away = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) / (side / 4)
        made = made * torch.exp(-(away**2) / 2).reshape(-1, *[1] * (made.ndim - 1 - axis))
    return made.expand(len(inputs), *made.shape).to(inputs.device)


def edges(inputs: Tensor, samples: Sequence[int], seed: int) -> Float[Tensor, "batch *space"]:
    """How much the mean color changes at each pixel: what stands out to an eye that knows no class."""
    gray = inputs.double().mean(1)
    axes = [axis for axis in range(1, gray.ndim) if gray.shape[axis] > 1]
    slopes = torch.gradient(gray, dim=axes) if axes else [gray]
    return torch.stack([*slopes]).square().sum(0).sqrt()


#: By the name that their rows have in a table.
CONTROLS: Mapping[str, Control] = {"control: random": random, "control: centre": centre, "control: edges": edges}


def boxed(boxes: Sequence[tuple[float, float, float, float] | None], size: Sequence[int]) -> Tensor:
    """The predicted box, filled: whoever finds no more than this has learned nothing of the evidence inside."""
    listed = [[box] if box is not None and box[0] <= box[2] and box[1] <= box[3] else [] for box in boxes]
    return as_masks(None, listed, len(boxes), size).double()
