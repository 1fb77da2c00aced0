"""The networks that `make bench` measures on, each with a photo and a layer, prepared alike for all libraries.

All but the built-in one have random weights: cost does not depend on them, but maps do. So that they behave like
trained networks, batch statistics are taken from photos, the branches beside residual connections are calmed until a
bfloat16 copy's logits are 1 to 2 per cent off (1.5 in the built-in network, up to 14 before), and the classifier is
scaled until logits spread like a trained network's.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from networks import network
from peers import Reshape, load_torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from whycam.pictures.photos import read_photo

SEED = 0
#: How far the logits of a trained network spread over ImageNet's classes.
SPREAD = 3.0
#: Photos of scikit-image's that statistics are taken from, 8 crops each; the first is also the one that is explained.
PHOTOS = ("chelsea", "astronaut", "coffee", "rocket", "motorcycle_left", "hubble_deep_field", "retina", "coins")


@dataclass(frozen=True)
class Subject:
    """One network and one question.

    Attributes:
        layer: the last with spatial axes. `earlier`: the one before it that maps of several layers are fused with.
        narrow: an earlier layer of few channels, where a method runs the network once for each.
        reshape: tokens -> maps, which the peers must be given for a transformer.
        sizes: the sides of inputs that it can take are those up to 224, or 224 alone.
    """

    name: str
    title: str
    network: nn.Module
    inputs: Tensor
    target: int
    layer: str
    earlier: str
    narrow: str
    reshape: Reshape | None = None
    sizes: bool = True

    def at(self, size: int) -> Tensor:
        """The photo at another size, if the network takes it."""
        if size == self.inputs.shape[-1] or not self.sizes:
            return self.inputs
        return nn.functional.interpolate(self.inputs, (size, size), mode="area")

    def of_its_own(self) -> nn.Module:
        """A copy, for a library that may leave traces in what it explains."""
        return copy.deepcopy(self.network)

    def channels(self, layer: str) -> int:
        """How many channels a layer has."""
        found = []
        handle = self.network.get_submodule(layer).register_forward_hook(lambda *call: found.append(call[-1]))
        try:
            with torch.inference_mode():
                self.network(self.inputs)
        finally:
            handle.remove()
        return int(found[0].shape[1 if self.reshape is None else -1])


class Split(nn.Module):
    """The built-in network with its features as one module.

    The original calls one shared activation module throughout, and the peers record a module's every call without
    telling them apart.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.features = _Features(network)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = network._fc

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.pool(self.features(inputs)).flatten(1))


class _Features(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.network._fc = nn.Identity()  # torchcam looks for the one linear layer

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network.extract_features(inputs)


def _builtin() -> Subject:
    vision = network("builtin")
    split = Split(vision.module).eval()
    with torch.inference_mode():
        torch.testing.assert_close(split(photo()), vision.module(photo()))
    blocks = "features.network._blocks"
    return Subject("builtin", "built-in", split, photo(), 0, "features", f"{blocks}.10", f"{blocks}.10")


def _torchvision(name: str, title: str, layer: str, earlier: str, narrow: str) -> Callable[[], Subject]:
    def build() -> Subject:
        load_torchvision()
        import torchvision

        made = realistic(calm(getattr(torchvision.models, name)(weights=None)))
        return Subject(name, title, made, photo(), 0, layer, earlier, narrow)

    return build


def _vit() -> Subject:
    load_torchvision()
    import timm

    model = timm.create_model("vit_tiny_patch16_224")
    nn.init.normal_(model.head.weight)  # which starts at zero
    last = len(model.blocks) - 1
    return Subject(
        "vit_tiny",
        "ViT-Tiny",
        realistic(model),
        photo(),
        0,
        f"blocks.{last}.norm1",
        f"blocks.{last - 3}.norm1",
        f"blocks.{last}.norm1",
        reshape=grid_of_tokens,
        sizes=False,
    )


BUILDERS: dict[str, Callable[[], Subject]] = {
    "resnet18": _torchvision("resnet18", "ResNet-18", "layer4", "layer3", "layer2"),
    "resnet50": _torchvision("resnet50", "ResNet-50", "layer4", "layer3", "layer1"),
    "mobilenet_v2": _torchvision("mobilenet_v2", "MobileNetV2", "features.18", "features.13", "features.13"),
    "builtin": _builtin,
    "vit_tiny": _vit,
}


def subject(name: str) -> Subject:
    """A network by name, always the same one."""
    torch.manual_seed(SEED)
    made = BUILDERS[name]()
    made.network.requires_grad_(True).eval()
    with torch.inference_mode():
        return replace(made, target=int(made.network(made.inputs).argmax()))


def grid_of_tokens(tokens: Tensor) -> Tensor:
    """The tokens of a square picture, but for the class token, as maps."""
    side = round((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, side, side)


@cache
def photo(name: str = PHOTOS[0]) -> Tensor:
    """One of the photos as the built-in network is given it."""
    from skimage import data

    folder = Path(data.__file__).parent
    path = next(path for path in folder.iterdir() if path.stem == name)
    return _preprocess()(read_photo(path))[0][None]


@cache
def _preprocess() -> Any:
    return network("builtin").preprocess


def calm(model: nn.Module) -> nn.Module:
    """Weaker branches beside residual connections, and activations that are on more often than off.

    Random layers, each normalized, magnify rounding from one to the next as trained ones do not.
    """
    with torch.no_grad():
        for module in model.modules():
            branch = getattr(module, "bn3", getattr(module, "bn2", None))  # of ResNets
            if getattr(module, "use_res_connect", False):  # of MobileNets
                branch = module.conv[-1]
            if branch is not None:
                branch.weight.fill_(0.25)
            if type(module).__name__ == "Conv2dNormActivation":
                module[1].bias.fill_(0.5)
    return model


def realistic(model: nn.Module) -> nn.Module:
    """Batch statistics from photos, and a classifier whose logits spread like a trained one's, around zero."""
    crops = torch.cat([_crops(photo(name)) for name in PHOTOS])
    crops = crops[torch.randperm(len(crops))]
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    model.train()
    with torch.no_grad():
        for batch in crops.split(32) if norms else ():
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        logits = model(photo())
        head.weight *= SPREAD / logits.std()
        head.bias.zero_()
    return model


def _crops(picture: Tensor, count: int = 8, size: int = 128) -> Tensor:
    top, left = (torch.randint(picture.shape[axis] - size + 1, (count,)) for axis in (2, 3))
    corners = zip(top.tolist(), left.tolist(), strict=True)
    return torch.cat([picture[:, :, y : y + size, x : x + size] for y, x in corners])
