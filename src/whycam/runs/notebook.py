"""What a notebook shows of a run: counts, what went wrong first, and some of its maps over their photos."""

from collections.abc import Mapping
from typing import Any, Protocol

from whycam.kit.words import plural
from whycam.results.notebook import MOST, display, thumbnail
from whycam.runs.exporting import Exported, Told, beside_photos, where_photos_are

#: Classes, statuses and failures that are named.
_NAMED = 5


class Summed(Told, Protocol):
    """What a display reads of a `Run`."""

    def summary(self) -> dict[str, Any]:
        """Counts."""


def html(run: Summed) -> str:
    """What `Run._repr_html_` returns."""
    found, failures = run.summary(), run.failures
    head = [
        f"{plural(found['images'], 'image')}, {plural(found['rows'], 'row')}, {found['failed']:,} not explained",
        f"status: {_listed(found['status'])}",
        f"predicted: {_listed(found['prediction'])}",
    ]
    table = run.table.select(["source", "content", "map_type"])
    mapped = [row for row, kind in enumerate(table["map_type"].to_pylist()) if kind is not None]
    rows = {row: table["source"][row].as_py() for row in mapped[:MOST]}
    photos = where_photos_are(run, None, rows.values())
    found_there = beside_photos(table, photos, Exported("a notebook"), rows.values())
    there = {each.item.id: each.photo for each, _ in found_there}
    shown = []
    for row, name in rows.items():
        missing = "" if name in there else "the map alone: its photo is not where it was, or is another now"
        shown.append(thumbnail(run.explanation(row, there.get(name)), name, missing))
    problems = [f"{name}: {why}" for name, why in failures[:_NAMED]]
    more = [f"and {len(failures) - _NAMED:,} more that went wrong"] if len(failures) > _NAMED else []
    return display(shown, head=head, more=len(mapped) - MOST, problems=[*problems, *more])


def _listed(counts: Mapping[str, int]) -> str:
    named = [f"{name} {count:,}" for name, count in [*counts.items()][:_NAMED]]
    return ", ".join([*named, f"{len(counts) - _NAMED:,} more"] if len(counts) > _NAMED else named) or "none"
