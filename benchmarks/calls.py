"""What one Grad-CAM costs in Python calls beyond the network's own, and in time on small networks, beside the peers.

    python benchmarks/calls.py

Calls of Python and C functions are counted by `sys.setprofile`, on the second of two equal calls. Times are medians of
rounds in one process in which every library takes its turn, as multiples of a plain prediction in the same round.
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
import torchvision_shim

torchvision_shim.register()
warnings.filterwarnings("ignore")


def counted(run: Callable[[], Any]) -> int:
    """The calls that a run makes, the second time."""
    number = 0

    def count(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    run()
    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return number


def ways(model: nn.Module, layer: str, photo: Tensor) -> dict[str, Callable[[], Any]]:
    """Grad-CAM of class 1 by each library; extractors that stay hooked to a model get one of their own."""
    from copy import deepcopy

    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam.methods import GradCAM as TorchcamGradCAM

    import whycam

    theirs, hooked, own = deepcopy(model), deepcopy(model), deepcopy(model)
    extractor = TorchcamGradCAM(hooked, layer)
    cam = GradCAM(model=own, target_layers=[own.get_submodule(layer)])
    attribution = LayerGradCam(theirs, theirs.get_submodule(layer))
    explainer = whycam.Explainer(model)

    def plain() -> None:
        with torch.no_grad():
            model(photo)

    return {
        "a prediction": plain,
        "whycam, an Explainer": lambda: explainer.explain(photo, "grad_cam", target=1, layer=layer),
        "whycam.explain": lambda: whycam.explain(model, photo, "grad_cam", target=1, layer=layer),
        "captum": lambda: attribution.attribute(photo, target=1),
        "torchcam": lambda: extractor(1, hooked(photo)),
        "pytorch-grad-cam": lambda: cam(input_tensor=photo, targets=[ClassifierOutputTarget(1)]),
    }


def main() -> None:
    """Print both tables."""
    import timm
    import torchvision

    torch.manual_seed(0)
    model, photo = torchvision.models.resnet50().eval(), torch.rand(1, 3, 64, 64)
    each = {name: counted(run) for name, run in ways(model, "layer4", photo).items()}
    print("| ResNet-50, `layer4` | calls | beyond a prediction |\n| --- | --- | --- |")
    for name, number in each.items():
        print(f"| {name} | {number:,} | {number - each['a prediction']:,} |")
    small = {
        "ResNet-18 (torchvision), 64 x 64": (torchvision.models.resnet18(), "layer4", 64),
        "MobileNetV2, 64 x 64": (torchvision.models.mobilenet_v2(), "features.18", 64),
        "timm's test_resnet, 64 x 64": (timm.create_model("test_resnet"), "layer4", 64),
    }
    print(f"\n| time, batch 1 | {' | '.join(list(each)[1:])} |\n| --- |{' --- |' * (len(each) - 1)}")
    for title, (model, layer, side) in small.items():
        found = ways(model.eval(), layer, torch.rand(1, 3, side, side))
        ratios: dict[str, list[float]] = {name: [] for name in list(found)[1:]}
        for _ in range(40):
            seconds = {}
            for name, run in found.items():
                started = time.perf_counter()
                run()
                seconds[name] = time.perf_counter() - started
            for name, row in ratios.items():
                row.append(seconds[name] / seconds["a prediction"])
        print(f"| {title} | {' | '.join(f'{statistics.median(row[5:]):.2f}' for row in ratios.values())} |")


if __name__ == "__main__":
    main()
