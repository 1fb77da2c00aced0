"""`torchvision:NAME[/WEIGHTS]`: a network of torchvision's, prepared and labeled as its weights' metadata say."""

import inspect
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from whycam.errors import ModelError
from whycam.kit.words import did_you_mean, first_line
from whycam.models import hub, labels
from whycam.models.conversion import NoPhotos
from whycam.models.packages import optional
from whycam.models.vision_model import PreprocessLike, VisionModel
from whycam.models.weights import ChosenWeights, classes_in, misfit, read_state, skeleton, versioned

FORM, PREFIX = "'torchvision:NAME'", "torchvision"


def source(spec: str, weights: ChosenWeights) -> VisionModel:
    """The named model; without WEIGHTS, with those that its builder calls the default.

    Raises:
        WhycamError: no such model or weights (near names are suggested), one that is no classifier, or weights that
            cannot be had or do not fit.
        MissingExtraError: torchvision is absent or broken.
    """
    name, _, entry = spec.partition(":")[2].partition("/")
    models = optional("torchvision.models", "torchvision", f"{spec!r}")
    _check(models, spec, name)
    member = _member(models, spec, name, entry)
    builder = models.get_model_builder(name)
    texts = labels.unique([each] for each in member.meta["categories"])
    classes = len(texts)
    if weights.random:
        module = _plain(builder, member, classes)
    elif weights.file is not None:
        state = weights.state()
        classes = classes_in(state, lambda number: _plain(builder, member, number), classes)
        module = _built(builder, member, state, classes, weights.file.name)
    else:
        file = hub.from_url(member.url, spec)
        module = _built(builder, member, read_state(file), classes, file.name)
    full = weights.titled(spec) if weights.given else f"torchvision:{name}/{member.name}"
    return VisionModel(module.eval(), _preprocess(member), texts if classes == len(texts) else None, full)


class _Filled:
    """Stands for an entry of a torchvision weights enumeration, with tensors that are here already.

    Builders do more with weights than to load them: Inception's turn on the re-scaling of its input. They ask an entry
    for its tensors, and would unpickle a file in the way that runs what is stored in it.
    """

    def __init__(self, member: Any, state: dict[str, Tensor], classes: int) -> None:
        self._member, self._state = member, state
        self.meta = {**member.meta, "categories": [str(index) for index in range(classes)]}

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # builders check that an entry is of their enumeration
        return type(self._member)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._member, name)

    def get_state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        return self._state


def _built(builder: Any, member: Any, state: dict[str, Tensor], classes: int, file: str) -> nn.Module:
    plain = skeleton(lambda: _plain(builder, member, classes))
    # auxiliary heads serve training: builders drop some after loading, and then a file saved from the model lacks them
    auxiliary = {name: value for name, value in plain.state_dict().items() if name.lower().startswith("aux")}
    unused = {name: torch.zeros(value.shape, dtype=value.dtype) for name, value in auxiliary.items()}
    whole = versioned({**unused, **state}, state, plain)
    try:
        module: nn.Module = builder(weights=_Filled(member, whole, classes))
    except RuntimeError as error:
        reason = misfit(plain, whole) or first_line(error)
        raise ModelError(f"{file} does not fit {builder.__name__!r} of torchvision: {reason}.") from error
    return module


def _plain(builder: Any, member: Any, classes: int) -> nn.Module:
    """A model with random weights, for inputs of the size that the entry is for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of two builders, about how they will initialize some day
        if "weights_backbone" in inspect.signature(builder).parameters:  # whose body would be fetched by itself
            return builder(weights=None, weights_backbone=None, num_classes=classes)  # type: ignore[no-any-return]
        try:  # transformers have a fixed size, and their builders take it from the entry
            module: nn.Module = builder(weights=None, num_classes=classes, image_size=member.meta["min_size"][0])
        except TypeError:
            module = builder(weights=None, num_classes=classes)
    return module


def _preprocess(member: Any) -> PreprocessLike:
    made = member.transforms()
    if type(made).__name__ == "VideoClassification":
        return NoPhotos(
            "this network takes clips, and a photo is none; pass a ready batch (N, C, T, H, W) made by its weights' "
            "transforms()."
        )
    return made  # type: ignore[no-any-return]


def _check(models: Any, spec: str, name: str) -> None:
    """Raise unless the name is a classifier's."""
    rooms = (models, models.video, models.detection, models.segmentation)
    known = [name for room in rooms for name in models.list_models(module=room)]
    if name in known:
        return
    if name in models.list_models():
        home = models.get_model_builder(name).__module__.split(".")[2]
        raise ModelError(
            f"{spec!r} is one of torchvision's {home} models, and those are not explained by name; its classifiers, "
            "detectors, segmenters and video models are."
        )
    hint = did_you_mean(name.lower().replace("-", ""), known, "torchvision:{}")
    raise ModelError(f"{spec!r}: torchvision has no such model.{hint}")


def _member(models: Any, spec: str, name: str, entry: str) -> Any:
    """The entry of the model's weights enumeration that is asked for."""
    enumeration = models.get_model_weights(name)
    wanted = entry.removeprefix(f"{enumeration.__name__}.") or "DEFAULT"
    if wanted not in enumeration.__members__:
        known = ", ".join(each.name for each in enumeration)
        raise ModelError(f"{spec!r}: {name} has no weights of the name {wanted!r}; it has {known}.")
    member = enumeration[wanted]
    if not member.meta.get("categories"):
        raise ModelError(f"{spec!r}: these weights have no classifier, and so no class to explain; take others.")
    return member
