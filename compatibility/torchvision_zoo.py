"""Every image classifier and every video classifier that torchvision builds."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compatibility.entry import Entry, Size, by_stride

_SIZES: tuple[Size, ...] = ((128, 128), (96, 160))
#: The module whose output (a convolution's layout) is the last feature by torchvision's own code, by family.
_LAST = {
    "alexnet": "features.11", "convnext": "features", "densenet": "features", "efficientnet": "features",
    "googlenet": "inception5b", "inception": "Mixed_7c", "maxvit": "blocks", "mnasnet": "layers",
    "mobilenet": "features",
    "regnet": "trunk_output", "resnet": "layer4", "resnext": "layer4", "wide": "layer4", "shufflenet": "conv5",
    "squeezenet": "classifier.2",
}  # fmt: skip


def entries() -> list[Entry]:
    """An entry for each builder of a classifier."""
    import torchvision.models as models

    return [_classifier(name) for name in models.list_models(module=models)]


def video_entries() -> list[Entry]:
    """An entry for each builder of a video classifier."""
    import torchvision.models.video as video
    from torchvision.models import list_models

    return [_video(name) for name in list_models(module=video)]


def _classifier(name: str) -> Entry:
    family = name.rstrip("0123456789").partition("_")[0].rstrip("0123456789")
    family = name.split("_")[0].rstrip("0123456789") if family == "" else family
    if family == "vit":
        patch = int(name.rpartition("_")[2])
        side = 8 * patch if patch < 32 else 128
        sizes: tuple[Size, ...] = ((side, side),)
        return _entry(name, family, sizes, by_stride(patch), {"image_size": side}, "takes square inputs of one size")
    if family == "maxvit":
        remark = "its grid attention takes square inputs"
        return _entry(name, family, ((224, 224),), _grid_of("blocks"), {"input_size": (224, 224)}, remark)
    if family == "inception":
        return _entry(name, family, ((160, 160), (128, 192)), _grid_of("Mixed_7c"), {"init_weights": False})
    if family == "googlenet":
        return _entry(name, family, _SIZES, _grid_of("inception5b"), {"init_weights": False})
    if family == "vgg":
        return _entry(name, family, _SIZES, by_stride(16), {"init_weights": False})
    if family == "swin":
        return _entry(name, family, _SIZES, by_stride(32), {})
    if family == "squeezenet":
        return _entry(name, family, _SIZES, _grid_of("features"), {})
    return _entry(name, family, _SIZES, _grid_of(_LAST[family]), {})


def _entry(
    name: str, family: str, sizes: tuple[Size, ...], grids: Any, options: dict[str, Any], remark: str = ""
) -> Entry:
    def construct(size: Size) -> nn.Module:
        import torchvision.models as models

        model: nn.Module = models.get_model(name, weights=None, **options)
        return model

    return Entry("torchvision", family, name, construct, sizes, grids, remark, any_size=True)


def _video(name: str) -> Entry:
    strides = {"mc3_18": (1, 16, 16), "r2plus1d_18": (8, 16, 16), "r3d_18": (8, 16, 16), "s3d": (8, 32, 32)}
    sizes: tuple[Size, ...] = ((16, 64, 64), (16, 48, 80))
    stride: tuple[float, ...] = strides.get(name, (2, 32, 32))
    remark = ""
    if name.startswith("mvit"):
        sizes = ((8, 64, 64), (8, 64, 96))
    elif name == "s3d":
        sizes, remark = ((16, 224, 224), (16, 224, 256)), "its average pooling needs 7 x 7 positions"
    elif name.startswith("mc3"):  # which keeps every frame
        sizes = ((8, 64, 64), (8, 48, 80))
    elif name.startswith("swin3d"):
        sizes = ((8, 64, 64), (8, 64, 96))

    def construct(size: Size) -> nn.Module:
        import torchvision.models as models

        with _clips_of(size):
            model: nn.Module = models.get_model(name, weights=None)
        return model

    return Entry("video", name.split("_")[0], name, construct, sizes, by_stride(*stride), remark)


@contextmanager
def _clips_of(size: Size) -> Iterator[None]:
    """Let MViT's builders, which fix the size of clips, build for another one."""
    from torchvision.models.video import mvit

    builder = mvit._mvit
    mvit._mvit = lambda **options: builder(**{**options, "spatial_size": size[1:], "temporal_size": size[0]})
    try:
        yield
    finally:
        mvit._mvit = builder


def _grid_of(last: str) -> Any:
    """The grid of what a module returns, seen by a hook of its own."""
    return partial(_seen, last)


def _seen(last: str, model: nn.Module, inputs: Tensor) -> set[Size]:
    found: list[Tensor] = []
    module: Any = model.get_submodule(last)
    if isinstance(module, nn.ModuleList):
        module = module[-1]
    handle = module.register_forward_hook(lambda _, __, output: found.append(output))
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        handle.remove()
    return {tuple(found[-1].shape[2:])}
