"""Where the targets are, as files say it in pixels of the photos, brought to the network's inputs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whycam.errors import WhycamError

if TYPE_CHECKING:
    from torch import Tensor

    from whycam.models.vision_model import VisionModel
    from whycam.pictures.geometry import Geometry
else:
    Geometry = Tensor = VisionModel = Any  # bring torch


def read_boxes(path: Path, photos: Sequence[Path], vision: VisionModel) -> list[list[list[float]]]:
    """For each photo its boxes in pixels of the input, clipped to what the network sees; what is outside is left out.

    Raises:
        WhycamError: a file of another form, one that names none of the photos, or a model of which it is not known
            where its input lies on a photo.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = " (Detected boxes are targets: -t boxes:0.3.)" if path.name.replace(".", "").isdigit() else ""
        raise WhycamError(
            f"--boxes is a JSON file, and {path} cannot be read: {getattr(error, 'strerror', None) or error}.{hint}"
        ) from None
    if not isinstance(held, dict) or not all(map(_is_boxes, held.values())):
        raise WhycamError(
            f"--boxes {path} holds for each photo's name a box [left, top, right, bottom] in its pixels, or several: "
            '{"cat.jpg": [[10, 20, 110, 90]]}, where none ends before it begins.'
        )

    def own(photo: Path) -> list[list[float]]:
        found: Any = held.get(photo.name, held.get(photo.stem, []))
        return [found] if found and not isinstance(found[0], list) else list(found)

    if not any(map(own, photos)):
        raise WhycamError(f"--boxes {path} names none of the photos; it has {', '.join(list(held)[:3]) or 'nothing'}.")
    return [
        [box for each in own(photo) if (box := _clipped(each, geometry))] if geometry is not None else []
        for photo, geometry in zip(photos, _geometries(photos, vision), strict=True)
    ]


def read_masks(folder: Path, photos: Sequence[Path], vision: VisionModel) -> list[Tensor]:
    """For each photo its mask at the input's pixels; a photo without one has an empty one.

    Raises:
        WhycamError: no mask of any photo, one of another size than its photo's, or as for boxes.
    """
    from whycam.pictures.photos import PHOTO_SUFFIXES

    if not folder.is_dir():
        raise WhycamError(f"--masks is a folder of pictures named as the photos are; {folder} is none.")
    held = {each.stem: each for each in sorted(folder.iterdir()) if each.suffix.lower() in PHOTO_SUFFIXES}
    if not any(photo.stem in held for photo in photos):
        raise WhycamError(f"--masks {folder} has no picture that is named as one of the photos.")
    return [
        _mask(held.get(photo.stem), geometry)
        for photo, geometry in zip(photos, _geometries(photos, vision), strict=True)
    ]


def _is_boxes(value: Any) -> bool:
    def is_box(each: Any) -> bool:
        numbers = isinstance(each, list) and len(each) == 4 and all(isinstance(n, (int, float)) for n in each)
        return numbers and each[0] <= each[2] and each[1] <= each[3]

    return is_box(value) or (isinstance(value, list) and all(map(is_box, value)))


def _geometries(photos: Sequence[Path], vision: VisionModel) -> list[Geometry | None]:
    """Where the input made of each photo lies on it; `None` for what cannot be read, which is listed later."""
    from whycam.engine.inputs import make_batch
    from whycam.errors import PhotoError

    made: list[Geometry | None] = []
    for photo in photos:
        try:
            context = make_batch(vision, photo).context
        except PhotoError:
            made.append(None)
            continue
        if context.geometries is None:
            raise WhycamError(f"{context.note}. Call whycam.evaluate with boxes or masks in the input's pixels.")
        made.append(context.geometries[0])
    return made


def _clipped(box: Sequence[float], geometry: Geometry) -> list[float]:
    """A box in the input's pixels; empty where the network sees nothing of it."""
    (down, across), (y, x) = geometry.offset, geometry.scale
    top, left, bottom, right = geometry.content
    made = [
        max((box[0] - across) / x, left), max((box[1] - down) / y, top),
        min((box[2] - across) / x, right), min((box[3] - down) / y, bottom),
    ]  # fmt: skip
    return made if made[0] < made[2] and made[1] < made[3] else []


def _mask(path: Path | None, geometry: Geometry | None) -> Tensor:
    """The mask's pixel at the center of each of the input's; empty where there is no mask."""
    import numpy as np
    import torch

    from whycam.pictures.photos import read_photo

    if geometry is None:
        return torch.zeros(1, 1, dtype=torch.bool)
    if path is None:
        return torch.zeros(geometry.input_size, dtype=torch.bool)
    mask = read_photo(path)
    if mask.size != geometry.photo_size:
        raise WhycamError(
            f"{path} is {mask.size[0]} x {mask.size[1]} and its photo {geometry.photo_size[0]} x "
            f"{geometry.photo_size[1]}; a mask has its photo's size."
        )
    held = torch.from_numpy(np.array(mask.image).max(-1) > 0)
    top, left, bottom, right = geometry.content
    places = []
    for axis, (first, last) in enumerate(((top, bottom), (left, right))):
        centers = torch.arange(geometry.input_size[axis], dtype=torch.float64) + 0.5
        index = (centers * geometry.scale[axis] + geometry.offset[axis]).floor().long()
        places.append((index.clamp(0, held.shape[axis] - 1), (centers > first) & (centers < last)))
    (rows, in_rows), (columns, in_columns) = places
    return held[rows][:, columns] & in_rows[:, None] & in_columns
