"""Which of several places a metric likes best, and which of the differences are more than chance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from whycam.kit.metric import Metric
from whycam.kit.statistics import Bootstrap, Interval

#: How the rows of controls begin.
CONTROL = "control: "
#: A place has to have a value on this share of the samples that the others have one on: a mean of the easy ones alone
#: cannot be compared.
COVERED = 0.9
#: Families of metrics by which the controls have to be beaten: that a fixed map is simple and robust is no merit.
BARRED = ("faithfulness", "localization")


class Place(NamedTuple):
    """What a row's value is of: one method at one layer for one target."""

    method: str
    layer: str
    target: str

    @property
    def is_control(self) -> bool:
        """Whether it is a map that knows nothing of the network."""
        return self.method.startswith(CONTROL)

    def __str__(self) -> str:
        return self.method if self.layer == "-" else f"{self.method} at {self.layer}"


@dataclass(frozen=True)
class Standing:
    """The methods of one target by one metric.

    Attributes:
        order: the best first, by the samples on which all of them have a value.
        equal: those that cannot be told apart from the best, and the best.
        left_out: those that have a value on too few of the samples to be compared.
    """

    order: tuple[Place, ...]
    equal: frozenset[Place]
    left_out: tuple[Place, ...]


class Judge:
    """Compares places by a metric, on the samples on which both have a value."""

    def __init__(self, bootstrap: Bootstrap[tuple[Place, str]], metrics: Mapping[str, Metric]) -> None:
        self.bootstrap, self.metrics = bootstrap, metrics

    def advantage(self, one: Place, other: Place, metric: str) -> Interval:
        """By how much one place is better than another: above 0, whichever way is better for this metric."""
        pair = (one, metric), (other, metric)
        first, second = pair if self.metrics[metric].better == "higher" else pair[::-1]
        return self.bootstrap.difference(first, second)

    def beaten(self, place: Place, metric: str, controls: Sequence[Place]) -> tuple[Place, ...]:
        """The controls than which a place is surely better."""
        return tuple(each for each in controls if self.advantage(place, each, metric).is_positive)

    def standing(self, places: Sequence[Place], metric: str) -> Standing:
        """Where places stand by a metric."""
        named = {place: self.bootstrap.accounts[place, metric].named for place in places}
        most = max(map(len, named.values()), default=0)
        able = [place for place, names in named.items() if len(names) >= max(1, COVERED * most)]
        if not able:
            return Standing((), frozenset(), tuple(places))
        common = tuple(sorted(set.intersection(*(set(named[place]) for place in able))))
        sign = -1 if self.metrics[metric].better == "higher" else 1
        values = {each: sign * self.bootstrap.accounts[each, metric].compute(common or named[each]) for each in able}
        order = sorted(able, key=values.__getitem__)
        equal = {each for each in order if not self.advantage(order[0], each, metric).is_positive}
        return Standing(tuple(order), frozenset(equal), tuple(place for place in places if place not in able))


def spelled(metric: Metric, value: float, *, sign: bool = False) -> str:
    """A metric's number as people read it: `0.544`, of per cent `13.6`; `-` where it is not defined."""
    if math.isnan(value):
        return "-"
    largest = max(abs(metric.low), abs(metric.high))
    kind = ".1f" if largest == 100 else ".3f" if largest <= 1 else ".2g" if 0 < abs(value) < 0.01 else ".2f"
    return f"{value:{'+' if sign else ''}{kind}}"


def called(metric: Metric) -> str:
    """A metric's title inside a sentence: `average drop (%)`, `ADCC`."""
    word = metric.title.partition(" ")[0]
    return word.lower() + metric.title[len(word) :] if word.istitle() else metric.title
