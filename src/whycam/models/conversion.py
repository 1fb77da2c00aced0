"""What callers pass as `preprocess=`, as a function from a picture to an input."""

from dataclasses import dataclass
from typing import Any

from PIL import Image

from whycam.errors import ModelError


@dataclass(frozen=True)
class NoPhotos:
    """Stands for the preprocessing of a network that takes something else than a photo."""

    reason: str

    def __call__(self, image: Image.Image) -> Any:
        raise ModelError(self.reason)


@dataclass(frozen=True)
class ByProcessor:
    """An image processor of transformers' as a function from a picture to an input."""

    processor: Any

    def __call__(self, image: Image.Image) -> Any:
        made = self.processor(images=image, return_tensors="pt").get("pixel_values")
        if made is None or made[0].ndim != 3:
            raise ModelError(
                f"{self} makes no picture of a photo ({'other numbers' if made is None else 'patches'}); pass ready "
                "inputs, as a dict, in place of photos."
            )
        return made[0]

    def __str__(self) -> str:
        return type(self.processor).__name__


def as_function(given: Any) -> Any:
    """An image processor of transformers', or a processor that holds one, as a function; anything else as it is."""
    half = getattr(given, "image_processor", given)
    kinds = {each.__name__ for each in type(half).__mro__ if each.__module__.startswith("transformers.")}
    return ByProcessor(half) if "ImageProcessingMixin" in kinds else given


def name_of(function: Any) -> str:
    """What to call a function from a picture to an input in a sentence."""
    named = function if isinstance(function, ByProcessor) else getattr(function, "__name__", type(function).__name__)
    return str(named)
