"""An evaluation in files: its summary or its samples as lines, and all of it, to be read again."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from whycam.errors import WhycamError, missing
from whycam.kit.files import for_json, from_json, write_whole
from whycam.kit.metric import Metric, metrics
from whycam.results.evaluation_values import EvaluationValues
from whycam.results.recommendation import Recommendation
from whycam.results.standing import Place

#: Of the JSON file; raised when a reader of the old form would misread the new one.
SCHEMA = 1


def lines(found: EvaluationValues, *, samples: bool) -> list[dict[str, Any]]:
    """The summary, or a line for each sample; what is not defined is `None`."""
    rows: Sequence[Mapping[str, Any]] = found.rows if samples else found.summary()
    return [
        {name: "; ".join(each) if isinstance(each, list) else for_json(each) for name, each in row.items()}
        for row in rows
    ]


def to_csv(found: EvaluationValues, path: Path, *, samples: bool) -> Path:
    """See `Evaluation.to_csv`."""
    made = lines(found, samples=samples)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*made[0]] if made else ["method", "layer", "target", "metric", "value"])
    writer.writeheader()
    writer.writerows(made)
    return write_whole(path, text.getvalue().encode())


def to_parquet(found: EvaluationValues, path: Path, *, samples: bool) -> Path:
    """See `Evaluation.to_parquet`."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise missing("pyarrow", "evaluate", "a Parquet file") from None
    held = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(lines(found, samples=samples)), held)
    return write_whole(path, held.getvalue().to_pybytes())


def document(found: EvaluationValues, advice: Recommendation, *, samples: bool) -> dict[str, Any]:
    """What JSON holds: the summary and the recommendation, and with `samples` all that they follow from."""
    made: dict[str, Any] = {
        "schema": SCHEMA,
        "asked": found.asked,
        "summary": found.summary(),
        "recommendation": _advice(advice),
        "failures": found.failures,
        "notes": found.notes,
    }
    if samples:
        made |= {
            "metrics": {name: _metric(each) for name, each in found.metrics.items()},
            "seconds": [[*key, each] for key, each in found.seconds.items()],
            "at": found.at,
            "rows": found.rows,
            "curves": [[*key, each] for key, each in found.curves.items()],
        }
    return dict(for_json(made))


def load(path: Path) -> dict[str, Any]:
    """The attributes of an evaluation that `document` holds.

    Raises:
        WhycamError: a file that is none, or metrics that are not known here.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        schema = held["schema"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = getattr(error, "strerror", None) or "it is no evaluation that whycam saved as JSON"
        raise WhycamError(f"{path} cannot be read: {reason}.") from None
    if schema != SCHEMA or "rows" not in held:
        raise WhycamError(f"{path} has schema {schema!r}, and this version reads {SCHEMA}, with a row for each sample.")
    return {
        "rows": tuple({**row, "value": from_json(row["value"])} for row in held["rows"]),
        "curves": {tuple(key): tuple(map(from_json, curve)) for *key, curve in held["curves"]},
        "at": {name: tuple(points) for name, points in held["at"].items()},
        "metrics": {name: _known(name, each) for name, each in held["metrics"].items()},
        "seconds": {(method, layer): each for method, layer, each in held["seconds"]},
        "failures": held["failures"],
        "notes": tuple(held["notes"]),
        "asked": held["asked"],
    }


def _metric(metric: Metric) -> dict[str, Any]:
    said = ("title", "paper", "better", "low", "high")
    return {each: getattr(metric, each) for each in said} | {
        "takes": sorted(metric.takes), "is_mean": metric.over is None
    }  # fmt: skip


def _known(name: str, said: Mapping[str, Any]) -> Metric:
    """The registered metric of that name, or one that knows what is said of it and cannot measure."""
    if name in metrics():
        return metrics()[name]
    if not said["is_mean"]:
        raise WhycamError(f"the metric {name!r} is no mean of its values and is not registered here; import it first.")
    low, high = (from_json(said["low"]), from_json(said["high"]))
    return Metric(
        name, said["title"], said["paper"], _gone, frozenset(said["takes"]), {}, said["better"],
        -math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high,
    )  # fmt: skip


def _gone(**_: Any) -> Any:
    raise WhycamError("this metric came out of a file, and its function is not known here; import it first.")


def _advice(advice: Recommendation) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Place):
            return value._asdict()
        return [plain(each) for each in value] if isinstance(value, tuple) else value

    own = {name: plain(value) for name, value in asdict(replace(advice, others=())).items() if name != "others"}
    return {**own, "others": [_advice(each) for each in advice.others]}
