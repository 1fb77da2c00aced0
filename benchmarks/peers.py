"""The peers' maps, each library used as its own documentation does, at a layer given as a module."""

import warnings
from collections.abc import Callable
from importlib.metadata import version

import torch
from torch import Tensor, nn

Maps = Callable[[nn.Module, nn.Module, Tensor, list[int]], Tensor]
"""(network, layer, inputs, one class for each) -> maps, (batch, height, width), at whatever size the peer returns."""


def load_torchvision() -> None:
    """Let torchvision be imported (pytorch-grad-cam does); its compiled part is absent beside a CPU-only torch."""
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)


_KEPT: list[torch.library.Library] = []


def pytorch_grad_cam(name: str) -> Maps:
    load_torchvision()
    import pytorch_grad_cam as peer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        with getattr(peer, name)(model=network, target_layers=[layer]) as cam:
            return torch.from_numpy(cam(input_tensor=inputs, targets=[ClassifierOutputTarget(c) for c in classes]))

    return maps


def torchcam(name: str) -> Maps:
    import torchcam.methods as peer

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with getattr(peer, name)(network, target_layer=layer) as cam:
                scores = network(inputs)
                return cam(class_idx=classes, scores=scores)[0].detach()

    return maps


def captum_grad_cam(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
    from captum.attr import LayerGradCam

    return LayerGradCam(network, layer).attribute(inputs, target=classes, relu_attributions=True)[:, 0].detach()


def captum_gradient_x_activation(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
    from captum.attr import LayerGradientXActivation

    return LayerGradientXActivation(network, layer).attribute(inputs, target=classes).sum(1).detach()


#: whycam's method -> the peers that have it.
PEERS: dict[str, dict[str, Callable[[], Maps]]] = {
    "cam": {"torchcam": lambda: torchcam("CAM")},
    "grad_cam": {
        "pytorch-grad-cam": lambda: pytorch_grad_cam("GradCAM"),
        "torchcam": lambda: torchcam("GradCAM"),
        "captum": lambda: captum_grad_cam,
    },
    "grad_cam_plus_plus": {
        "pytorch-grad-cam": lambda: pytorch_grad_cam("GradCAMPlusPlus"),
        "torchcam": lambda: torchcam("GradCAMpp"),
    },
    "xgrad_cam": {
        "pytorch-grad-cam": lambda: pytorch_grad_cam("XGradCAM"),
        "torchcam": lambda: torchcam("XGradCAM"),
    },
    "hires_cam": {
        "pytorch-grad-cam": lambda: pytorch_grad_cam("HiResCAM"),
        "captum": lambda: captum_gradient_x_activation,
    },
    "layer_cam": {
        "pytorch-grad-cam": lambda: pytorch_grad_cam("LayerCAM"),
        "torchcam": lambda: torchcam("LayerCAM"),
    },
    "grad_cam_elementwise": {"pytorch-grad-cam": lambda: pytorch_grad_cam("GradCAMElementWise")},
    "eigen_cam": {"pytorch-grad-cam": lambda: pytorch_grad_cam("EigenCAM")},
    "eigen_grad_cam": {"pytorch-grad-cam": lambda: pytorch_grad_cam("EigenGradCAM")},
    "kpca_cam": {"pytorch-grad-cam": lambda: pytorch_grad_cam("KPCA_CAM")},
    "fem": {"pytorch-grad-cam": lambda: pytorch_grad_cam("FEM")},
}


def versions() -> str:
    """The peers with their versions, for tables."""
    return ", ".join(f"{name} {version(package)}" for name, package in
                     (("pytorch-grad-cam", "grad-cam"), ("torchcam", "torchcam"), ("captum", "captum")))  # fmt: skip
