"""Explanations out of the folder that `Explanation.save` wrote, with their photos where these still are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whycam.errors import WhycamError
from whycam.kit.files import check_schema, disk_errors_said, from_json, with_tuples
from whycam.kit.status import Status
from whycam.pictures.geometry import Geometry
from whycam.pictures.input_context import InputContext
from whycam.pictures.photos import Photo, read_photo
from whycam.pictures.preprocess import preprocess_of
from whycam.results.saving import SCHEMA, content_of
from whycam.results.values import Cost, ExplanationValues, Layer, Prediction
from whycam.targets.resolved import Shown

#: What a record has that no other JSON file in a folder is likely to have.
_TOLD = {"schema", "method", "title", "layer", "status", "map"}


@dataclass(frozen=True)
class Reopened:
    """One map that was saved.

    Attributes:
        explanation: of one sample. `photo`: what it is called, by its path where it had one.
        missing: why it cannot be drawn over its photo, if so. `versions`: of the packages that made it.
    """

    explanation: ExplanationValues
    photo: str
    missing: str
    versions: Mapping[str, str]


def reopened(folder: Path) -> list[Reopened]:
    """What a folder holds, in the order of the names.

    Raises:
        WhycamError: one cannot be read.
    """
    with disk_errors_said(folder):
        return [one for path in sorted(folder.glob("*.json")) if (one := _one(path)) is not None]


def _one(path: Path) -> Reopened | None:
    """A record with its map; `None` for a file of another sort.

    Raises:
        WhycamError: it, or its map, is not as it was written.
    """
    beside = path.with_suffix(".map.npy")
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        held = None
    if not isinstance(held, dict) or not held.keys() >= _TOLD:
        if beside.exists():  # then it was a record
            raise _damaged(path)
        return None
    check_schema(path, held, SCHEMA)
    try:
        return _made(path, held, np.load(beside, allow_pickle=False))
    except WhycamError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, EOFError, FileNotFoundError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> WhycamError:
    return WhycamError(
        f"{path}, or the map beside it, is damaged or missing. Explain its photo again, or remove both files to leave "
        "it out."
    )


def _made(path: Path, held: Mapping[str, Any], numbers: np.ndarray) -> Reopened:
    maps = torch.from_numpy(numbers)[None]
    name = held["photo"] or path.name.removesuffix(f".{held['method']}.json")
    context, missing = _context(held)
    said, score = held["prediction"], from_json(held["score"])
    explanation = ExplanationValues(
        maps=maps,
        scores=torch.tensor([score]),
        predictions=() if said is None
        else (Prediction(said["index"], said["label"], from_json(said["probability"])),),
        target=() if held["target"] is None else (held["target"],),
        method=held["method"],
        title=held["title"],
        options=held["options"],
        layer=Layer(**with_tuples(held["layer"])),
        status=(Status(**held["status"]),),
        cost=Cost(**held["cost"]),
        outputs=torch.tensor([[score]]),
        notes=tuple(held["notes"]),
        shown=(Shown(),),
        model=held["model"],
        context=context,
        provenance={each: held.get(each) or "" for each in ("weights", "command")},
    )  # fmt: skip
    return Reopened(explanation, name, missing, held["versions"])


def _context(held: Mapping[str, Any]) -> tuple[InputContext | None, str]:
    """The photo that a record names, where it is the same still; else why there is none."""
    if held["photo"] is None or held["geometry"] is None:
        return None, "No photo is shown: " + (
            "the network was given numbers." if held["photo"] is None
            else "it is not known where the map lies on it."
        )  # fmt: skip
    geometry = Geometry(**with_tuples(held["geometry"]))
    photo: tuple[Photo, ...] | None = None
    missing = ""
    try:
        photo = (read_photo(held["photo"]),)
    except WhycamError as error:
        missing = f"The photo is not where it was: {error}."
    else:
        same = held.get("photo_content") in (None, content_of(photo[0]))
        if not same or photo[0].size != geometry.photo_size:
            photo, missing = None, f"{held['photo']} holds another photo than was explained."
    inputs = torch.zeros(1, 3, *geometry.input_size)
    return InputContext(inputs, photo, (geometry,), preprocess_of(held.get("preprocess"))), missing
