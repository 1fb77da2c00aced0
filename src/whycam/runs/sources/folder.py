"""Photos in a folder and below it, those of a glob, or one."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from whycam.kit.files import at_home
from whycam.pictures.photos import PHOTO_SUFFIXES
from whycam.runs.sources.files import EVERYTHING, below, glob_parts
from whycam.runs.sources.source import Asked, Item, Source, id_of


def opened(source: Any, asked: Asked) -> Source | None:
    """Ids are paths from the folder, or from the part of a glob that is fixed."""
    if not isinstance(source, str | Path):
        return None
    path = at_home(source)
    if path.is_dir():
        # one text for `photos` and `photos/`, which are one source
        found = Source("folder", f"{Path(source).as_posix()}/", partial(_items, path, EVERYTHING, asked.label_from))
    elif parts := glob_parts(path):
        found = Source("glob", str(source), partial(_items, *parts, asked.label_from))
    elif path.is_file() and path.suffix.lower() in PHOTO_SUFFIXES:
        return Source("photo", str(source), partial(iter, [Item(id_of(Path(path.name)), path)]), 1)
    else:
        return None
    return found if next(iter(found), None) is not None else None


def _items(folder: Path, pattern: tuple[str, ...], labels: str | None) -> Iterator[Item]:
    for path in below(folder, pattern, PHOTO_SUFFIXES):
        inside = path.relative_to(folder)
        label = id_of(Path(inside.parts[0])) if labels and len(inside.parts) > 1 else None
        yield Item(id_of(inside), path, label=label)
