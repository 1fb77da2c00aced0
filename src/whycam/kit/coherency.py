"""What ADCC and ARCC are made of: harmonic means of how coherent and how simple a map is, and of how much it says."""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily, normalize
from whycam.kit.likeness import pearson
from whycam.kit.masked import through
from whycam.kit.masks import Baseline
from whycam.kit.metric import Explain

#: How a map becomes one in [0, 1].
ToUnit: TypeAlias = Literal["max", "minmax"]


def coherency(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    explain: Explain,
    how: ToUnit,
    baseline: Baseline,
) -> Float[Tensor, " batch"]:
    """Whether the picture shown through its map has the same map: their correlation, from -1..1 to 0..1.

    0 where one of the two is flat or not finite, and nothing can be correlated.
    """
    (again,) = explain(lazily(lambda _: through(maps, inputs, how, baseline), [how]))
    alike = pearson(normalize(maps, how), normalize(again, how))
    return ((1 + alike) / 2).nan_to_num(nan=0.0)


def complexity(maps: Float[Tensor, "batch *space"], how: ToUnit) -> Float[Tensor, " batch"]:
    """How much of the picture the map shows: its mean once it is scaled to [0, 1]."""
    return normalize(maps, how).flatten(1).mean(1)


def harmonic_mean(*parts: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Of numbers from 0 on; 0 where one of them is."""
    return len(parts) / (1 / torch.stack(parts)).sum(0)
