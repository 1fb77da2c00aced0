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
from whycam.kit.files import Names, digits, for_json, write_whole
from whycam.pictures import nifti
from whycam.pictures.encoding import encoded
from whycam.pictures.films import to_gif, to_mp4
from whycam.pictures.media import Clip, Volume
from whycam.pictures.photos import Photo
from whycam.pictures.preprocess import Preprocess
from whycam.results.drawing import film, overlay
from whycam.results.heat import context_of
from whycam.results.look import Look
from whycam.results.values import ExplanationValues

#: Of the JSON files; raised when a reader of the old form would misread the new one.
SCHEMA = 1
_FILMS = {".gif": to_gif, ".mp4": to_mp4}
_FILES = {".png", ".jpg", ".jpeg", ".webp", ".npy", ".json"}


def save(explanation: ExplanationValues, path: Path, look: Look, resolution: str = "map") -> list[Path]:
    """Write a film, a NIfTI file or a folder, as the path's ending says; see `Explanation.save`."""
    if path.is_dir():
        return _save_folder(explanation, path, look)
    if path.suffix.lower() in _FILMS:
        rate = getattr(context_of(explanation).medium(0), "rate", None)
        return [write_whole(path, _FILMS[path.suffix.lower()](film(explanation, look), rate))]
    if path.name.lower().endswith(nifti.ENDINGS):
        if len(explanation) > 1:
            raise WhycamError(
                f"{path} holds one map, and there are {len(explanation)}; save one, such as e[0].save(...)."
            )
        return [_save_nifti(explanation, path, resolution)]
    return _save_folder(explanation, path, look)


def _save_nifti(one: ExplanationValues, path: Path, resolution: str) -> Path:
    """A map where it lies in the world, at the layer's own size or at the input's."""
    context = context_of(one)
    volume = context.medium(0)
    if not isinstance(volume, Volume) or one.maps.ndim != 4:
        raise WhycamError(
            f"{path}: NIfTI files hold maps of volumes; pass whycam.Volume(tensor), or what whycam.read_volume gives."
        )
    if resolution not in ("map", "input"):
        raise WhycamError(f"resolution is 'map' or 'input', not {resolution!r}.")
    values = (one.maps if resolution == "map" else one.heatmaps(normalize="none"))[0]
    compress = path.suffix.lower() == ".gz"
    return write_whole(path, nifti.to_nifti(values, volume, context.size, compress=compress))


def _save_folder(explanation: ExplanationValues, folder: Path, look: Look) -> list[Path]:
    """Write three files for each sample: `NAME.METHOD.overlay.png`, `NAME.METHOD.map.npy` and `NAME.METHOD.json`.

    NAME is the photo's, or `sample0`; samples of one name are told apart by `-2`, `-3`. The map is raw, float32, at the
    layer's own size. Its parts, where it has some, are in `NAME.METHOD.parts.npy`, one after the other. The overlay of
    a clip is a GIF; there is none for maps that are not pictures. Each file is whole or absent.
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
        medium = one.context.medium(0) if one.context is not None else None
        if one.context is not None and explanation.maps.ndim - 1 == len(one.context.size) > 1:
            if isinstance(medium, Clip):
                written.append(write_whole(_with(stem, ".overlay.gif"), to_gif(film(one, look), medium.rate)))
            else:
                written.append(write_whole(_with(stem, ".overlay.png"), encoded(overlay(one, look), "png")))
        if isinstance(medium, Volume) and medium.affine is not None and explanation.maps.ndim == 4:
            written.append(_save_nifti(one, _with(stem, ".map.nii.gz"), "map"))
        arrays = {"map": one.maps, "parts": one.parts}
        for kind, values in arrays.items():
            if values is not None:
                data = io.BytesIO()
                np.save(data, values[0].cpu().numpy())
                written.append(write_whole(_with(stem, f".{kind}.npy"), data.getvalue()))
        text = json.dumps(record(explanation, i), indent=2, ensure_ascii=False, allow_nan=False)
        written.append(write_whole(_with(stem, ".json"), text.encode("utf-8", "backslashreplace") + b"\n"))
    return written


def record(explanation: ExplanationValues, sample: int) -> dict[str, Any]:
    """How one sample's map came about, as plain values that JSON can hold."""
    if not -len(explanation) <= sample < len(explanation):
        raise WhycamError(f"sample {sample} of {len(explanation)}")
    one = explanation[sample]
    context = one.context
    photo = context.photos[0] if context is not None and context.photos is not None else None
    medium = context.medium(0) if context is not None else None
    geometry = context.geometries[0] if context is not None and context.geometries is not None else None
    values = {
        "schema": SCHEMA,
        "model": one.model,
        "weights": one.provenance.get("weights"),
        "command": one.provenance.get("command"),
        "preprocess": asdict(context.preprocess)
        if context is not None and isinstance(context.preprocess, Preprocess) else None,
        "photo": str(photo.path) if photo is not None and photo.path is not None else None,
        "photo_content": None if photo is None else content_of(photo),
        "photo_notes": list(photo.notes) if photo is not None else [],
        "prediction": asdict(one.predictions[0]) if one.predictions else None,
        "target": one.target[0] if one.target else None,
        "score": float(one.scores[0]),
        "method": one.method,
        "title": one.title,
        "options": {name: plain_option(value) for name, value in one.options.items()},
        "layer": asdict(one.layer),
        "status": {"kind": one.status[0].kind, "message": one.status[0].message},
        "map": {"shape": list(one.maps.shape[1:]), "min": float(one.maps.min()),
                "max": float(one.maps.max())},
        "parts": {"shape": list(one.parts.shape[1:])} if one.parts is not None else None,
        "values": {name: float(value[0]) for name, value in one.values.items()},
        "geometry": asdict(geometry) if geometry is not None else None,
        "volume": {"path": medium.path, "order": medium.order, "affine": np.asarray(medium.affine).tolist()}
        if isinstance(medium, Volume) and medium.affine is not None else None,
        "cost": asdict(one.cost),
        "notes": list(one.notes),
        "versions": {"whycam": whycam.__version__, "torch": torch.__version__},
    }  # fmt: skip
    plain: dict[str, Any] = for_json(values)
    return plain


def content_of(photo: Photo) -> str | None:
    """Digits by which a photo's file is known again; none where there is no file."""
    if photo.content or photo.path is None:
        return photo.content or None
    try:
        return digits([photo.path.read_bytes()])
    except OSError:  # it is gone
        return None


def _with(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


def plain_option(value: Any) -> Any:
    """An option's value as JSON can hold it, or how it is spelled."""
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
