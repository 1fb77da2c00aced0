"""Preprocessing in other libraries' words, read as a `Preprocess` and checked against the library on the spot.

What a library does to a photo is read off its object's settings, not its class, as one or a few proposals. Pictures of
noise go through both; a proposal that makes the same numbers is taken, and if none does, the library's own function is
used and nobody claims to know where the input lies on the photo.
"""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whycam.errors import WhycamError
from whycam.models import composed, processors
from whycam.pictures.photos import read_photo
from whycam.pictures.preprocess import Preprocess

#: Wide and high, several of each, so that what is left over when the middle is cut out is odd in some and even in
#: others; and one that is larger than most inputs.
_NOISE = ((47, 80), (81, 50), (60, 101), (60, 102), (104, 61), (450, 301))
#: Far less than one level of a photo (at least 0.004), and more than the order of operations makes in float32.
_SAME = 2e-5


@dataclass(frozen=True)
class Foreign:
    """A library's own function from a photo to an input, whose geometry is not known."""

    function: Callable[[Image.Image], Any]
    name: str

    def __call__(self, image: Image.Image) -> Any:
        try:
            return self.function(image)
        except Exception as error:
            raise WhycamError(f"{self.name} cannot prepare this photo: {type(error).__name__}: {error}") from error

    def __str__(self) -> str:
        return f"photos are prepared by {self.name} itself, so where the input lies on the photo is not known"


@dataclass(frozen=True)
class NoPhotos:
    """Stands for the preprocessing of a network that takes something else than a photo."""

    reason: str

    def __call__(self, image: Image.Image) -> Any:
        raise WhycamError(self.reason)


def understood(given: Any) -> Any:
    """A transformers image processor or a torchvision or timm transform as a `Preprocess`; anything else as it is.

    Those that no `Preprocess` describes become `Foreign`, and those that make no picture `NoPhotos`.
    """
    if not processors.is_processor(given) and not composed.is_transform(given):
        return given
    # once for each object and its settings: to explain photos one by one is usual
    settings = repr(sorted(vars(given).items()))
    known = _SEEN.get(given)
    if known is None or known[0] != settings:
        is_chain = composed.is_transform(given)
        made = _read(composed.proposals(given), given, type(given).__name__) if is_chain else _processor(given)
        _SEEN[given] = known = (settings, made)
    return known[1]


#: What was read, by the object that it was read off and its settings then.
_SEEN: weakref.WeakKeyDictionary[Any, tuple[str, Any]] = weakref.WeakKeyDictionary()


def _processor(processor: Any) -> Any:
    inner = processors.image_processor(processor)
    name = type(inner).__name__

    def prepare(image: Image.Image) -> Any:
        return inner(images=image, return_tensors="pt")["pixel_values"][0]

    try:
        made = prepare(_picture(_NOISE[0]))
    except KeyError:
        return NoPhotos(f"{name} makes no picture of a photo; pass ready inputs, as a dict, in place of photos.")
    except Exception:  # settings that it cannot work with show when it is used
        return Foreign(prepare, name)
    if not isinstance(made, Tensor) or made.ndim != 3:
        return NoPhotos(
            f"{name} makes patches of a photo and no picture; pass ready inputs, as a dict, in place of photos."
        )
    return _read(processors.proposals(inner), prepare, name)


def _read(proposals: Iterable[Preprocess], function: Callable[[Image.Image], Any], name: str) -> Preprocess | Foreign:
    """The proposal that does what a function does."""
    wanted: dict[tuple[int, int], Any] = {}
    for proposal in proposals:
        if _same(proposal, function, wanted):
            return proposal
    return Foreign(function, name)


def _same(proposal: Preprocess, function: Callable[[Image.Image], Any], wanted: dict[tuple[int, int], Any]) -> bool:
    for size in _NOISE:
        picture = _picture(size)
        try:
            if size not in wanted:
                wanted[size] = function(picture)
            made, _ = proposal(read_photo(picture))
        except Exception:  # what one of them cannot do, they do not both do
            return False
        other = wanted[size]
        if not isinstance(other, Tensor) or other.shape != made.shape or other.dtype != made.dtype:
            return False
        if not torch.allclose(made, other, rtol=_SAME, atol=_SAME):
            return False
    return True


def _picture(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(size).integers(0, 256, (*size, 3), dtype=np.uint8))
