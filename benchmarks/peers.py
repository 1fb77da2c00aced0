"""The peers' maps, each library used as its own documentation does, at a layer given as a module."""

import contextlib
import io
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

Maps = Callable[[nn.Module, nn.Module, Tensor, list[int]], Tensor]
"""(network, layer, inputs, one class for each) -> maps, (batch, height, width), at whatever size the peer returns."""

Reshape = Callable[[Tensor], Tensor]
"""Tokens -> maps, which the peers need for transformers."""

Make = Callable[..., Maps]
"""(reshape=None) -> Maps"""


def load_torchvision() -> None:
    """Let torchvision be imported (pytorch-grad-cam does); its compiled part is absent beside a CPU-only torch."""
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)


_KEPT: list[torch.library.Library] = []


@contextlib.contextmanager
def _quiet() -> Any:
    """Without warnings, and without the bars that pytorch-grad-cam draws."""
    nowhere = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        yield


# pytorch-grad-cam ----------------------------------------------------------------------------------------------------


def pytorch_grad_cam(name: str, reshape: Reshape | None = None, *, rest: bool = False, **options: Any) -> Maps:
    """`rest`: explain the logit plus the log-probability in place of the logit."""
    load_torchvision()
    import pytorch_grad_cam as peer
    from pytorch_grad_cam.utils import model_targets

    target = model_targets.ClassifierOutputReST if rest else model_targets.ClassifierOutputTarget

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        with _quiet(), getattr(peer, name)(network, [layer], reshape_transform=reshape, **options) as cam:
            return torch.from_numpy(cam(input_tensor=inputs, targets=[target(c) for c in classes]))

    return maps


def pytorch_ablation_cam(reshape: Reshape | None = None) -> Maps:
    load_torchvision()
    from pytorch_grad_cam.ablation_layer import AblationLayer, AblationLayerVit

    return pytorch_grad_cam("AblationCAM", reshape, ablation_layer=AblationLayerVit() if reshape else AblationLayer())


def pytorch_full_grad(reshape: Reshape | None = None) -> Maps:
    """It takes every layer with a bias, and none that is named."""
    load_torchvision()
    from pytorch_grad_cam import FullGrad
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        with FullGrad(network, [], reshape_transform=reshape) as cam:
            return torch.from_numpy(cam(input_tensor=inputs, targets=[ClassifierOutputTarget(c) for c in classes]))

    return maps


def pytorch_guided_backprop(reshape: Reshape | None = None) -> Maps:
    load_torchvision()
    from pytorch_grad_cam import GuidedBackpropReLUModel

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        (wanted,) = classes  # it explains the first picture of a batch
        made = GuidedBackpropReLUModel(network)(inputs.clone(), target_category=wanted)
        return torch.from_numpy(made).sum(2)[None]

    return maps


def pytorch_finer_cam(reshape: Reshape | None = None) -> Maps:
    """The class against the three whose logits are closest to its own."""
    load_torchvision()
    from pytorch_grad_cam import FinerCAM

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        (wanted,) = classes
        with FinerCAM(network, [layer], reshape_transform=reshape) as cam:
            return torch.from_numpy(cam(input_tensor=inputs, targets=None, target_idx=wanted))

    return maps


def pytorch_refine_cam(layers: list[str], reshape: Reshape | None = None) -> Maps:
    """The product of two layers' Grad-CAMs, which are named in place of the one."""
    load_torchvision()
    from pytorch_grad_cam import GradCAM, RefineCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        modules = [network.get_submodule(name) for name in layers]
        cam = RefineCAM(network, modules, reshape_transform=reshape, base_method=GradCAM)
        try:
            return torch.from_numpy(cam(input_tensor=inputs, targets=[ClassifierOutputTarget(c) for c in classes]))
        finally:
            for each in cam.base_cam_per_layer:
                each.activations_and_grads.release()

    return maps


def pytorch_factorization(parts: int, reshape: Reshape | None = None) -> Callable[..., Tensor]:
    """Every concept's map, `(batch, part, height, width)`."""
    load_torchvision()
    from pytorch_grad_cam import DeepFeatureFactorization

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        with _quiet():
            made = DeepFeatureFactorization(network, layer, reshape_transform=reshape)
            return torch.stack([torch.from_numpy(each) for each in made(inputs, parts)[1]])

    return maps


# torchcam ------------------------------------------------------------------------------------------------------------


def torchcam(name: str, reshape: Reshape | None = None, **options: Any) -> Maps:
    import torchcam.methods as peer

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        with _quiet(), getattr(peer, name)(network, target_layer=layer, reshape_transform=reshape, **options) as cam:
            scores = network(inputs)
            return cam(class_idx=classes, scores=scores)[0].detach()

    return maps


def torchcam_refine(layers: list[str], reshape: Reshape | None = None) -> Maps:
    """The product of two layers' Grad-CAMs, which are named in place of the one."""
    import torchcam.methods as peer

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        with peer.RefineCAM(network, list(layers), base_method=peer.GradCAM, reshape_transform=reshape) as cam:
            return cam(classes, network(inputs))[0].detach()

    return maps


def torchcam_fused_layer_cam(layers: list[str], reshape: Reshape | None = None) -> Maps:
    """LayerCAM of two layers, which are named in place of the one, fused in its own way."""
    import torchcam.methods as peer

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        with peer.LayerCAM(network, list(layers), reshape_transform=reshape) as cam:
            return cam.fuse_cams(cam(classes, network(inputs))).detach()

    return maps


# captum --------------------------------------------------------------------------------------------------------------


def captum_grad_cam(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
    from captum.attr import LayerGradCam

    return LayerGradCam(network, layer).attribute(inputs, target=classes, relu_attributions=True)[:, 0].detach()


def captum_gradient_x_activation(reshape: Reshape | None = None) -> Maps:
    from captum.attr import LayerGradientXActivation

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        products = LayerGradientXActivation(network, layer).attribute(inputs, target=classes)
        return (products if reshape is None else reshape(products)).sum(1).detach()

    return maps


def captum_occlusion(window: int, stride: int, reshape: Reshape | None = None) -> Maps:
    from captum.attr import Occlusion

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        colors = inputs.shape[1]
        with torch.no_grad():
            return Occlusion(network).attribute(
                inputs,
                target=classes,
                sliding_window_shapes=(colors, window, window),
                strides=(colors, stride, stride),
                perturbations_per_eval=16,
            )[:, 0]

    return maps


def captum_guided_backprop(reshape: Reshape | None = None) -> Maps:
    from captum.attr import GuidedBackprop

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        with _quiet():
            return GuidedBackprop(network).attribute(inputs, target=classes).sum(1).detach()

    return maps


def captum_guided_grad_cam(reshape: Reshape | None = None) -> Maps:
    from captum.attr import GuidedGradCam

    def maps(network: nn.Module, layer: nn.Module, inputs: Tensor, classes: list[int]) -> Tensor:
        with _quiet():
            return GuidedGradCam(network, layer).attribute(inputs, target=classes).sum(1).detach()

    return maps


# -------------------------------------------------------------------------------------------------------------------


def by_pytorch(name: str, **options: Any) -> Make:
    return lambda reshape=None: pytorch_grad_cam(name, reshape, **options)


def by_torchcam(name: str, **options: Any) -> Make:
    return lambda reshape=None: torchcam(name, reshape, **options)


#: whycam's method -> the peers that have it: those that need no more than one pass and one layer's record.
PEERS: dict[str, dict[str, Make]] = {
    "cam": {"torchcam": by_torchcam("CAM")},
    "grad_cam": {
        "pytorch-grad-cam": by_pytorch("GradCAM"),
        "torchcam": by_torchcam("GradCAM"),
        "captum": lambda reshape=None: captum_grad_cam,
    },
    "grad_cam_plus_plus": {"pytorch-grad-cam": by_pytorch("GradCAMPlusPlus"), "torchcam": by_torchcam("GradCAMpp")},
    "xgrad_cam": {"pytorch-grad-cam": by_pytorch("XGradCAM"), "torchcam": by_torchcam("XGradCAM")},
    "hires_cam": {"pytorch-grad-cam": by_pytorch("HiResCAM"), "captum": captum_gradient_x_activation},
    "layer_cam": {"pytorch-grad-cam": by_pytorch("LayerCAM"), "torchcam": by_torchcam("LayerCAM")},
    "grad_cam_elementwise": {"pytorch-grad-cam": by_pytorch("GradCAMElementWise")},
    "eigen_cam": {"pytorch-grad-cam": by_pytorch("EigenCAM")},
    "eigen_grad_cam": {"pytorch-grad-cam": by_pytorch("EigenGradCAM")},
    "kpca_cam": {"pytorch-grad-cam": by_pytorch("KPCA_CAM")},
    "fem": {"pytorch-grad-cam": by_pytorch("FEM")},
}


def versions() -> str:
    """The peers with their versions, for tables."""
    return ", ".join(f"{name} {version(package)}" for name, package in
                     (("pytorch-grad-cam", "grad-cam"), ("torchcam", "torchcam"), ("captum", "captum")))  # fmt: skip
