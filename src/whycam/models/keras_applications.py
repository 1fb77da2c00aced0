"""The architectures in `keras.applications`: how they take photos, and what their classes are called."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from whycam.models.conversion import NoPhotos
from whycam.models.vision_model import PreprocessLike
from whycam.pictures.preprocess import IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocess

#: Pixels from 0 to 255 less the mean of each channel, blue first; from -1 to 1; ImageNet's usual mean and deviation;
#: and as they are, for networks that scale them inside.
_CAFFE, _TF, _TORCH, _INSIDE = "caffe", "tf", "torch", "inside"
_MODES = (
    (r"vgg(16|19)", _CAFFE),
    (r"resnet(50|101|152)", _CAFFE),
    (r"resnet(50|101|152)v2", _TF),
    (r"xception|inception_v3|inception_resnet_v2|nasnet(_.*)?|NASNet", _TF),
    (r"mobilenet(v2)?_[\d.]+_(\d+|None)|mobilenet(v2)?", _TF),
    (r"densenet(121|169|201)", _TORCH),
    (r"efficientnet(b\d|v2-?.*)|convnext_.*|MobilenetV3.*|MobileNetV3.*", _INSIDE),
)
_CAFFE_MEAN = (103.939, 116.779, 123.68)
#: As `keras.utils.load_img(path, target_size=...)` does unless told otherwise.
_INTERPOLATION: Interpolation = "nearest"


def mode(model: Any) -> str | None:
    """How an architecture of `keras.applications` takes its pixels, by the name that it gives itself."""
    name = str(model.name)
    return next((mode for pattern, mode in _MODES if re.fullmatch(pattern, name)), None)


def preprocess(model: Any, channels_last: bool) -> tuple[PreprocessLike | None, str]:
    """How a photo becomes the model's input, and what is said of it; `None` where the model does not tell."""
    size = _size(model, channels_last)
    found = mode(model)
    if found is None and _scales_inside(model):
        found = _INSIDE
        note = "photos are given to the model as pixels from 0 to 255, since it scales them itself"
    else:
        note = f"photos are prepared as keras.applications does for {model.name}"
    if found is None:
        return None, ""
    if (channels := _channels(model, channels_last)) != 3:
        return NoPhotos(f"this model takes pictures of {channels} channels, and photos have 3; pass a ready batch."), ""
    if size is None:
        return NoPhotos("this model takes images of any size and does not say which; pass preprocess=."), ""
    return _of(found, size), note


def _of(mode: str, size: tuple[int, int]) -> Preprocess:
    def made(mean: tuple[float, ...], std: tuple[float, ...], channels: Any = "rgb") -> Preprocess:
        assert len(mean) == len(std) == 3
        return Preprocess(
            size, "stretch", crop=True, mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]),
            interpolation=_INTERPOLATION, channels=channels,
        )  # fmt: skip

    if mode == _CAFFE:
        return made(tuple(each / 255 for each in _CAFFE_MEAN), (1 / 255,) * 3, "bgr")
    if mode == _TF:
        return made((0.5,) * 3, (0.5,) * 3)
    if mode == _TORCH:
        return made(IMAGENET_MEAN, IMAGENET_STD)
    return made((0.0,) * 3, (1 / 255,) * 3)


def _size(model: Any, channels_last: bool) -> tuple[int, int] | None:
    """The (height, width) that the model's one image input has."""
    shapes = [tuple(each.shape) for each in getattr(model, "inputs", None) or ()]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        return None
    height, width = shapes[0][1:3] if channels_last else shapes[0][2:]
    return None if height is None or width is None else (int(height), int(width))


def _channels(model: Any, channels_last: bool) -> int | None:
    shapes = [tuple(each.shape) for each in getattr(model, "inputs", None) or ()]
    return (shapes[0][-1] if channels_last else shapes[0][1]) if shapes and len(shapes[0]) == 4 else None


def _scales_inside(model: Any) -> bool:
    """Whether the first layer that does anything in prediction is one that scales or normalizes pixels."""
    first = next(_acting(model), None)
    return type(first).__name__ in ("Rescaling", "Normalization") if first is not None else False


def _acting(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        kind = type(layer)
        if kind.__name__ == "InputLayer" or kind.__name__.startswith("Random") or kind.__name__ == "Resizing":
            continue
        if getattr(layer, "layers", None):
            if mode(layer) not in (None, _INSIDE):
                yield layer  # which wants its pixels scaled in a way of its own
                return
            yield from _acting(layer)
        else:
            yield layer


def labels(model: Any) -> tuple[str, ...] | None:
    """ImageNet's label texts, for an architecture with its thousand classes, where the package with them is here."""
    shape = getattr(model, "output_shape", None)
    if mode(model) is None or not isinstance(shape, tuple) or shape[-1] != 1000:
        return None
    with suppress(ImportError):
        from whycam.models.sources.builtin import imagenet_labels

        return imagenet_labels()
    return None
