"""Paths in a text file, one on each line, or in a table of comma or tab separated values."""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from whycam.errors import WhycamError
from whycam.kit.files import Names, at_home
from whycam.runs.sources.source import Asked, Item, Source, each_once, id_of, label_of, target_of

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def opened(source: Any, asked: Asked) -> Source | None:
    """Paths are relative to the list's own folder. The list is read through once, to know that it is in order."""
    if not isinstance(source, str | Path):
        return None
    path = at_home(source)
    kind = {".txt": "list", **dict.fromkeys(_SEPARATORS, "table")}.get(path.suffix.lower())
    if kind is None or not path.is_file():
        return None
    items = partial(_listed if kind == "list" else _tabled, path, asked)
    length = sum(1 for _ in items())
    if not length:
        raise WhycamError(f"{source}: the {kind} names no image.")
    return Source(kind, str(source), items, length)


def _listed(path: Path, asked: Asked) -> Iterator[Item]:
    names = Names()
    # names on a disk need not be UTF-8, nor is a list of them then
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for line in file:
            if (named := line.strip()) and not named.startswith("#"):
                yield Item(names(id_of(Path(named))), path.parent / named)


def _tabled(path: Path, asked: Asked) -> Iterator[Item]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file, delimiter=_SEPARATORS[path.suffix.lower()])
        try:
            columns = asked.columns_of(path, rows.fieldnames or ())
            items = _rows(rows, path, columns)
            yield from each_once(items, str(path)) if "id" in columns else items
        except csv.Error as error:
            raise WhycamError(f"{path}: cannot be read as a table after line {rows.line_num}: {error}.") from error


def _rows(rows: "csv.DictReader[str]", path: Path, columns: dict[str, str]) -> Iterator[Item]:
    names = Names()
    for row in rows:
        value = {what: (row[name] or "").strip() for what, name in columns.items()}
        if blank := next((what for what in ("photo", "id") if value.get(what) == ""), None):
            raise WhycamError(f"{path}, line {rows.line_num}: there is nothing in column {columns[blank]!r}.")
        named = value["photo"]
        yield Item(
            value["id"] if "id" in value else names(id_of(Path(named))),
            path.parent / named,
            target_of(value.get("target")),
            label_of(value.get("label")),
        )
