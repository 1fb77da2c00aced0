"""Parquet files of photos, as Hugging Face's `datasets` writes them, or of paths."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from whycam.errors import WhycamError, missing
from whycam.runs.sources.files import common_folder, given_as, shards
from whycam.runs.sources.source import Asked, Item, Source, each_once, id_of, label_of, target_of

#: Rows that are in memory at once, with their photos.
_ROWS = 32


def opened(source: Any, asked: Asked) -> Source | None:
    """Ids are those of an id column, or a file's name, from the folder that all lie in, and a row's number in it."""
    files = shards(source, ".parquet")
    if files is None:
        return None
    length, named = 0, False
    for file in files:  # so that one which does not fit is known before the run begins
        with _read(file) as held:
            named |= "id" in _columns(file, held.schema_arrow, asked)
            length += held.metadata.num_rows
    if not length:
        raise WhycamError(f"{given_as(source)}: there are no rows.")
    return Source("parquet", given_as(source), partial(_items, files, asked, named), length)


def _read(file: Path) -> Any:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise missing("pyarrow", "runs", "a Parquet file") from None
    try:
        # by default it fetches every row group at once: 263 MB for a file of 200, against 100
        return ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
    except (ArrowException, OSError) as error:
        raise WhycamError(f"{file}: cannot be read as a Parquet file: {error}") from error


def _columns(file: Path, schema: Any, asked: Asked) -> dict[str, str]:
    held = [field.name for field in schema if _holds_photos(field.type)]
    columns = asked.columns_of(file, schema.names, held)
    photos = schema.field(columns["photo"])
    if photos.name not in held and not any(word in str(photos.type) for word in ("string", "null")):
        raise WhycamError(
            f"{file}: column {photos.name!r} is of type {photos.type}; photos are bytes, paths, or a struct of both."
        )
    return columns


def _holds_photos(kind: Any) -> bool:
    return "binary" in str(kind) and not str(kind).startswith("list")


def _items(files: list[Path], asked: Asked, named: bool) -> Iterator[Item]:
    folder = common_folder(files)
    items = (item for file in files for item in _rows(file, folder, asked))
    return each_once(items, f"column {asked.columns.get('id', 'id')!r}") if named else items


def _rows(file: Path, folder: Path, asked: Asked) -> Iterator[Item]:
    from pyarrow import ArrowException

    name = id_of(file.absolute().relative_to(folder))
    with _read(file) as held:
        columns = _columns(file, held.schema_arrow, asked)
        classes = _class_names(held.schema_arrow, columns.get("label"))
        number = 0
        try:
            for batch in held.iter_batches(_ROWS, columns=[*columns.values()]):
                for row in batch.to_pylist():
                    value = {what: row[column] for what, column in columns.items()}
                    label = value.get("label")
                    yield Item(
                        str(value["id"]) if "id" in value else f"{name}/{number}",
                        _photo(value["photo"], file.parent),
                        target_of(value.get("target")),
                        label_of(classes[label] if isinstance(label, int) and 0 <= label < len(classes) else label),
                    )
                    number += 1
        except (ArrowException, OSError) as error:
            raise WhycamError(f"{file}: cannot be read from row {number}: {error} What came before is good.") from error


def _photo(value: Any, folder: Path) -> Path | bytes:
    """A cell's photo; no bytes where there is none, which fails when it is read."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    return folder / value if isinstance(value, str) else value or b""


def _class_names(schema: Any, column: str | None) -> list[str]:
    """The names of classes that are numbers, where `datasets` wrote them into the file."""
    try:
        return list(json.loads(schema.metadata[b"huggingface"])["info"]["features"][column]["names"])
    except (KeyError, TypeError, ValueError):  # another program wrote it, or the column holds names itself
        return []
