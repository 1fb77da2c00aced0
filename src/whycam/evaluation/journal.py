"""A file that keeps what was measured, batch by batch, so that an evaluation goes on where it was stopped."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whycam.errors import WhycamError
from whycam.kit.files import check_head, disk_errors_said, for_json, from_json, head_of, write_whole

#: Of the file; raised when a reader of the old form would misread the new one.
SCHEMA = 1
NAME = "evaluation.jsonl"
ADVICE = "Ask the same, take another folder, or delete that file (whycam evaluate --again does)."


@dataclass
class Part:
    """What was measured of some samples; `samples` holds of each by its name a digest of what it is."""

    samples: Mapping[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[tuple[str, str, str, str, str], tuple[float, ...]] = field(default_factory=dict)
    at: dict[str, tuple[float, ...]] = field(default_factory=dict)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    forwards: int = 0
    deviation: float = 0.0


class Journal:
    """The parts of an evaluation, kept in a folder, or in memory where there is none.

    A line is written when its part is done and is whole or absent: what a killed run left half written is dropped.

    Attributes:
        wanted: the samples that are asked about now; a journal may hold others.

    Raises:
        WhycamError: the folder holds an evaluation of something else; what differs is said.
    """

    def __init__(self, folder: Path | None, asked: Mapping[str, Any]) -> None:
        self.path = None if folder is None else folder / NAME
        self.parts: list[Part] = []
        self.wanted: set[str] = set()
        if self.path is None:
            return
        with disk_errors_said(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        head = head_of(SCHEMA, asked)
        lines = _whole_lines(self.path)
        if lines:
            check_head(self.path, lines[0], head, "evaluation", ADVICE)
            self.parts = [_from_json(line) for line in lines[1:]]
        else:
            self._write(head)

    @property
    def samples(self) -> dict[str, str]:
        """The samples that need not be measured again, with the digest of each."""
        return {name: digest for part in self.parts for name, digest in part.samples.items()}

    @property
    def found(self) -> list[Part]:
        """What is known of the samples that are wanted."""
        return [part for part in self.parts if not part.samples or not part.samples.keys().isdisjoint(self.wanted)]

    def add(self, part: Part) -> None:
        """Keep a part. What failed is tried again the next time."""
        self.parts.append(part)
        if part.samples:
            self._write(_to_json(part))

    def _write(self, document: Mapping[str, Any]) -> None:
        if self.path is not None:
            with disk_errors_said(self.path), self.path.open("a") as file:
                file.write(json.dumps(document) + "\n")
                file.flush()
                os.fsync(file.fileno())


def _whole_lines(path: Path) -> list[Any]:
    """The lines of a journal; of the last one, which a killed run left half written, the file is rid."""
    if not path.exists():
        return []
    with disk_errors_said(path):
        held = path.read_bytes()
        whole = held[: held.rfind(b"\n") + 1]
        if whole != held:
            write_whole(path, whole)
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError:
        raise WhycamError(f"{path} is no journal of an evaluation; take another folder.") from None


def _to_json(part: Part) -> dict[str, Any]:
    return {
        "samples": part.samples,
        "rows": for_json(part.rows),
        "curves": [[*key, for_json(curve)] for key, curve in part.curves.items()],
        "at": part.at,
        "seconds": [[*key, value] for key, value in part.seconds.items()],
        "failures": part.failures,
        "notes": part.notes,
        "forwards": part.forwards,
        "deviation": part.deviation,
    }


def _from_json(found: Mapping[str, Any]) -> Part:
    return Part(
        found["samples"],
        [{**row, "value": from_json(row["value"])} for row in found["rows"]],
        {(a, b, c, d, e): tuple(map(from_json, curve)) for a, b, c, d, e, curve in found["curves"]},
        {name: tuple(points) for name, points in found["at"].items()},
        {(method, layer): value for method, layer, value in found["seconds"]},
        dict(found["failures"]),
        list(found["notes"]),
        found["forwards"],
        found["deviation"],
    )
