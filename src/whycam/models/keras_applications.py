"""The architectures in `keras.applications`: how they take photos, and what their classes are called."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from whycam.models.conversion import NoPhotos
from whycam.models.vision_model import PreprocessLike
from whycam.pictures.preprocess import IMAGENET_MEAN, IMAGENET_STD, Channels, Interpolation, Preprocess

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
#: Mean and deviation of pixels from 0 to 1, and the order of the channels.
_SCALES: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float], Channels]] = {
    _CAFFE: ((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255,) * 3, "bgr"),
    _TF: ((0.5,) * 3, (0.5,) * 3, "rgb"),
    _TORCH: (IMAGENET_MEAN, IMAGENET_STD, "rgb"),
    _INSIDE: ((0.0,) * 3, (1 / 255,) * 3, "rgb"),
}
#: As `keras.utils.load_img(path, target_size=...)` does unless told otherwise.
_INTERPOLATION: Interpolation = "nearest"


def mode(model: Any) -> str | None:
    """How an architecture of `keras.applications` takes its pixels, by the name that it gives itself."""
    name = str(model.name)
    return next((mode for pattern, mode in _MODES if re.fullmatch(pattern, name)), None)


def preprocess(model: Any, channels_last: bool) -> tuple[PreprocessLike | None, str]:
    """How a photo becomes the model's input, and what is said of it; `None` where the model does not tell."""
    found = mode(model)
    if found is None and _scales_inside(model):
        found = _INSIDE
        note = "photos are given to the model as pixels from 0 to 255, since it scales them itself"
    else:
        note = f"photos are prepared as keras.applications does for {model.name}"
    if found is None:
        return None, ""
    shape = input_shape(model, channels_last)
    if shape is not None and shape[0] != 3:
        return NoPhotos(f"this model takes pictures of {shape[0]} channels, and photos have 3; pass a ready batch."), ""
    if shape is None or len(shape) != 3 or shape[1] is None or shape[2] is None:
        return NoPhotos("this model takes images of any size and does not say which; pass preprocess=."), ""
    mean, std, channels = _SCALES[found]
    size = (shape[1], shape[2])
    return Preprocess(size, "stretch", mean=mean, std=std, interpolation=_INTERPOLATION, channels=channels), note


def input_shape(model: Any, channels_last: bool) -> tuple[int | None, ...] | None:
    """`(channel, *spatial)` of a model's one input, with `None` where any size will do."""
    shapes = [tuple(each.shape)[1:] for each in getattr(model, "inputs", None) or ()]
    if len(shapes) != 1 or len(shapes[0]) < 2:
        return None
    return (shapes[0][-1], *shapes[0][:-1]) if channels_last else shapes[0]


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
