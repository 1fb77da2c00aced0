"""Where a map is bright, on what it explains: masks, boxes, and how much of the evidence lies in a place."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.errors import OptionError, WhycamError
from whycam.kit.arrays import Normalize
from whycam.kit.overlap import share_inside
from whycam.kit.regions import around_parts, within
from whycam.pictures.geometry import Geometry
from whycam.results.values import ExplanationValues


def masks(explanation: ExplanationValues, level: float, on: str) -> list[Bool[Tensor, "*space"]]:
    """What `Explanation.mask` returns."""
    return [above(each, level) for each in laid(explanation, on, normalize="max")]


def above(heat: Float[Tensor, "*space"], level: float) -> Bool[Tensor, "*space"]:
    """Where a map in [0, 1] is bright."""
    if not 0 <= level < 1:
        raise OptionError(f"level is a share of the map's maximum, from 0 to less than 1, not {level}.")
    return heat > level


def boxes(explanation: ExplanationValues, level: float, on: str) -> list[Float[Tensor, "_ 4"]]:
    """What `Explanation.boxes_around` returns."""
    found = masks(explanation, level, on)
    if found[0].ndim != 2:
        raise WhycamError(f"boxes lie in pictures, and these maps have {found[0].ndim} axes; mask() has any number.")
    return [around_parts(each) for each in found]


def shares(explanation: ExplanationValues, region: Any, on: str) -> Float[Tensor, " batch"]:
    """What `Explanation.share` returns."""
    maps = laid(explanation, on)
    one = [region] * len(maps) if _is_one(region, maps[0].ndim) else [*region]
    if len(one) != len(maps):
        raise OptionError(f"a region is one for all {len(maps)} samples, or one for each, and {len(one)} came.")
    pairs = [(heat, _mask(each, heat)) for heat, each in zip(maps, one, strict=True)]
    return torch.stack([share_inside(heat[None], mask[None])[0] for heat, mask in pairs])


def laid(
    explanation: ExplanationValues, on: str = "photo", longest: int | None = None, normalize: Normalize = "none"
) -> list[Float[Tensor, "*space"]]:
    """The positive part of each sample's map: on the photo, where its place there is known, else on the input.

    Args:
        longest: of the photo's sides, in pixels, if its own are not wanted.
    """
    if on not in ("photo", "input"):
        raise OptionError(f"on must be 'photo' or 'input', not {on!r}.")
    maps = explanation.heatmaps(normalize=normalize).cpu().clamp(min=0)
    geometries = explanation.context.geometries if explanation.context is not None else None
    if on == "input" or geometries is None:
        return [*maps]
    return [_within(each, longest).to_photo(heat)[0] for each, heat in zip(geometries, maps, strict=True)]


def _within(geometry: Geometry, longest: int | None) -> Geometry:
    shrink = 1.0 if longest is None else min(1.0, longest / max(geometry.photo_size))
    height, width = (max(1, round(side * shrink)) for side in geometry.photo_size)
    return geometry.on_photo_of((height, width))


def _is_one(region: Any, axes: int) -> bool:
    """Whether it is one region, a box or a mask, and not a list with one for each sample."""
    if isinstance(region, (list, tuple)):
        return not any(hasattr(each, "__len__") for each in region)
    return torch.as_tensor(region).ndim in (1, axes)


def _mask(region: Any, heat: Tensor) -> Bool[Tensor, "*space"]:
    made = torch.as_tensor(region)
    if made.shape == (4,) and heat.ndim == 2 and made.dtype != torch.bool:
        left, top, right, bottom = made.tolist()
        if left > right or top > bottom:
            raise OptionError(f"a box is left, top, right, bottom, and {made.tolist()} ends before it begins.")
        return within((left, top, right, bottom), heat.shape)
    if made.shape != heat.shape:
        raise OptionError(
            f"a region is a box (left, top, right, bottom in pixels) or a mask of shape {tuple(heat.shape)}, and what "
            f"came has shape {tuple(made.shape)}."
        )
    return made != 0
