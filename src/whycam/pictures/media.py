"""What an input is that is no still picture: a signal, a spectrogram, a clip, a volume; and what its axes mean."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
from torch import Tensor

from whycam.errors import InputError


@dataclass(frozen=True)
class _Medium:
    """A ready batch, which goes where a tensor goes."""

    tensor: Tensor
    #: How many axes the batch may have, in words and in numbers.
    shapes: ClassVar[tuple[str, tuple[int, ...]]]

    def __post_init__(self) -> None:
        name, (shape, axes) = type(self).__name__, self.shapes
        if self.tensor.ndim not in axes:
            raise InputError(f"{name} holds a batch {shape}; this tensor has shape {tuple(self.tensor.shape)}.")
        rate = getattr(self, "rate", None)
        if rate is not None and not 0 < rate < float("inf"):
            raise InputError(f"rate is how many there are in a second, above 0; not {rate!r}.")


@dataclass(frozen=True)
class Signal(_Medium):
    """Signals, and how often they were sampled.

    Attributes:
        tensor: `(N, C, L)` or `(N, L)`.
        rate: samples in a second, for an axis in seconds; samples are counted without it.
        channels: what each channel is called.

    Examples:
        >>> whycam.Signal(torch.zeros(1, 2, 500), rate=250, channels=("I", "II")).rate
        250
    """

    rate: float | None = None
    channels: tuple[str, ...] = ()
    shapes = ("(N, C, L) or (N, L)", (2, 3))

    def __post_init__(self) -> None:
        super().__post_init__()
        count = self.tensor.shape[1] if self.tensor.ndim == 3 else 1
        if self.channels and len(self.channels) != count:
            raise InputError(f"{len(self.channels)} names came for {count} channels; give one for each.")


@dataclass(frozen=True)
class Spectrogram(_Medium):
    """Spectrograms, whose axes keep their own scales.

    Attributes:
        tensor: `(N, C, frequency, time)`, or with time first where `axes` says so.
        rate: columns of time in a second. `axes`: the names of the two; one of them is time.

    Examples:
        >>> whycam.Spectrogram(torch.zeros(1, 1, 200, 64), axes=("time", "frequency")).axes
        ('time', 'frequency')
    """

    rate: float | None = None
    axes: tuple[str, str] = ("frequency", "time")
    shapes = ("(N, C, frequency, time)", (4,))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axes.count("time") != 1:
            raise InputError(f"axes names the two axes of a spectrogram, one of them 'time'; not {self.axes!r}.")


@dataclass(frozen=True)
class Clip(_Medium):
    """Clips, and how many frames there are in a second.

    Attributes:
        tensor: `(N, C, T, H, W)`, or `(N, T, C, H, W)` for networks that take that.
        rate: frames in a second.

    Examples:
        >>> whycam.Clip(torch.zeros(1, 1, 16, 32, 32), rate=8).rate      # gray, which would else be a volume
        8
    """

    rate: float | None = None
    shapes = ("(N, C, T, H, W) or (N, T, C, H, W)", (5,))


@dataclass(frozen=True)
class Volume(_Medium):
    """A volume, and where it lies in the world.

    Attributes:
        tensor: `(N, C, D, H, W)`.
        affine: from a voxel's indices (i, j, k) in its file to the world, in millimeters, 4 x 4; the whole numbers are
            centers of voxels. Without one the indices are the world.
        order: which of the file's axes D, H and W are: `"kji"`, as in SimpleITK's arrays, or `"ijk"`, as MONAI loads.
        path: where it was read from.

    Examples:
        >>> volume = whycam.Volume(torch.zeros(1, 1, 24, 32, 32), np.diag([1, 1, 3, 1]))
        >>> volume.spacing, volume.axes
        ((3.0, 1.0, 1.0), ('axial', 'coronal', 'sagittal'))
    """

    affine: np.ndarray | None = None
    order: str = "kji"
    path: Path | None = None
    shapes = ("(N, C, D, H, W)", (5,))

    def __post_init__(self) -> None:
        super().__post_init__()
        if sorted(self.order) != ["i", "j", "k"]:
            raise InputError(
                f"order says which of i, j and k the axes D, H and W are, such as 'kji'; not {self.order!r}."
            )
        if self.affine is not None and np.shape(self.affine) != (4, 4):
            raise InputError(f"an affine is 4 x 4, not of shape {np.shape(self.affine)}.")

    @property
    def file_axes(self) -> tuple[int, ...]:
        """For each of the file's axes i, j, k which one of D, H, W it is."""
        return tuple(map(self.order.index, "ijk"))

    @property
    def spacing(self) -> tuple[float, ...]:
        """The distances between the centers of voxels, along D, H and W."""
        lengths = np.linalg.norm(self._affine[:3, :3], axis=0)
        return tuple(float(lengths["ijk".index(axis)]) for axis in self.order)

    @property
    def axes(self) -> tuple[str, ...]:
        """What the slices across D, H and W are called: by the world's axis nearest to each, where that is known."""
        if self.affine is None:
            return "depth", "height", "width"
        nearest = np.abs(self._affine[:3, :3] / np.linalg.norm(self._affine[:3, :3], axis=0)).argmax(0)
        return tuple(("sagittal", "coronal", "axial")[nearest["ijk".index(axis)]] for axis in self.order)

    @property
    def _affine(self) -> np.ndarray:
        return np.eye(4) if self.affine is None else np.asarray(self.affine, float)

    def affine_of(self, cells: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
        """The affine of a grid of so many `cells` that covers the same space as `size` voxels; both along D, H, W.

        A cell of s voxels has its center `(s - 1) / 2` voxels past the center of the first of them.
        """
        steps = np.array([size[axis] / cells[axis] for axis in self.file_axes])
        place = np.diag([*steps, 1.0])
        place[:3, 3] = (steps - 1) / 2
        affine: np.ndarray = self._affine @ place
        return affine


Medium: TypeAlias = Signal | Spectrogram | Clip | Volume


def medium_of(picture: Tensor, space: tuple[int, ...]) -> Medium | None:
    """What an input is of which only its axes are known; `None` for pictures.

    One axis of space is a signal. Three are a clip where the frames stand before the channels or there are three
    colors, and a volume otherwise.
    """
    if len(space) == 1:
        return Signal(picture)
    if len(space) == 3 and picture.ndim == 5:
        return Clip(picture) if space[0] == 1 or picture.shape[1] == 3 else Volume(picture)
    return None
