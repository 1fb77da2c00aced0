"""What the network was shown: its inputs and, where known, the photos they were made from and how."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from whycam.pictures.geometry import Geometry
from whycam.pictures.measured import Measured
from whycam.pictures.photos import Photo
from whycam.pictures.preprocess import Preprocess


@dataclass(frozen=True)
class InputContext:
    """What the network was shown.

    Attributes:
        inputs: the (first) input, `(batch, channel, *space)`, or with its axes as the model takes them.
        space: which of its axes are space or time, in order; those after the second unless told.
        photos: the photos it was made from, one for each sample, if any.
        geometries: how each input lies on its photo, where that is known.
        preprocess: for turning the inputs back into pictures: what made them, or what was measured of that.
        note: why it is not known how the inputs lie on the photos, if so.
    """

    inputs: Tensor
    photos: tuple[Photo, ...] | None = None
    geometries: tuple[Geometry, ...] | None = None
    preprocess: Preprocess | Measured | None = None
    note: str = ""
    space: tuple[int, ...] | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """The inputs' spatial size; of a clip the frames come first."""
        shape = self.inputs.shape
        return tuple(shape[2:]) if self.space is None else tuple([shape[axis] for axis in self.space])

    def __getitem__(self, index: slice) -> "InputContext":
        """The context of those samples."""
        cut: Any = {name: None if value is None else value[index] for name, value in vars(self).items() if name in _CUT}
        return replace(self, **cut)

    def name(self, sample: int) -> str:
        """A short name for the sample: its photo's, or its number."""
        return self.photos[sample].name if self.photos is not None else f"sample{sample}"


_CUT = ("inputs", "photos", "geometries")
