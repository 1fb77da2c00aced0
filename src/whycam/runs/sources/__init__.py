"""What a run reads its images from: one file for each kind of source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whycam.errors import OptionError, WhycamError
from whycam.kit.files import at_home
from whycam.pictures.photos import PHOTO_SUFFIXES
from whycam.runs.sources import folder, iterable, lists, parquet, tar
from whycam.runs.sources.source import COLUMNS, Asked, Item, Source

__all__ = ["Item", "Source", "open_source"]

#: Each makes a source of what is its kind and answers `None` for the rest; asked in this order: a folder that holds any
#: photo is one of photos, whatever else lies there.
_KINDS = (folder.opened, lists.opened, tar.opened, parquet.opened, iterable.opened)

#: Which kinds each option is for.
_TAKEN_BY = {"columns": ("table", "parquet"), "label_from": ("folder", "glob")}


def open_source(source: Any, *, columns: Mapping[str, str] | None = None, label_from: str | None = None) -> Source:
    """The images that a source names, of which none is read yet.

    Args:
        source: a folder with all below it, a glob (`photos/**/*.jpg`), or one photo; a text file of paths, or a CSV or
            TSV table; WebDataset shards (`.tar`) or Parquet files: one, several, a folder or glob of them, or a pattern
            such as `shards-{000..012}.tar`; or an iterable of paths, of (id, photo) or of (id, photo, target).
        columns: of a table or Parquet files, which column holds the `photo`, `target`, `label` or `id`, where it has
            another name.
        label_from: `"folder"` for an image-folder data set: the first folder's name is what a photo shows.

    Raises:
        WhycamError: there is no such source, it is of no known kind, or it holds no image.
        MissingExtraError: Parquet files, without pyarrow.
    """
    if label_from not in (None, "folder"):
        raise OptionError(f"label_from is 'folder' or left out, not {label_from!r}.")
    if unknown := [name for name in columns or {} if name not in COLUMNS]:
        raise OptionError(f"columns names {', '.join(COLUMNS)}; not {unknown[0]!r}.")
    asked = Asked(columns or {}, label_from)
    found = next((made for each in _KINDS if (made := each(source, asked)) is not None), None)
    if found is None:
        raise _unknown(source)
    for name, kinds in _TAKEN_BY.items():
        if getattr(asked, name) and found.kind not in kinds:
            raise OptionError(f"{name}= is for a source of kind {' or '.join(kinds)}; leave it out for {found.text}.")
    return found


def _unknown(source: Any) -> WhycamError:
    known = f"photos ({', '.join(PHOTO_SUFFIXES)}), lists (.txt, .csv, .tsv), .tar shards, and .parquet files"
    if not isinstance(source, str | Path):
        return WhycamError(
            f"a source of images is a path, a glob, or an iterable of (id, photo), not {type(source).__name__}."
        )
    path = at_home(source)
    if path.is_dir():
        return WhycamError(f"{source}: the folder holds no image; looked for {known}.")
    if path.exists():
        return WhycamError(f"{source}: a file of an unknown kind; known are {known}.")
    return WhycamError(f"{source}: nothing of that name or pattern; looked for {known}.")
