"""Files that lose nothing: written whole or not at all, and no two under one name."""

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any


def write_whole(path: Path, data: bytes) -> Path:
    """Write `data` beside `path` and rename it into place; a missing folder is made. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)  # mkstemp's files are the owner's alone
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


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


def from_json(value: float | None) -> float:
    """A number that `for_json` wrote, NaN where that was none."""
    return math.nan if value is None else value


def for_json(value: Any) -> Any:
    """What JSON can hold: paths as text, and null for NaN and infinity, where a status says what happened."""
    if isinstance(value, Mapping):
        return {str(name): for_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [for_json(each) for each in value]
    if isinstance(value, PurePath):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
