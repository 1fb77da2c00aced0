"""Evaluations of numbers that are known, as `whycam.evaluate` would give them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from whycam.kit.metric import Metric, find_metric
from whycam.results.evaluation import Evaluation


def evaluation(
    measured: Mapping[tuple[str, str] | tuple[str, str, str], Mapping[str, Sequence[float]]],
    *,
    seconds: Mapping[str, float] | None = None,
    statuses: Mapping[str, Sequence[str]] | None = None,
    curves: Mapping[tuple[str, str], Sequence[Sequence[float]]] | None = None,
    metrics: Sequence[Metric] = (),
    **attributes: Any,
) -> Evaluation:
    """From (method, layer) or (method, layer, target): metric: a value for each sample.

    `seconds` and `statuses` by method, `curves` by (method, metric).
    """
    rows, held = [], {}
    for key, found in measured.items():
        method, layer, target = (*key, "top")[:3]
        for metric, values in found.items():
            for number, value in enumerate(values):
                status = (statuses or {}).get(method, ["ok"] * len(values))[number]
                rows.append({"method": method, "layer": layer, "target": target, "metric": metric,
                             "sample": f"s{number}", "value": float(value), "status": status})  # fmt: skip
                if curves and (method, metric) in curves:
                    held[method, layer, target, metric, f"s{number}"] = tuple(curves[method, metric][number])
    own = {each.name: each for each in metrics}
    known = {row["metric"]: own.get(row["metric"]) or find_metric(row["metric"]) for row in rows}
    spent = {key[:2]: (seconds or {}).get(key[0], 0.1) for key in measured if not key[0].startswith("control")}
    length = len(next(iter(held.values()))) if held else 0
    at = {metric: tuple(i / (length - 1) for i in range(length)) for _, metric in curves or {}}
    given = {"failures": {}, "notes": (), "asked": {"model": "a network", "seed": 0}, **attributes}
    return Evaluation(tuple(rows), held, at, known, spent, **given)


def spread(mean: float, samples: int, *, seed: int = 0, wide: float = 0.01) -> list[float]:
    """Values around a mean, which they have exactly."""
    drawn = torch.randn(samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn = drawn - drawn.mean()
    return (mean + wide * drawn / drawn.abs().max()).tolist() if samples > 1 else [mean]
