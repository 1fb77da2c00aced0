"""What the network was shown: its inputs and, where known, the photos they were made from and how."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import Enlarge, resize
from whycam.pictures.geometry import Geometry
from whycam.pictures.measured import Measured
from whycam.pictures.media import Medium, Volume, medium_of
from whycam.pictures.photos import Photo, name_of
from whycam.pictures.preprocess import Preprocess


@dataclass(frozen=True)
class InputContext:
    """What the network was shown.

    Attributes:
        inputs: the (first) input, `(batch, channel, *space)`, or with its axes as the model takes them.
        canvas: for each sample, how many of the input's own heights and widths the layers cover, where a detector pads
            it inside; the input lies at the top left.
        space: which of its axes are space or time, in order; those after the second unless told.
        photos: the photos it was made from, one for each sample, if any.
        geometries: how each input lies on its photo, where that is known.
        preprocess: for turning the inputs back into pictures: what made them, or what was measured of that.
        media: what each sample is, where that was said: a signal, a spectrogram, a clip, a volume.
        note: why it is not known how the inputs lie on the photos, if so.
    """

    inputs: Tensor
    photos: tuple[Photo, ...] | None = None
    geometries: tuple[Geometry, ...] | None = None
    preprocess: Preprocess | Measured | None = None
    note: str = ""
    space: tuple[int, ...] | None = None
    canvas: tuple[tuple[float, float], ...] | None = None
    media: tuple[Medium, ...] | None = None

    def enlarged(
        self, maps: Float[Tensor, "batch *spatial"], size: Sequence[int], enlarge: Enlarge = "bilinear"
    ) -> Float[Tensor, "batch *size"]:
        """A layer's maps over the input, at a size of it; what lies on padding inside the network is cut off."""
        if self.canvas is None:
            return resize(maps, size, enlarge)
        made = []
        for each, factors in zip(maps, self.canvas, strict=True):
            whole = [round(side * factor) for side, factor in zip(size, factors, strict=True)]
            made.append(resize(each[None], whole, enlarge)[0, : size[0], : size[1]])
        return torch.stack(made)

    def on_padding(self, maps: Float[Tensor, "batch height width"]) -> Float[Tensor, " batch"] | None:
        """The share of each map's positive part that lies on padding; `None` where nothing is padded.

        Padding is what a letterbox puts around a photo, and what a detector puts beside its input.
        """
        if self.canvas is None and self.geometries is None:
            return None
        filled = [self._filled(sample) for sample in range(len(maps))]
        if all(each == ((0.0, 1.0), (0.0, 1.0)) for each in filled):
            return None
        shares = []
        for each, spans in zip(maps.relu(), filled, strict=True):
            inside = each
            for axis, (length, (start, stop)) in enumerate(zip(each.shape, spans, strict=True)):
                cells = torch.arange(length, device=maps.device)
                covered = ((cells + 1).clamp(max=stop * length) - cells.clamp(min=start * length)).clamp(min=0)
                inside = inside * covered.reshape(-1, *[1] * (1 - axis))
            shares.append(1 - inside.sum() / each.sum() if bool(each.any()) else each.sum())
        return torch.stack(shares)

    def _filled(self, sample: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """From where to where the photo reaches on what a layer covers, down and across, of 0 to 1."""
        down, across = (1.0, 1.0) if self.canvas is None else self.canvas[sample]
        if self.geometries is None:
            return (0.0, 1 / down), (0.0, 1 / across)
        geometry = self.geometries[sample]
        (top, left, bottom, right), (height, width) = geometry.content, geometry.input_size
        return (top / height / down, bottom / height / down), (left / width / across, right / width / across)

    @property
    def size(self) -> tuple[int, ...]:
        """The inputs' spatial size; of a clip the frames come first."""
        shape = self.inputs.shape
        return tuple(shape[2:]) if self.space is None else tuple([shape[axis] for axis in self.space])

    def __getitem__(self, index: slice) -> "InputContext":
        """The context of those samples."""
        cut: Any = {name: None if value is None else value[index] for name, value in vars(self).items() if name in _CUT}
        return replace(self, **cut)

    def medium(self, sample: int) -> Medium | None:
        """What a sample is that is no picture, as it was said or by its axes."""
        if self.media is not None:
            return self.media[sample]
        return medium_of(self.inputs, self.space or tuple(range(2, self.inputs.ndim)))

    def name(self, sample: int) -> str:
        """A short name for the sample: its photo's, or its number."""
        if self.photos is not None:
            return self.photos[sample].name
        medium = self.medium(sample)
        path = medium.path if isinstance(medium, Volume) else None
        return f"sample{sample}" if path is None else name_of(path.with_suffix("") if path.suffix == ".gz" else path)


_CUT = ("inputs", "photos", "geometries", "canvas", "media")
