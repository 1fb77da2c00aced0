"""Photos that a caller's own code brings."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from functools import partial
from pathlib import Path
from typing import Any

from whycam.errors import WhycamError
from whycam.runs.sources.source import Asked, Item, Source, each_once, id_of


def opened(source: Any, asked: Asked) -> Source | None:
    """Paths are their own ids. Nothing is drawn yet, and never more than is asked for."""
    if not isinstance(source, Iterable) or isinstance(source, str | bytes | Path | Mapping):
        return None
    length = len(source) if isinstance(source, Sized) else None
    if length == 0:
        raise WhycamError("the source is empty: no images came.")
    return Source("iterable", "", partial(_items, source), length)


def _items(source: Iterable[Any]) -> Iterator[Item]:
    return each_once(map(_item, source), "the iterable")


def _item(each: Any) -> Item:
    if isinstance(each, Item):
        return each
    if isinstance(each, str | Path):
        return Item(id_of(Path(each)), Path(each))
    if isinstance(each, list | tuple) and 2 <= len(each) <= 3 and isinstance(each[0], str | int):
        name, photo, *target = each
        return Item(str(name), Path(photo) if isinstance(photo, str) else photo, *target)
    raise WhycamError(
        f"an iterable brings paths, (id, photo) or (id, photo, target), the id a text or a number; what came is "
        f"{type(each).__name__}."
    )
