"""Whether two maps are the same: brought to one size and one scale, the largest difference and the ranks."""

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from whycam.kit.arrays import normalize, resize

#: The largest difference, of maps scaled to [0, 1] or [-1, 1], at which two libraries agree.
SAME = 1e-4
#: What is left to chance (rounding, interpolation in another library) where a reason explains all of a difference.
WHOLE = 1e-3
#: Differences below this are ties to a rank.
TIE = 1e-6

#: How a library brings a map to a scale: its positive part over [0, 1], all of it over [0, 1], or signed over [-1, 1].
Scale = Literal["positive", "minmax", "signed"]


@dataclass(frozen=True)
class Agreement:
    """How far two maps are apart.

    Attributes:
        largest: the largest difference at any place. `rank`: Spearman's correlation; NaN where a map is flat.
    """

    largest: float
    rank: float

    @property
    def same(self) -> bool:
        """Whether they are one map."""
        return self.largest <= SAME


def compared(ours: Tensor, theirs: Tensor, scale: Scale) -> Agreement:
    """Compare maps, `(batch, height, width)` each, at the size of the other library's."""
    ours, theirs = ours.detach().double(), theirs.detach().double()
    if scale == "positive":
        ours, theirs = ours.relu(), theirs.relu()
    one, two = scaled(resize(ours, theirs.shape[1:]), scale), scaled(theirs, scale)
    ranks = [correlation(a, b) for a, b in zip(one.flatten(1), two.flatten(1), strict=True)]
    return Agreement(float((one - two).abs().amax()), float(torch.tensor(ranks).mean()))


def matched(ours: Tensor, theirs: Tensor) -> Tensor:
    """Several maps of a sample, `(part, height, width)`, in the order in which they are closest to the other's."""
    level = scaled(resize(ours.double(), theirs.shape[1:]), "minmax")
    wanted = scaled(theirs.double(), "minmax")
    apart = (level[:, None] - wanted[None]).abs().mean((2, 3))
    orders = list(itertools.permutations(range(len(ours))))
    best = min(orders, key=lambda order: float(apart[list(order), range(len(order))].sum()))
    return ours[list(best)]


def scaled(maps: Tensor, scale: Scale) -> Tensor:
    """Each map by itself on the scale."""
    return normalize(maps, "signed" if scale == "signed" else "minmax")


def correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's rank correlation of two rows of numbers, ties counting as the mean of their ranks."""
    a, b = ranks(one), ranks(other)
    a, b = a - a.mean(), b - b.mean()
    lengths = a.norm() * b.norm()
    return float(a @ b / lengths) if lengths > 0 else float("nan")


def ranks(values: Tensor) -> Tensor:
    """From 0 up."""
    _, places, counts = (values / TIE).round().unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0)
    return (ends - (counts + 1) / 2).double()[places]
