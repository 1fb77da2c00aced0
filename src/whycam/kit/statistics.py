"""How sure a number is that was measured on some samples: bootstrap intervals, alone and in pairs."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whycam.kit.arrays import generator
from whycam.kit.metric import Accumulator

#: Fewer samples prove nothing: that five differences have one sign happens by chance in 6 of 100 cases, six in 3.
FEWEST = 6
LEVEL = 0.95
_DRAWS = 2000
#: Numbers that are held at once.
_AT_ONCE = 10_000_000

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A number, and between which ends it lies with 95% confidence.

    Attributes:
        value: of all samples that have one; NaN of none. `low`, `high`: NaN of fewer than two samples.
        count: of these samples. `undefined`: how many had no value, or of a pair one of the two.
    """

    value: float
    low: float
    high: float
    count: int
    undefined: int

    @property
    def is_positive(self) -> bool:
        """Whether it is above 0 as far as these samples can tell."""
        return self.count >= FEWEST and self.low > 0

    @property
    def is_negative(self) -> bool:
        """Whether it is below 0 as far as these samples can tell."""
        return self.count >= FEWEST and self.high < 0


class Bootstrap(Generic[Key]):
    """What would have been measured on other samples of the same kind: as many, drawn from those there are, with
    replacement, again and again.

    Intervals are percentiles of these draws, taken so far out that for normal values the interval of a mean is
    Student's (Hesterberg, arXiv:1411.5279, "expanded percentiles"): plain ones of 10 samples hold 90% and not 95%.

    Args:
        accounts: of each place what was measured there. Which samples are drawn depends on how many there are and on
            the seed alone, so that places of the same samples draw the same.
    """

    def __init__(self, accounts: Mapping[Key, Accumulator], *, seed: int = 0) -> None:
        self.accounts, self.seed = accounts, seed
        self._known: dict[tuple[Key, tuple[str, ...]], Float[Tensor, " draw"]] = {}

    def interval(self, key: Key) -> Interval:
        """The metric of one place."""
        account = self.accounts[key]
        names = account.named
        low, high = _ends(self._draws(key, names), len(names))
        return Interval(account.compute(), low, high, len(names), len(account.values) - len(names))

    def difference(self, key: Key, other: Key) -> Interval:
        """By how much the metric of one place is above that of another on the same samples, which are drawn together.

        A sample that has no value at one of the two is left out at both, and counted as undefined.
        """
        one, two = self.accounts[key], self.accounts[other]
        common = set(one.named) & set(two.named)
        names = tuple(sorted(common))
        low, high = _ends(self._draws(key, names) - self._draws(other, names), len(names))
        value = one.compute(names) - two.compute(names)
        return Interval(value, low, high, len(names), len(one.values.keys() | two.values.keys()) - len(names))

    def _draws(self, key: Key, names: tuple[str, ...]) -> Float[Tensor, " draw"]:
        if (key, names) not in self._known:
            self._known[key, names] = _resampled(self.accounts[key], names, self.seed)
        return self._known[key, names]


def band(
    curves: Float[Tensor, "sample point"], *, seed: int = 0
) -> tuple[Float[Tensor, " point"], Float[Tensor, " point"]]:
    """Where the mean of all curves lies with 95% confidence, at each point by itself: below, above."""
    samples = len(curves)
    times = (torch.zeros(len(drawn), samples).to(curves).scatter_add_(1, drawn, torch.ones_like(drawn).to(curves))
             for drawn in _drawn(samples, seed))  # fmt: skip
    means = torch.cat([each @ curves / samples for each in times])
    ends = torch.tensor([_ends(each, samples) for each in means.mT], dtype=curves.dtype)
    return ends[:, 0], ends[:, 1]


def _resampled(account: Accumulator, names: Sequence[str], seed: int) -> Float[Tensor, " draw"]:
    """The metric of the samples of each draw."""
    if not names:
        return torch.zeros(0, dtype=torch.float64)
    values, curves = account.stacked(names)
    over = account.metric.over
    if over is None:
        return torch.cat([values[drawn].mean(1) for drawn in _drawn(len(names), seed)])
    made = [over(values[each], curves[each]) for drawn in _drawn(len(names), seed) for each in drawn]
    return torch.tensor(made, dtype=torch.float64)


def _drawn(samples: int, seed: int) -> Iterator[Int[Tensor, "draw sample"]]:
    """Which samples are drawn, some draws at a time."""
    source, some = generator(seed), max(1, min(_DRAWS, _AT_ONCE // samples))
    for start in range(0, _DRAWS, some):
        yield torch.randint(samples, (min(some, _DRAWS - start), samples), generator=source)


def _ends(draws: Float[Tensor, " draw"], samples: int) -> tuple[float, float]:
    """The ends of the interval; NaN of fewer than two samples, which say nothing of how they are spread."""
    draws = draws[draws.isfinite()]
    if samples < 2 or not len(draws):
        return math.nan, math.nan
    tail = _tail(samples)
    low, high = torch.quantile(draws, torch.tensor([tail, 1 - tail], dtype=draws.dtype)).tolist()
    return low, high


def _tail(samples: int) -> float:
    """The share of draws beyond each end, so that `samples` normal values get Student's interval of their mean.

    Student's quantile by its expansion in 1 / degrees of freedom (Abramowitz and Stegun, 26.7.5); from five on it is
    right to three digits.
    """
    z, freedom = NormalDist().inv_cdf((1 + LEVEL) / 2), samples - 1
    student = (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
    return NormalDist().cdf(-student * math.sqrt(samples / freedom))
