"""Volumes and clips as pictures: slices of the input under slices of the map, all on one scale of colors."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from whycam.pictures.marks import marked
from whycam.pictures.media import Clip, Medium, Volume

#: The most frames of a clip side by side.
_FRAMES = 8
#: The share of a map that is written as 0%.
_NOTHING = 0.005


@dataclass(frozen=True)
class Stack:
    """One sample of three spatial axes.

    Attributes:
        pixels: the input's colors. `heat`: the scaled map, or one of each part, at the input's size.
        strength: what speaks in the map, not negative, at the map's own size.
        at: the voxel that cuts go through, if not the peak. `region`: what is explained, to be outlined.
        medium: what the sample is. `lay`: draws a slice of the heat over a slice of the input.
        outline: where the map is bright, likewise to be outlined.
    """

    pixels: UInt8[np.ndarray, "depth height width 3"]
    heat: Tensor
    strength: Tensor
    medium: Medium | None
    lay: Callable[..., Image.Image]
    at: tuple[int, ...] | None = None
    region: Bool[np.ndarray, "depth height width"] | None = None
    outline: Bool[Tensor, "depth height width"] | None = None

    def picture(self, axis: int, index: int) -> Image.Image:
        """One slice, across that axis; voxels have the shape that they have in the world."""
        image = Image.fromarray(np.ascontiguousarray(self.pixels.take(index, axis)))
        how: dict[str, Any] = {}
        if self.outline is not None:
            how["outline"] = self.outline.select(axis, index)
        if self.region is not None:
            how["mark"] = partial(marked, place=lambda x, y: (x, y), region=self.region.take(index, axis))
        laid = self.lay(image, self.heat.select(axis - 3, index), **how)
        if not isinstance(self.medium, Volume):
            return laid
        down, across = (length for each, length in enumerate(self.medium.spacing) if each != axis)
        least = min(down, across)
        size = (round(laid.width * across / least), round(laid.height * down / least))
        return laid if size == laid.size else laid.resize(size, Image.Resampling.NEAREST)

    def frames(self) -> list[Image.Image]:
        """Every slice across the first axis."""
        return [self.picture(0, index) for index in range(len(self.pixels))]

    def shown(self) -> list[tuple[int, int]]:
        """Axis and index of the slices that stand for all: frames at even distances, or the three cuts at the peak."""
        if not isinstance(self.medium, Clip):
            return list(enumerate(self.at or self.peak))
        edges = np.linspace(0, len(self.pixels), min(_FRAMES, len(self.pixels)) + 1)
        return [(0, int((start + end) / 2)) for start, end in pairwise(edges)]

    @property
    def peak(self) -> tuple[int, ...]:
        """The voxel in the middle of the strongest cell; of the whole where none is strong."""
        if not self.strength.any():
            return tuple(side // 2 for side in self.pixels.shape[:3])
        cell = torch.unravel_index(self.strength.argmax(), self.strength.shape)
        return tuple(self._middle(axis, int(number)) for axis, number in enumerate(cell))

    def strongest(self, axis: int, count: int) -> dict[int, float]:
        """Of the map's own slices across an axis those with most in them: the index of the slice of the input in the
        middle of each, in order, and its share of the whole map, where that is not nothing.
        """
        shares = self.strength.sum([each for each in range(3) if each != axis])
        shares = shares / shares.sum().clamp(min=torch.finfo(shares.dtype).tiny)
        found = sorted(shares.topk(min(count, len(shares))).indices.tolist())
        return {self._middle(axis, cell): float(shares[cell]) for cell in found if shares[cell] >= _NOTHING}

    def name(self, axis: int, index: int) -> str:
        """A slice in words: when or where it is."""
        if isinstance(self.medium, Clip):
            rate = self.medium.rate
            return f"frame {index}" if rate is None else f"{index / rate:.2f} s"
        names = self.medium.axes if isinstance(self.medium, Volume) else ("depth", "height", "width")
        return f"{names[axis]} {index} of {self.pixels.shape[axis]}"

    def _middle(self, axis: int, cell: int) -> int:
        return int((cell + 0.5) * self.pixels.shape[axis] / self.strength.shape[axis])
