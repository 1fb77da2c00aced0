"""The table of a run: Parquet shards that are whole or absent, and no image twice.

There is no index beside the shards that a crash could leave saying something else than they do. Which shards there are
is what the folder lists; which images are done is what their `source` columns say; and whether a shard is what was
written is told by its name, which carries its checksum. A shard appears by one rename, with every row of its images,
so an image is either done or was never begun.
"""

import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from whycam.errors import OptionError, WhycamError, missing
from whycam.kit.files import digits, disk_errors_said, link_whole, sync_folder, write_whole
from whycam.kit.words import readable
from whycam.runs.lock import Lock
from whycam.runs.manifest import NAME, SCHEMA, beside, read_manifest, write_manifest

#: What waits so long is written, in a shard that may be small: so much work a crash can cost, and no more.
SECONDS = 30.0

#: Column -> Arrow's name of its type. Columns named `metric.NAME`, of doubles, follow where metrics were asked.
COLUMNS = {
    "source": "string",
    "content": "string",
    "label": "string",
    "width": "int32",
    "height": "int32",
    "geometry": "string",
    "prediction": "string",
    "prediction_index": "int32",
    "probability": "float",
    "target": "string",
    "score": "float",
    "method": "string",
    "layer": "string",
    "options": "string",
    "status": "string",
    "message": "string",
    "map": "binary",
    "map_shape": "list<int32>",
    "map_type": "string",
    "overlay": "string",
    "heatmap": "string",
    "error": "string",
}


class Store:
    """The rows of a run in a folder, made by `create_or_continue` or `open`.

    Rows that were added and are in no shard yet are in no table, row or number either.

    Attributes:
        folder: where it is; beside the one that was named where a new one was wanted.
        asked: what the run was asked, as JSON gives it back.
    """

    def __init__(self, folder: Path, asked: dict[str, Any], rows_per_shard: int = 0, lock: Lock | None = None) -> None:
        self.folder, self.asked = folder, asked
        self._rows_per_shard, self._lock = rows_per_shard, lock
        self._written = time.monotonic()
        # one attribute, so that an interrupt finds rows either waiting or in a shard
        self._state: tuple[list[str], dict[str, list[Mapping[str, Any]]]] = (self._settled(), {})
        self._last: tuple[str, Any] | None = None  # the shard that a row was read from

    @classmethod
    def create_or_continue(
        cls,
        folder: Path,
        asked: Mapping[str, Any],
        *,
        rows_per_shard: int = 500,
        new: bool = False,
        retry: bool = False,
    ) -> "Store":
        """Open a folder for writing, and no other process meanwhile.

        Args:
            asked: what makes a row what it is; its `metrics`, if any, name the columns for them.
            rows_per_shard: a shard is written as soon as that many rows wait; the rows of an image stay together.
            new: start in a folder beside it, `folder-2`, if that one holds a run.
            retry: forget the images with an error, so that they are tried again.

        Raises:
            WhycamError: the folder holds a run of something else, is being written to, or cannot be written to.
        """
        if rows_per_shard < 1:
            raise OptionError(f"rows_per_shard is a number of rows, 1 or more, not {rows_per_shard}.")
        _pyarrow()
        folder = beside(folder) if new else folder
        with disk_errors_said(folder):
            (folder / "shards").mkdir(parents=True, exist_ok=True)
            lock = Lock(folder)
            try:
                if not (folder / NAME).exists() and any(_names(folder)):
                    raise WhycamError(f"{folder} holds shards and no {NAME} that says of what. Take another folder.")
                store = cls(folder, write_manifest(folder, asked), rows_per_shard, lock)
                store._tidy()
                if retry:
                    store._forget_failed()
            except BaseException:
                lock.release()
                raise
        return store

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a run for reading, which may be going on."""
        _pyarrow()
        return cls(folder, read_manifest(folder))

    @property
    def shards(self) -> list[str]:
        """The names of the shards, in the order of their rows."""
        return self._state[0]

    @cached_property
    def done(self) -> set[str]:
        """The images that need not be asked about again: those with rows in shards, an error or not."""
        return set(self.table(["source"])["source"].unique().to_pylist())

    @property
    def has_maps(self) -> bool:
        """Whether any row has a map."""
        kinds = self.table(["map_type"])["map_type"]
        return bool(kinds.null_count < len(kinds))

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take rows, all those of each image in one call, and write a shard when enough of them wait, or long enough.

        Raises:
            WhycamError: an image has rows already, a column is unknown, or the disk refuses; nothing is lost then, and
                `flush` tries again.
        """
        self._check_writable()
        shards, waiting = self._state
        added: dict[str, list[Mapping[str, Any]]] = {}
        known = set(self._schema.names)
        for row in rows:
            if unknown := sorted(row.keys() - known):
                raise OptionError(f"a run has no column {unknown[0]!r}; it has {', '.join(self._schema.names)}.")
            if (source := row["source"]) in self.done or source in waiting:
                raise WhycamError(f"{source!r} has rows in {self.folder} already; an image is added once.")
            added.setdefault(source, []).append(row)
        self._state = (shards, waiting | added)
        while self._waiting() >= self._rows_per_shard:
            self._write()
        if time.monotonic() - self._written > SECONDS:
            self.flush()

    def adopt(self, other: "Store", shard: str) -> None:
        """Take a shard of another run of the same question, as a link where the disk knows them; one taken is left.

        Raises:
            WhycamError: an image of it has rows already.
        """
        from pyarrow import parquet

        self._check_writable()
        if _parts(shard)[1] in {_parts(name)[1] for name in self.shards}:
            return
        with other._reading():
            held = parquet.read_table(other._path(shard), columns=["source"], partitioning=None)
        sources = set(held["source"].to_pylist())
        if twice := sources & self.done:
            raise WhycamError(f"{min(twice)!r} has rows in {self.folder} already, and in {other._path(shard)}.")
        number = _parts(self.shards[-1])[0] + 1 if self.shards else 0
        name = f"part-{number:06d}-{_parts(shard)[1]}.parquet"
        with disk_errors_said(self.folder):
            link_whole(self._path(name), other._path(shard))
        self.done.update(sources)
        self._state = ([*self.shards, name], self._state[1])
        self.__dict__.pop("_ends", None)

    def flush(self) -> None:
        """Write the rows that wait, in a shard that may be small."""
        while self._waiting():
            self._write()

    def close(self) -> None:
        """Write the rows that wait, and let others write to the folder."""
        try:
            self.flush()
        finally:
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # what stopped the run is said, not what came of that
        with nullcontext() if kind is None else suppress(WhycamError):
            self.close()

    def damaged(self) -> list[str]:
        """The shards that are not what was written. Every byte is read."""
        return damaged_shards(self.folder)

    def table(self, columns: Sequence[str] | None = None, filter: Any = None) -> Any:
        """The rows as an Arrow table.

        Args:
            columns: those wanted, or every one but `map`, which is read only where it is asked for.
            filter: of Arrow, such as `pyarrow.compute.field("status") == "ok"`; what cannot hold a row is not read.
        """
        wanted = [name for name in self._schema.names if name != "map"] if columns is None else list(columns)
        if unknown := sorted({*wanted} - {*self._schema.names}):
            raise OptionError(f"a run has no column {unknown[0]!r}; it has {', '.join(self._schema.names)}.")
        return self._read(self.shards, wanted, filter)

    def row(self, number: int) -> dict[str, Any]:
        """One row, with its map; of the other shards nothing is read, and of the same one nothing again."""
        if not 0 <= number < len(self):
            raise IndexError(f"rows are 0 to {len(self) - 1}, not {number}")
        shard = bisect_right(self._ends, number)
        within = number - (self._ends[shard - 1] if shard else 0)
        name = self.shards[shard]
        if self._last is None or self._last[0] != name:
            self._last = name, self.shard(name)
        row: dict[str, Any] = self._last[1].slice(within, 1).to_pylist()[0]
        return row

    def shard(self, name: str, columns: Sequence[str] | None = None) -> Any:
        """The rows of one shard as an Arrow table, with their maps unless other columns are named."""
        return self._read([name], None if columns is None else list(columns))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @cached_property
    def _schema(self) -> Any:
        import pyarrow

        lists = {"list<int32>": pyarrow.list_(pyarrow.int32())}
        metrics = {f"metric.{name}": "double" for name in self.asked.get("metrics") or ()}
        fields = [(name, lists.get(kind) or pyarrow.type_for_alias(kind)) for name, kind in (COLUMNS | metrics).items()]
        return pyarrow.schema(fields, metadata={"whycam.schema": str(SCHEMA)})

    @cached_property
    def _ends(self) -> list[int]:
        """The number of the row after each shard's last one."""
        return list(accumulate(self._rows(name) for name in self.shards))

    def _rows(self, name: str) -> int:
        from pyarrow import parquet

        with self._reading():
            rows: int = parquet.read_metadata(self._path(name)).num_rows
        return rows

    def _path(self, name: str) -> Path:
        return self.folder / "shards" / name

    def _check_writable(self) -> None:
        if self._lock is None:
            raise WhycamError(f"{self.folder} is not open for writing. Store.create_or_continue opens it so.")

    def _waiting(self) -> int:
        return sum(map(len, self._state[1].values()))

    def _write(self) -> None:
        """Put the images that waited longest into a shard."""
        shards, waiting = self._state
        rows: list[Mapping[str, Any]] = []
        left = dict(waiting)
        for source in waiting:
            if len(rows) >= self._rows_per_shard:
                break
            rows += left.pop(source)
        import pyarrow

        done = self.done
        number = _parts(shards[-1])[0] + 1 if shards else 0
        try:
            table = pyarrow.Table.from_pylist(rows, schema=self._schema)
        except UnicodeEncodeError:  # a reason names a file whose name is no Unicode
            plain = [{k: readable(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
            table = pyarrow.Table.from_pylist(plain, schema=self._schema)
        name, data = self._spelled(number, table)
        try:
            with disk_errors_said(self.folder):
                write_whole(self._path(name), data, synced=True)
            done |= waiting.keys() - left.keys()
            self._state = ([*shards, name], left)
        except BaseException:
            if self._state[0] is shards:  # renamed, and then interrupted: these rows still wait
                self._path(name).unlink(missing_ok=True)
            raise
        self.__dict__.pop("_ends", None)
        self._written = time.monotonic()

    def _spelled(self, number: int, table: Any) -> tuple[str, bytes]:
        """The name of a shard, and its bytes."""
        import pyarrow
        from pyarrow import parquet

        held = pyarrow.BufferOutputStream()
        small = [name for name in table.schema.names if name not in ("map", "map_shape")]
        parquet.write_table(
            table, held, compression="zstd", use_dictionary=small, write_statistics=small, write_page_checksum=True
        )
        data = held.getvalue().to_pybytes()
        return f"part-{number:06d}-{digits([data])}.parquet", data

    def _settled(self) -> list[str]:
        """The shards, one of each number: beside one a crash may leave what was to take its place, with fewer rows."""
        found: dict[int, str] = {}
        for name in _names(self.folder):
            number = _parts(name)[0]
            found[number] = min(found[number], name, key=self._rows) if number in found else name
        return list(found.values())

    def _tidy(self) -> None:
        """Delete what a killed writer left: files half written, and shards that others have taken the place of."""
        shards = self.folder / "shards"
        for path in [*shards.glob(".part-*"), *self.folder.glob(f".{NAME}.*")]:
            path.unlink(missing_ok=True)
        for name in set(_names(self.folder)) - set(self.shards):
            self._path(name).unlink()

    def _forget_failed(self) -> None:
        """Write the shards with errors again without the images that these are of."""
        from pyarrow import compute

        kept = []
        for name in self.shards:
            failed = self._read([name], ["source"], compute.field("error").is_valid())["source"].unique()
            if not len(failed):
                kept.append(name)
                continue
            held = self.shard(name)
            rest = held.filter(compute.invert(compute.is_in(held["source"], value_set=failed)))
            if len(rest):
                other, data = self._spelled(_parts(name)[0], rest)
                write_whole(self._path(other), data, synced=True)
                kept.append(other)
            self._path(name).unlink()
        sync_folder(self.folder / "shards")
        self._state = (kept, {})
        for read in ("done", "_ends"):
            self.__dict__.pop(read, None)

    def _read(self, shards: Sequence[str], columns: list[str] | None, filter: Any = None) -> Any:
        """Rows of shards, each page of which is held against its checksum: some damage reads as other values."""
        from pyarrow import dataset

        watched = dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
        with self._reading():
            held = dataset.dataset(
                [str(self._path(name)) for name in shards],
                schema=self._schema,
                format=dataset.ParquetFileFormat(default_fragment_scan_options=watched),
            )
            return held.to_table(columns=columns, filter=filter)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Name the shards that are damaged where reading fails."""
        import pyarrow

        try:
            yield
        except (pyarrow.ArrowException, OSError) as error:
            if not (damaged := self.damaged()):
                raise
            raise WhycamError(
                f"{self.folder / 'shards'} holds damaged shards: {', '.join(damaged)}. 'whycam runs {self.folder} "
                "--drop-damaged' deletes them, and the same run computes their images again."
            ) from error


def damaged_shards(folder: Path) -> list[str]:
    """The shards of a run that are not what was written; also where none of them can be opened."""
    return [name for name in _names(folder) if _checksum(folder / "shards" / name) != _parts(name)[1]]


def drop_damaged(folder: Path) -> list[str]:
    """Delete the damaged shards of a run, so that their images are computed again; their names.

    Raises:
        WhycamError: the folder holds no run, another process writes to it, or the disk refuses.
    """
    read_manifest(folder)
    with disk_errors_said(folder):
        lock = Lock(folder)
        try:
            gone = damaged_shards(folder)
            for name in gone:
                (folder / "shards" / name).unlink(missing_ok=True)
            sync_folder(folder / "shards")
        finally:
            lock.release()
    return gone


def packed(values: Any, kind: str = "float16") -> dict[str, Any]:
    """The columns `map`, `map_shape` and `map_type` of an array.

    A half-precision map is kept in single precision where its largest value is too large for half or so small that
    half would round it more coarsely than its eleven bits.
    """
    held = np.asarray(values, np.float32)
    peak = np.abs(held).max(initial=0)
    fits = kind == "float16" and (peak == 0 or float(np.finfo(np.float16).tiny) <= peak <= np.finfo(np.float16).max)
    kind = "float16" if fits else "float32"
    return {"map": held.astype(TYPES[kind]).tobytes(), "map_shape": [*held.shape], "map_type": kind}


def unpacked(row: Mapping[str, Any]) -> Any:
    """The map of a row as an array of float32; None where it has none."""
    if row["map"] is None:
        return None
    return np.frombuffer(row["map"], TYPES[row["map_type"]]).reshape(row["map_shape"]).astype(np.float32)


#: How maps may be kept.
TYPES = {"float16": "<f2", "float32": "<f4"}


def _names(folder: Path) -> list[str]:
    with disk_errors_said(folder):
        return sorted(path.name for path in (folder / "shards").glob("part-*-*.parquet"))


def _parts(name: str) -> tuple[int, str]:
    """The number and the checksum that a shard's name carries."""
    _, number, digits = name.removesuffix(".parquet").split("-")
    return int(number), digits


def _checksum(path: Path) -> str:
    """Of what the disk gives; none where it gives nothing."""
    try:
        return digits([path.read_bytes()])
    except OSError:
        return ""


def _pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise missing("pyarrow", "runs", "the table of a run") from None
