"""Photos that `whycam explain` could not explain, kept in its folder beside the maps of the others."""

import json
from collections.abc import Mapping, Set
from pathlib import Path

from whycam.kit.files import check_schema, disk_errors_said, read_object, write_whole

NAME = "not-explained.json"
_SCHEMA = 1


def keep_left_out(folder: Path, explained: Set[str], failures: Mapping[str, str]) -> None:
    """Write which photos have no map, with the reasons; those that an earlier call left out stay until they have one.

    Raises:
        WhycamError: the disk refuses, or the folder has a file of that name that is none of these.
    """
    known = left_out(folder)
    now = {photo: why for photo, why in known.items() if photo not in explained} | dict(failures)
    path = folder / NAME
    with disk_errors_said(path):
        if now:
            write_whole(path, json.dumps({"schema": _SCHEMA, "photos": now}, indent=1).encode() + b"\n")
        elif known:
            path.unlink()


def left_out(folder: Path) -> dict[str, str]:
    """The photos without a map, and why.

    Raises:
        WhycamError: the file is none of these, or the disk refuses.
    """
    path = folder / NAME
    found = read_object(path, "photos", "is no list of photos that were not explained; move it away.")
    if found is None:
        return {}
    check_schema(path, found, _SCHEMA)
    return {str(photo): str(why) for photo, why in found["photos"].items()}
