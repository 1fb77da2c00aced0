"""A run as a part of a report: its images beside their photos, where these are still there."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from whycam.kit.words import plural
from whycam.pictures.photos import Photo
from whycam.reports.values import ImageShown, Part
from whycam.results.reporting import image_of, in_words
from whycam.runs.exporting import Exported, Told, beside_photos, where_photos_are

if TYPE_CHECKING:
    import pyarrow
else:
    pyarrow = Any  # an extra

_METRIC = "metric."


def part_of_run(run: Told, title: str, photos: Any = None, most: int = 500) -> Part:
    """What a report shows of a run: its first images, so many at most.

    Args:
        photos: where the photos are, as for `whycam.run`; unless said, where the run found them, or
            where the images' ids name files.
    """
    table, said = run.table, run.said
    rows: dict[str, list[int]] = {}
    for number, (name, kind) in enumerate(zip(_column(table, "source"), _column(table, "map_type"), strict=True)):
        if kind is not None:
            rows.setdefault(name, []).append(number)
    shown = dict([*rows.items()][:most])
    notes = [f"Of {plural(len(rows), 'image')} the first {most:,} are shown."] if len(rows) > most else []
    images = dict(_images(run, table, shown, photos))
    return Part(
        title,
        in_words(run.asked, _column(table, "layer"), said.get("layers"))
        | {"Versions": [", ".join(f"{name} {each}" for name, each in said.get("versions", {}).items())]},
        command=said.get("command", ""),
        images=[images[name] for name in shown],
        failures=run.failures,
        notes=notes,
    )


def _images(
    run: Told, table: "pyarrow.Table", shown: Mapping[str, list[int]], photos: Any
) -> Iterator[tuple[str, ImageShown]]:
    """Each image with its name; no more than one photo is held at a time."""
    where, lost, found = where_photos_are(run, photos, shown), Exported("the report"), set[str]()
    for each, _ in beside_photos(table, where, lost, shown):
        found.add(each.item.id)
        yield each.item.id, _image(run, table, shown[each.item.id], each.photo, "")
    advice = "" if photos is not None else " Say where the photos are: --photos, or photos=."
    for name, why in lost.left_out:
        if name in shown and name not in found:
            found.add(name)
            missing = f"The photo is not shown: {why.removeprefix(f'{name}: ')}.{advice}"
            yield name, _image(run, table, shown[name], None, missing)


def _image(run: Told, table: "pyarrow.Table", rows: list[int], photo: Photo | None, missing: str) -> ImageShown:
    ones = [run.explanation(row, photo) for row in rows]
    metrics = [name for name in table.column_names if name.startswith(_METRIC)]
    numbers = [
        {name.removeprefix(_METRIC): value for name in metrics if (value := table[name][row].as_py()) is not None}
        for row in rows
    ]
    label = table["label"][rows[0]].as_py() or ""
    return image_of(ones, table["source"][rows[0]].as_py(), missing=missing, label=label, numbers=numbers)


def _column(table: "pyarrow.Table", name: str) -> list[Any]:
    values: list[Any] = table[name].to_pylist()
    return values
