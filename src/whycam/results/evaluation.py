"""What an evaluation found: a value for each method, layer, target, metric and sample, and what follows from them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from whycam.kit.metric import Accumulator, Measurement, Metric

#: How the rows of controls begin.
CONTROL = "control: "


class Place(NamedTuple):
    """What a row's value is of: one method at one layer for one target."""

    method: str
    layer: str
    target: str

    @property
    def is_control(self) -> bool:
        """Whether it is a map that knows nothing of the network."""
        return self.method.startswith(CONTROL)


@dataclass(frozen=True)
class Evaluation:
    """Metrics of methods at layers over images, beside controls.

    Attributes:
        rows: one dict for each method, layer, target, metric and sample, with the keys `method`, `layer`, `target`,
            `metric`, `sample`, `value` and `status` (of the map). Controls are methods named `control: random`,
            `control: centre`, ... at the layer `-`; parts of a metric are metrics named `adcc.coherency`. A value that
            is not defined is NaN.
        curves: what lies behind a value, by (method, layer, target, metric, sample); `at` says where its points lie.
        metrics: the metrics by name. `seconds`: for each (method, layer), per image.
        failures: what could not be explained or measured, with the reason.
        notes: what a reader should know.
        asked: what was asked: the model, its weights' fingerprint, methods, layers, metrics, targets, options, seed.

    Examples:
        >>> found = whycam.evaluate(net, batch, ["grad_cam"], metrics=["deletion"], controls=False, sanity=0)
        >>> len(found.rows), found.rows[0]["metric"], found.summary()[0]["count"]
        (2, 'deletion', 2)
    """

    rows: tuple[Mapping[str, Any], ...] = field(repr=False)
    curves: Mapping[tuple[str, str, str, str, str], tuple[float, ...]] = field(repr=False)
    at: Mapping[str, tuple[float, ...]] = field(repr=False)
    metrics: Mapping[str, Metric] = field(repr=False)
    seconds: Mapping[tuple[str, str], float] = field(repr=False)
    failures: Mapping[str, str]
    notes: tuple[str, ...]
    asked: Mapping[str, Any]

    @property
    def samples(self) -> list[str]:
        """The samples that have values, in the order in which they came."""
        return list(dict.fromkeys(row["sample"] for row in self.rows))

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

    def summary(self) -> list[dict[str, Any]]:
        """One dict for each method, layer, target and metric: `value` over all samples, `count` and `undefined`."""
        return [
            {**place._asdict(), "metric": metric, "value": account.compute(), "count": account.count,
             "undefined": len(account.values) - account.count}
            for (place, metric), account in self.accumulators().items()
        ]  # fmt: skip


def joined(parts: Iterable[Sequence[Mapping[str, Any]]]) -> tuple[Mapping[str, Any], ...]:
    """The rows of several batches."""
    return tuple([row for part in parts for row in part])
