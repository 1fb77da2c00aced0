"""What an evaluation found, apart from how it is shown: a value for each method, layer, target, metric and sample."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from whycam.kit.metric import Accumulator, Measurement, Metric
from whycam.kit.statistics import Bootstrap
from whycam.kit.words import plural
from whycam.results.standing import Judge, Place


@dataclass(frozen=True, repr=False)
class EvaluationValues:
    """What an `Evaluation` holds; see there."""

    rows: tuple[Mapping[str, Any], ...]
    curves: Mapping[tuple[str, str, str, str, str], tuple[float, ...]]
    at: Mapping[str, tuple[float, ...]]
    metrics: Mapping[str, Metric]
    seconds: Mapping[tuple[str, str], float]
    failures: Mapping[str, str]
    notes: tuple[str, ...]
    asked: Mapping[str, Any]

    def __repr__(self) -> str:
        places = sum(not place.is_control for place in self.places)
        return (
            f"Evaluation({self.asked.get('model', '')}: {plural(places, 'method')} by "
            f"{plural(len(self.metrics), 'metric')} over {plural(self.images, 'image')})"
        )

    @cached_property
    def samples(self) -> list[str]:
        """The samples that have values, in the order in which they came."""
        return list(dict.fromkeys(row["sample"] for row in self.rows))

    @property
    def images(self) -> int:
        """How many images were evaluated; samples may be mosaics of them as well."""
        return int(self.asked.get("images", len(self.samples)))

    @cached_property
    def places(self) -> list[Place]:
        """Each method at each layer for each target, controls among them, in the order in which they came."""
        return list(dict.fromkeys(Place(row["method"], row["layer"], row["target"]) for row in self.rows))

    @cached_property
    def targets(self) -> list[str]:
        """The targets, in the order in which they came."""
        return list(dict.fromkeys(place.target for place in self.places))

    @cached_property
    def statuses(self) -> dict[Place, Counter[str]]:
        """How many maps of each place have which status: of images, or of mosaics of them where it has no others."""
        of_mosaics = {metric.name for metric in self.metrics.values() if metric.mosaics}
        kinds: dict[bool, dict[Place, dict[str, str]]] = {False: {}, True: {}}
        for row in self.rows:
            of_place = kinds[row["metric"] in of_mosaics].setdefault(
                Place(row["method"], row["layer"], row["target"]), {}
            )
            of_place[row["sample"]] = row["status"]
        return {place: Counter(each.values()) for place, each in {**kinds[True], **kinds[False]}.items()}

    def accumulators(self) -> dict[tuple[Place, str], Accumulator]:
        """What each metric said at each place, sample by sample; parts of metrics are left out."""
        made: dict[tuple[Place, str], Accumulator] = {}
        for row in self.rows:
            if row["metric"] in self.metrics:
                place = Place(row["method"], row["layer"], row["target"])
                account = made.setdefault((place, row["metric"]), Accumulator(self.metrics[row["metric"]]))
                curve = self.curves.get((*place, row["metric"], row["sample"]))
                curves = None if curve is None else torch.tensor([curve], dtype=torch.float64)
                account.update([row["sample"]], Measurement(torch.tensor([row["value"]], dtype=torch.float64), curves))
        return made

    @cached_property
    def judge(self) -> Judge:
        """Compares places: `judge.advantage(one, other, metric)` is the paired difference with its interval."""
        return Judge(Bootstrap(self.accumulators(), seed=self.asked.get("seed", 0)), self.metrics)

    def placed(self, target: str, metric: str, *, controls: bool = False) -> list[Place]:
        """The methods, or the controls, that were measured by a metric for a target."""
        known = self.judge.bootstrap.accounts
        return [
            place for place in self.places
            if place.target == target and place.is_control == controls and (place, metric) in known
        ]  # fmt: skip

    def summary(self) -> list[dict[str, Any]]:
        """One dict for each method, layer, target and metric.

        Its keys: `method`, `layer`, `target`, `metric`; `value` over all samples, and between which ends it lies with
        95% confidence, `low` and `high` (a bootstrap over the samples; NaN of one sample); `count`, of how many
        samples, and `undefined`, how many have no value; `seconds` for each image, `None` for maps that were not made
        here; `beats`, the controls than which it is surely better (the interval of the paired difference is above 0);
        `not_ok`, the share of its maps whose status is not ok.
        """
        made = []
        for place, metric in self.judge.bootstrap.accounts:
            found = self.judge.bootstrap.interval((place, metric))
            against = [] if place.is_control else self.placed(place.target, metric, controls=True)
            beats = [each.method for each in self.judge.beaten(place, metric, against)]
            kinds = self.statuses[place]
            made.append(
                {**place._asdict(), "metric": metric, "value": found.value, "low": found.low, "high": found.high,
                 "count": found.count, "undefined": found.undefined, "seconds": self.seconds.get(place[:2]),
                 "beats": beats, "not_ok": 1 - kinds["ok"] / kinds.total()}
            )  # fmt: skip
        return made
