"""A source of images, and what comes out of it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image

from whycam.errors import WhycamError
from whycam.kit.words import readable

#: What a column of a table may hold.
COLUMNS = ("photo", "target", "label", "id")

#: How a column of photos is called, if nobody says.
_PHOTO_COLUMNS = ("path", "file", "image", "photo", "filename")


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Attributes:
        id: unique in its source, and the same in every run.
        photo: a path, the bytes of a file, a PIL image or an array.
        target: what to ask of it, if the source says.
        label: what it is, if the source says.
    """

    id: str
    photo: Path | bytes | Image.Image | np.ndarray
    target: int | str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", readable(self.id))  # by which it is known again in the table


@dataclass(frozen=True)
class Source:
    """Images in an order that is always the same, drawn one at a time.

    Attributes:
        kind: folder, glob, photo, list, table, tar, parquet, paths or iterable.
        given: what it is named by, as the caller did.
        items: begins anew, unless it is an iterator that the caller gave.
        length: how many images there are, if that is known without a search.
    """

    kind: str
    given: str
    items: Callable[[], Iterator[Item]]
    length: int | None = None

    def __iter__(self) -> Iterator[Item]:
        return self.items()

    @property
    def text(self) -> str:
        """How it is named: `folder photos/`."""
        return f"{self.kind} {self.given}".rstrip()


@dataclass(frozen=True)
class Asked:
    """What a caller says about a source."""

    columns: Mapping[str, str]
    label_from: str | None

    def columns_of(self, where: object, there: Iterable[str], photos_first: Iterable[str] = ()) -> dict[str, str]:
        """The columns to read, of those that are there, by what they hold.

        Args:
            photos_first: columns that hold photos rather than paths.

        Raises:
            WhycamError: no column of photos, or none of a name that was given.
        """
        names = {name.strip().casefold(): name for name in there}
        found = {what: names[what] for what in COLUMNS[1:] if what in names}
        usual = [names[name] for name in _PHOTO_COLUMNS if name in names]
        if usual:
            found["photo"] = min(usual, key=lambda name: name not in photos_first)
        found |= self.columns
        if absent := [name for name in found.values() if name not in names.values()]:
            raise WhycamError(f"{where} has no column {absent[0]!r}; it has {_listed(names.values())}.")
        if "photo" not in found:
            raise WhycamError(
                f"{where} has no column of photos, called {', '.join(_PHOTO_COLUMNS)}; it has "
                f"{_listed(names.values())}. Say which it is: columns={{'photo': NAME}}."
            )
        return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def each_once(items: Iterable[Item], where: str) -> Iterator[Item]:
    """The items as they pass, up to a second one of the same id. The ids are kept, and nothing else."""
    passed: set[str] = set()
    for item in items:
        if item.id in passed:
            raise WhycamError(f"{where} holds a second image of id {item.id!r}; give each an id of its own.")
        passed.add(item.id)
        yield item


def id_of(path: PurePath) -> str:
    """A path as text that every file can hold, also where the disk's names are no Unicode."""
    return readable(path.as_posix())


def target_of(value: Any) -> int | str | None:
    """A target as a file spells it: an integer, a name, or none."""
    text = "" if value is None else str(value).strip()
    number = re.fullmatch(r"(-?\d+)(?:\.0)?", text)  # integers with gaps are written as floats by pandas
    return int(number[1]) if number else text or None


def label_of(value: Any) -> str | None:
    """A label as a file spells it, or none."""
    return None if value is None else str(value).strip() or None
