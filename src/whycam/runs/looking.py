"""What the rows of a run say together, counted and ranked by Arrow; no map is read."""

from collections import Counter
from collections.abc import Mapping
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import numpy as np

from whycam.errors import OptionError
from whycam.kit.metric import find_metric
from whycam.runs.store import Store

if TYPE_CHECKING:
    import pyarrow
else:
    pyarrow = Any  # an extra

#: By which a row is known again.
NAMED = ("source", "prediction", "target", "method", "layer", "status")

_METRIC = "metric."


def selected(
    held: "pyarrow.Table", where: Mapping[str, Any], *, first: int = 0, mapped: bool = False
) -> "pyarrow.Table":
    """The rows that hold these values, with their numbers as the column `row`.

    Args:
        held: rows that follow each other, with the columns of `where`.
        where: by column the value, or several of which one is enough.
        first: the number of the first row.
        mapped: leave out rows without a map; they have no `map_type`.
    """
    import pyarrow
    from pyarrow import compute

    held = held.append_column("row", pyarrow.array(np.arange(first, first + len(held))))
    terms = [compute.field("map_type").is_valid()] if mapped else []
    for name, value in where.items():
        several = value if isinstance(value, list | tuple | set) else [value]
        try:
            wanted = pyarrow.array(list(several)).cast(held.schema.field(name).type)
        except pyarrow.ArrowException:
            kind = held.schema.field(name).type
            raise OptionError(f"{name} is a column of {kind}, which {value!r} is not.") from None
        terms.append(compute.field(name).isin(wanted))
    return held.filter(reduce(and_, terms)) if terms else held


def class_of(table: "pyarrow.Table") -> "pyarrow.ChunkedArray":
    """What each row is about: the class explained, or the predicted one where a method explains none."""
    from pyarrow import compute

    return compute.coalesce(table["target"], table["prediction"], "no class")


def counted(values: Any) -> dict[str, int]:
    """How often each value of an Arrow array is there, the most frequent first; nulls are not counted."""
    found = values.drop_null().value_counts().to_pylist()
    return dict(sorted(((each["values"], each["counts"]) for each in found), key=lambda pair: -pair[1]))


def errors(store: Store) -> dict[str, int]:
    """How many rows failed for each reason, the most frequent first; what names the image itself is left out."""
    from pyarrow import compute

    failed = store.table(["source", "error"], compute.field("error").is_valid()).to_pydict()
    pairs = zip(failed["source"], failed["error"], strict=True)
    return dict(Counter(why.partition(f"{name}: ")[2] or why for name, why in pairs).most_common())


def summary(store: Store) -> dict[str, Any]:
    """What `Run.summary` returns."""
    from pyarrow import compute

    failed = errors(store)
    return {
        "images": compute.count_distinct(store.table(["source"])["source"]).as_py(),
        "rows": len(store),
        "failed": sum(failed.values()),
        **{name: counted(store.table([name])[name]) for name in ("status", "prediction", "target", "method")},
        "error": failed,
    }


def ranked(store: Store, column: str, number: int, where: Mapping[str, Any], *, best: bool) -> "pyarrow.Table":
    """The rows at one end of a column of numbers, the outermost first; of equal ones the first rows."""
    from pyarrow import compute, types

    held = store.table([*dict.fromkeys([*NAMED, column, *where])])
    kinds = {field.name: field.type for field in held.schema}
    if not (types.is_floating(kinds[column]) or types.is_integer(kinds[column])):
        raise OptionError(f"rows are ranked by a column of numbers, and {column} holds {kinds[column]}.")
    metric = find_metric(column.removeprefix(_METRIC)) if column.startswith(_METRIC) else None
    falling = best == (metric is None or metric.better == "higher")
    known = selected(held, where).filter(~compute.field(column).is_null(nan_is_null=True))
    order = [(column, "descending" if falling else "ascending"), ("row", "ascending")]
    outermost = known.take(compute.select_k_unstable(known, number, order))
    return outermost.select(["row", *dict.fromkeys([*NAMED, column])])


def duplicates(store: Store) -> list[list[str]]:
    """The images that hold the same, group by group."""
    from pyarrow import compute

    pairs = store.table(["content", "source"]).drop_null()
    images = pairs.group_by(["content", "source"], use_threads=False).aggregate([])
    groups = images.group_by("content", use_threads=False).aggregate([("source", "list")])
    several = groups.filter(compute.list_value_length(compute.field("source_list")) > 1)
    found: list[list[str]] = several["source_list"].to_pylist()
    return found
