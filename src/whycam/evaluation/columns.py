"""Metrics of every map of one batch, without controls: what a run keeps beside its maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whycam.engine.inputs import Batch
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.evaluation.explained import Explained, Key
from whycam.evaluation.quantities import Asking, own_maps
from whycam.kit.metric import Metric
from whycam.results.explanation import Explanation


@dataclass(frozen=True)
class Measured:
    """The maps of a batch, and what was measured of them.

    Attributes:
        explanations: by (method, layer, target). `failures`: for combinations that cannot be, the reason.
        values: of each explanation, metric -> one number for each sample.
        unmeasured: of each explanation, why a metric has none.
    """

    explanations: Mapping[Key, Explanation]
    failures: Mapping[Key, str]
    values: dict[Key, dict[str, list[float]]] = field(default_factory=dict)
    unmeasured: dict[Key, list[str]] = field(default_factory=dict)


def measured(
    session: Session, batch: Batch, request: Request, metrics: Sequence[tuple[Metric, Mapping[str, Any]]]
) -> Measured:
    """Explain a batch, and measure each map by each metric; one of a method without a target by the first target.

    Raises:
        WhycamError: nothing at all could be explained.
    """
    explained = Explained(session, batch, request)
    entries = {key: entry.explanation for key, entry in explained.entries.items()}
    if not entries:
        raise WhycamError("; ".join(dict.fromkeys(explained.failures.values())))
    found = Measured(entries, explained.failures)
    askings = [Asking(explained, number) for number in range(len(explained.targets))]
    for key, one in entries.items():
        asking = askings[explained.targets.index(key[2]) if one.target else 0]
        for metric, options in metrics:
            try:
                values = asking.measure(metric, own_maps(explained, key), options).values
            except WhycamError as error:
                found.unmeasured.setdefault(key, []).append(f"{metric.name}: {error}")
                continue
            found.values.setdefault(key, {})[metric.name] = values.tolist()
    return found
