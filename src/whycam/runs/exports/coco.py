"""A run as COCO's JSON: images, classes, and the bright part of each map as an annotation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from whycam.errors import WhycamError
from whycam.kit.files import write_whole
from whycam.kit.regions import around, run_lengths
from whycam.results.explanation import Explanation
from whycam.runs.exporting import Exported, Rows, on_photo, with_maps
from whycam.runs.looking import class_of


def write(run: Rows, path: Path, level: float) -> Exported:
    """What `Run.to_coco` does."""
    made = Exported(str(path))
    write_whole(path, (text.encode() for text in _document(run, level, made)))
    return made


def _document(run: Rows, level: float, made: Exported) -> Iterator[str]:
    """The file in pieces, of which none grows with the run but the lists of images and classes."""
    table = run.table
    classes = class_of(table)
    explained = classes.filter(table["map_type"].is_valid()).unique().to_pylist()
    names = {name: number for number, name in enumerate(sorted(explained), 1)}
    images = dict[str, int]()
    said = {"description": f"{', '.join(run.asked.get('methods', []))} maps of {run.asked.get('model')}"}
    yield f'{{"info": {json.dumps(said)},\n"images": ['
    columns = table.select(["source", "width", "height"]).to_pydict()
    for source, width, height in zip(*columns.values(), strict=True):
        if width is not None and source not in images:
            images[source] = len(images) + 1
            entry = {"id": images[source], "file_name": source, "width": width, "height": height}
            yield f"{',' if len(images) > 1 else ''}\n{json.dumps(entry)}"
    categories = [{"id": number, "name": name} for name, number in names.items()]
    yield f'],\n"categories": {json.dumps(categories)},\n"annotations": ['
    for number in with_maps(table, [*range(len(table))], made):
        row = {name: table[name][number].as_py() for name in _ATTRIBUTES}
        try:
            region = _region(run.explanation(number), level)
        except WhycamError as error:
            made.left_out.append((columns["source"][number], str(error)))
            continue
        made.count += 1
        entry = {
            "id": made.count,
            "image_id": images[columns["source"][number]],
            "category_id": names[classes[number].as_py()],
            "iscrowd": 0,
            "score": table["score"][number].as_py(),
            **region,
            "attributes": {"row": number, "level": level, **row},
        }
        yield f"{',' if made.count > 1 else ''}\n{json.dumps(entry)}"
    yield "]}\n"


#: What of a row stands beside its region.
_ATTRIBUTES = ("method", "layer", "status", "prediction", "probability")


def _region(one: Explanation, level: float) -> dict[str, Any]:
    """The bright part of a map in pixels of its photo.

    Raises:
        WhycamError: there is none, or it is not known where it lies.
    """
    mask = on_photo(one) > level
    if not bool(mask.any()):
        raise WhycamError(f"its map has no bright part: {one.status[0]}")
    left, top, right, bottom = around(mask)[0].tolist()
    return {
        "bbox": [left, top, right - left, bottom - top],
        "area": int(mask.sum()),
        "segmentation": {"size": [*mask.shape], "counts": run_lengths(mask)},
    }
