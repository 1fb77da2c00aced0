"""A run as a data set of FiftyOne: a sample for each photo, with its maps as heat maps."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from whycam.errors import WhycamError, missing
from whycam.runs.exporting import Exported, Rows, beside_photos, on_photo, with_maps

#: FiftyOne stretches a heat map over its photo, so that it need not be as large; a layer has fewer cells.
_LONGEST = 256


def write(run: Rows, name: str, photos: Any) -> Exported:
    """What `Run.to_fiftyone` does."""
    try:
        import fiftyone
    except ImportError:
        raise missing("FiftyOne", "fiftyone", "a data set of it") from None
    if fiftyone.dataset_exists(name):
        raise WhycamError(f"FiftyOne has a data set {name!r} already. Take another name, or delete that one.")
    made = Exported(name)
    dataset = fiftyone.Dataset(name, persistent=True)
    try:
        dataset.add_samples(_samples(fiftyone, run, photos, made), dynamic=True)
    except BaseException:
        dataset.delete()  # half of one is none
        raise
    return made


def _samples(fiftyone: Any, run: Rows, photos: Any, made: Exported) -> Iterator[Any]:
    table = run.table
    for each, numbers in beside_photos(table, photos, made):
        path = each.photo.path if each.photo is not None else None
        if path is None:
            made.left_out.append((each.item.id, "FiftyOne shows files, and this photo is none"))
            continue
        rows = [{name: table[name][number].as_py() for name in table.column_names} for number in numbers]
        sample = fiftyone.Sample(filepath=str(path.absolute()), source=each.item.id)
        for field, (label, confidence) in {
            "prediction": (rows[0]["prediction"], rows[0]["probability"]),
            "ground_truth": (rows[0]["label"], None),
        }.items():
            if label is not None:
                sample[field] = fiftyone.Classification(label=label, confidence=confidence)
        for number in with_maps(table, numbers, made):
            row = rows[numbers.index(number)]
            try:
                heat = on_photo(run.explanation(number), _LONGEST)
            except WhycamError as error:
                made.left_out.append((each.item.id, str(error)))
                continue
            said = {name: row[name] for name in ("target", "score", "layer", "status", "message")}
            sample[_field(row, run.asked)] = fiftyone.Heatmap(map=heat.numpy(), range=[0, 1], row=number, **said)
            made.count += 1
        yield sample


def _field(row: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """A field's name, the same for all samples: the method, and what else there are several of."""
    others = {"layer": "layers", "target": "targets"}
    parts = [row["method"], *(row[name] for name, several in others.items() if len(asked.get(several) or ()) > 1)]
    return re.sub(r"\W+", "_", "_".join(filter(None, parts)))
