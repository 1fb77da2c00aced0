"""Files that lose nothing: written whole or not at all, no two under one name, and known again by their digits."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from whycam.errors import WhycamError


def at_home(path: str | Path) -> Path:
    """The path with `~` as the user's own folder; a name such as `~draft.png`, which is nobody's, stays a name.

    Examples:
        >>> from whycam.kit.files import at_home
        >>> at_home("~draft.png").name
        '~draft.png'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user
        return Path(path)


def write_whole(path: Path, data: bytes | Iterable[bytes], *, synced: bool = False, alone: bool = False) -> Path:
    """Write `data`, or its pieces, beside `path` and rename it into place; a missing folder is made. Returns the path.

    Args:
        synced: wait until the disk holds it, so that not even a machine that stops takes it back.
        alone: nobody else writes to this path: what a killed writer left half written is written over the next time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if alone:
        name = str(path.with_name(f".{path.name}.part"))
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o644)
    else:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            if synced:
                file.flush()
                os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp's files are the owner's alone
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if synced:
        sync_folder(path.parent)
    return path


def link_whole(path: Path, other: Path) -> None:
    """The file `other` under the name `path` too, as a link where the disk knows them, else as a copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.hardlink_to(other)
    except OSError:
        write_whole(path, other.read_bytes(), synced=True)
    else:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the disk holds which files are in a folder; Windows has no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def disk_errors_said(path: Path) -> Iterator[None]:
    """Turn what a disk answers into a sentence."""
    try:
        yield
    except OSError as error:
        raise WhycamError(
            f"{path} cannot be read or written: {error.strerror or error}. What it holds is kept: once that is put "
            "right the same call goes on."
        ) from error


def read_object(path: Path, name: str, wrong: str) -> dict[str, Any] | None:
    """What a JSON file of results holds: an object with another under `name`; `None` where there is no file.

    Args:
        wrong: what is said of a file that holds something else, after its path.

    Raises:
        WhycamError: it does, or the disk refuses.
    """
    with disk_errors_said(path):
        if not path.exists():
            return None
        data = path.read_bytes()
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get(name), dict):
        raise WhycamError(f"{path} {wrong}")
    return found


def head_of(schema: int, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of results begins with, as JSON gives it back: its schema, and what was asked."""
    return {"schema": schema, "asked": json.loads(json.dumps(dict(asked), default=str))}


def check_schema(path: Path, found: Any, schema: int) -> None:
    """Refuse a file of another schema."""
    if (theirs := found.get("schema")) != schema:
        raise WhycamError(f"{path} has schema {theirs}, and this version reads {schema}.")


def check_head(path: Path, found: Mapping[str, Any], head: Mapping[str, Any], holds: str, advice: str) -> None:
    """Refuse a file of results to something else, and say what differs."""
    check_schema(path, found, head["schema"])
    mine, theirs = head["asked"], found["asked"]
    if differ := [name for name in {**theirs, **mine} if mine.get(name) != theirs.get(name)]:
        said = "; ".join(f"{name} was {theirs.get(name)!r} and is {mine.get(name)!r}" for name in sorted(differ))
        raise WhycamError(f"{path} holds another {holds}: {said}. {advice}")


class Names:
    """Gives each thing a name of its own, so that no file overwrites another's."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def __call__(self, wanted: str) -> str:
        """The name, followed by `-2`, `-3`, ... where it was given out already."""
        name, number = wanted, 1
        while name.casefold() in self.taken:  # two names that differ in case are one file on some disks
            number += 1
            name = f"{wanted}-{number}"
        self.taken.add(name.casefold())
        return name


def digits(held: Iterable[bytes]) -> str:
    """Sixteen hexadecimal digits that tell these bytes from others."""
    return hashlib.sha256(b"".join(held)).hexdigest()[:16]


def from_json(value: float | None) -> float:
    """A number that `for_json` wrote, NaN where that was none."""
    return math.nan if value is None else value


def with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """What `dataclasses.asdict` made, as JSON gives it back, with the tuples that became lists there."""
    return {name: tuple(each) if isinstance(each, list) else each for name, each in values.items()}


def for_json(value: Any) -> Any:
    """What JSON can hold: paths as text, and null for NaN and infinity, where a status says what happened."""
    if isinstance(value, Mapping):
        return {str(name): for_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [for_json(each) for each in value]
    if isinstance(value, PurePath):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
