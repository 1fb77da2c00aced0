"""Explanations as files: the overlay to look at, the raw map to compute with, and how they came about."""

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import whycam
from whycam.errors import WhycamError
from whycam.kit.files import Names, for_json, write_whole
from whycam.results.drawing import Look, overlay
from whycam.results.values import ExplanationValues

#: Of the JSON files; raised when a reader of the old form would misread the new one.
SCHEMA = 1
_FILES = {".png", ".jpg", ".jpeg", ".webp", ".npy", ".json"}


def save(explanation: ExplanationValues, folder: Path, look: Look) -> list[Path]:
    """Write three files for each sample: `NAME.METHOD.overlay.png`, `NAME.METHOD.map.npy` and `NAME.METHOD.json`.

    NAME is the photo's, or `sample0`; samples of one name are told apart by `-2`, `-3`. The map is raw, float32, at the
    layer's own size. Its parts, where it has some, are in `NAME.METHOD.parts.npy`, one after the other. There is no
    overlay for maps that are not pictures. Each file is whole or absent.
    """
    if folder.is_file() or (folder.suffix in _FILES and not folder.is_dir()):
        what = "a file" if folder.is_file() else "named like one"
        raise WhycamError(
            f"save writes several files into a folder, and {folder} is {what}; for one picture: .overlay().save(path)."
        )
    written = []
    names = Names()
    for i, one in enumerate(explanation):
        name = names(explanation.context.name(i) if explanation.context is not None else f"sample{i}")
        stem = folder / f"{name}.{explanation.method}"
        if explanation.maps.ndim == 3 and explanation.context is not None and len(explanation.context.size) == 2:
            picture = io.BytesIO()
            overlay(one, look).save(picture, "png")
            written.append(write_whole(_with(stem, ".overlay.png"), picture.getvalue()))
        arrays = {"map": one.maps, "parts": one.parts}
        for kind, values in arrays.items():
            if values is not None:
                data = io.BytesIO()
                np.save(data, values[0].cpu().numpy())
                written.append(write_whole(_with(stem, f".{kind}.npy"), data.getvalue()))
        text = json.dumps(record(explanation, i), indent=2, ensure_ascii=False, allow_nan=False)
        written.append(write_whole(_with(stem, ".json"), text.encode() + b"\n"))
    return written


def record(explanation: ExplanationValues, sample: int) -> dict[str, Any]:
    """How one sample's map came about, as plain values that JSON can hold."""
    if not -len(explanation) <= sample < len(explanation):
        raise WhycamError(f"sample {sample} of {len(explanation)}")
    one = explanation[sample]
    context = one.context
    photo = context.photos[0] if context is not None and context.photos is not None else None
    geometry = context.geometries[0] if context is not None and context.geometries is not None else None
    values = {
        "schema": SCHEMA,
        "model": one.model,
        "photo": str(photo.path) if photo is not None and photo.path is not None else None,
        "photo_notes": list(photo.notes) if photo is not None else [],
        "prediction": asdict(one.predictions[0]) if one.predictions else None,
        "target": one.target[0] if one.target else None,
        "score": float(one.scores[0]),
        "method": one.method,
        "title": one.title,
        "options": {name: _plain(value) for name, value in one.options.items()},
        "layer": asdict(one.layer),
        "status": {"kind": one.status[0].kind, "message": one.status[0].message},
        "map": {"shape": list(one.maps.shape[1:]), "min": float(one.maps.min()),
                "max": float(one.maps.max())},
        "parts": {"shape": list(one.parts.shape[1:])} if one.parts is not None else None,
        "values": {name: float(value[0]) for name, value in one.values.items()},
        "geometry": asdict(geometry) if geometry is not None else None,
        "cost": asdict(one.cost),
        "notes": list(one.notes),
        "versions": {"whycam": whycam.__version__, "torch": torch.__version__},
    }  # fmt: skip
    plain: dict[str, Any] = for_json(values)
    return plain


def _with(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
