"""What a run was asked, kept beside its rows, so that rows of another configuration never get among them."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import whycam
from whycam.errors import WhycamError
from whycam.kit.files import check_head, check_schema, disk_errors_said, head_of, read_object, write_whole

#: Of the manifest and the shards; raised when a reader of the old form would misread the new one.
SCHEMA = 1
NAME = "run.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the run in a folder was asked.

    Raises:
        WhycamError: there is none, or one of another schema.
    """
    found = _found(folder)
    if found is None:
        raise WhycamError(f"{folder} holds no run: there is no {NAME}. Pass the folder that a run was written to.")
    check_schema(folder / NAME, found, SCHEMA)
    asked: dict[str, Any] = found["asked"]
    return asked


def read_said(folder: Path) -> dict[str, Any]:
    """What is kept beside what was asked: the `versions`, the photos' `source`, the `command` if there was one, and
    why maps are made at their `layers`.
    """
    return {name: each for name, each in (_found(folder) or {}).items() if name not in ("schema", "asked")}


def keep_said(folder: Path, **said: str | Mapping[str, str]) -> None:
    """Keep more beside what was asked; what is said there already stays."""
    found = _found(folder)
    if found is not None and said.keys() - found.keys():
        data = json.dumps({**said, **found}, indent=1).encode() + b"\n"
        with disk_errors_said(folder):
            write_whole(folder / NAME, data, synced=True)


def write_manifest(folder: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Write what is asked; or check that it is what the folder's run was asked. Returns it as it is kept.

    Raises:
        WhycamError: the folder holds a run of something else; what differs is said.
    """
    head = head_of(SCHEMA, asked)
    found = _found(folder)
    if found is None:
        with disk_errors_said(folder):
            written = {**head, "versions": {"whycam": whycam.__version__, "torch": version("torch")}}
            write_whole(folder / NAME, json.dumps(written, indent=1).encode() + b"\n", synced=True)
    else:
        advice = "Ask the same, take another folder, or pass --new (new=True), which starts beside it."
        check_head(folder / NAME, found, head, "run", advice)
    kept: dict[str, Any] = head["asked"]
    return kept


def beside(folder: Path) -> Path:
    """The first of `folder`, `folder-2`, `folder-3`, ... that holds no run."""
    number, free = 1, folder
    while (free / NAME).exists():
        number += 1
        free = folder.absolute().with_name(f"{folder.name}-{number}")
    return free


def _found(folder: Path) -> dict[str, Any] | None:
    return read_object(folder / NAME, "asked", "is no manifest of a run; take another folder.")
