"""Whatever a caller may pass as a model, as a `VisionModel`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

from whycam.errors import ModelError
from whycam.models.load import load
from whycam.models.objects import from_module
from whycam.models.sources import adopted
from whycam.models.vision_model import PreprocessLike, VisionModel, as_labels
from whycam.network.unwrap import unwrapped, what_instead

#: A module, a model of another framework (any callable), a `VisionModel`, or a spec. Type checkers see more than runs,
#: since a wrong argument is to get a sentence.
if TYPE_CHECKING:
    ModelLike: TypeAlias = str | VisionModel | Callable[..., Any]
else:
    ModelLike = Any
Labels: TypeAlias = Sequence[str] | Mapping[int, str]


def as_vision_model(
    model: ModelLike, preprocess: PreprocessLike | None = None, labels: Labels | None = None
) -> VisionModel:
    """Whatever a caller may pass as `model`, with what the caller says of its preprocessing and labels."""
    vision = load(model) if isinstance(model, str) else model if isinstance(model, VisionModel) else adopted(model)
    if vision is None and isinstance(model, nn.Module):
        inner = unwrapped(model)
        vision = replace(from_module(inner, type(inner).__name__), module=model)
    if vision is None:
        raise ModelError(
            f"model must be a torch.nn.Module, a Keras model, a VisionModel or a spec such as 'builtin', not "
            f"{type(model).__name__}." + what_instead(model)
        )
    if preprocess is not None:
        vision = replace(vision, preprocess=preprocess, preprocess_note="")
    if labels is not None:
        vision = replace(vision, labels=as_labels(labels))
    return vision
