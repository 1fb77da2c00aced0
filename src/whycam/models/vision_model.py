"""A network with what it takes to ask it about a photo: its preprocessing and its labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

from whycam.pictures.preprocess import Preprocess

#: `Preprocess`, whose geometry is known, or any function from a PIL image to a tensor `(channel, height, width)`.
PreprocessLike: TypeAlias = Preprocess | Callable[[Any], Any]


@dataclass(frozen=True)
class VisionModel:
    """A module, how a photo becomes its input, and what its classes are called.

    Attributes:
        module: the network. Nothing here changes it.
        preprocess: photo -> input; with a `Preprocess` the maps can be drawn on the original photo.
        labels: the classes' texts by index, if known.
        name: where it came from, for titles and records.
    """

    module: nn.Module
    preprocess: PreprocessLike | None = None
    labels: tuple[str, ...] | None = None
    name: str = ""
