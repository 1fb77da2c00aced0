"""The examples of other libraries' READMEs beside the same in whycam: how far their maps lie apart.

    python benchmarks/migrating.py

Networks have random weights. Maps are compared over [0, 1], scaled as the other library does, by minimum and maximum.
What docs/migrating.md says of each example is measured here.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
import torchvision_shim

torchvision_shim.register()
import timm  # noqa: E402
import torchvision  # noqa: E402
from captum.attr import GuidedGradCam, LayerAttribution, LayerGradCam  # noqa: E402
from pytorch_grad_cam import AblationCAM, EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, ScoreCAM, XGradCAM  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402
from torchcam.methods import LayerCAM as TorchcamLayerCAM  # noqa: E402
from torchcam.methods import SmoothGradCAMpp  # noqa: E402

import whycam  # noqa: E402
from whycam.kit import arrays as whycam_arrays  # noqa: E402


def scaled(maps: Tensor) -> Tensor:
    """As these libraries scale: the positive part, shifted and scaled to [0, 1]."""
    return whycam_arrays.normalize(maps.double().clamp(min=0), "minmax")


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference anywhere; ours scaled at the layer's size, resized, and scaled again, as theirs are."""
    return float((scaled(whycam_arrays.resize(scaled(ours), theirs.shape[1:])) - theirs.double()).abs().max())


def main() -> None:
    """Every example, a line each."""
    torch.manual_seed(0)
    model, photo = torchvision.models.resnet18().eval(), torch.rand(1, 3, 128, 128)
    target = int(model(photo).argmax())  # whose score is positive: AblationCAM divides by it
    explainer = whycam.Explainer(model)

    def ours(method: str, **asked: object) -> Tensor:
        made = explainer.explain(photo, method, target=target, layer="layer4", **asked)
        return made.maps

    for kind, method in (
        (GradCAM, "grad_cam"), (HiResCAM, "hires_cam"), (GradCAMPlusPlus, "grad_cam_plus_plus"),
        (XGradCAM, "xgrad_cam"), (LayerCAM, "layer_cam"), (AblationCAM, "ablation_cam"), (ScoreCAM, "score_cam"),
        (EigenCAM, "eigen_cam"),
    ):  # fmt: skip
        with kind(model=model, target_layers=[model.layer4[-1]]) as cam:
            theirs = torch.from_numpy(cam(input_tensor=photo, targets=[ClassifierOutputTarget(target)]))
        mine = explainer.explain(photo, method, layer="layer4").maps if method == "eigen_cam" else ours(method)
        print(f"pytorch-grad-cam {kind.__name__}: {apart(mine, theirs):.2g}")
    with GradCAM(model=model, target_layers=[model.layer4[-1]]) as cam:
        for name, given, smoothing in (
            ("eigen_smooth", {"eigen_smooth": True}, "component"),
            ("aug_smooth", {"aug_smooth": True}, "augmentations"),
        ):
            theirs = torch.from_numpy(cam(input_tensor=photo, targets=[ClassifierOutputTarget(target)], **given))
            print(f"pytorch-grad-cam {name}: {apart(ours('grad_cam', smoothing=smoothing), theirs):.2g}")
    vit = timm.create_model("vit_tiny_patch16_224", img_size=128, num_classes=1000).eval()
    torch.nn.init.normal_(vit.head.weight)

    def reshape_transform(tensor: Tensor) -> Tensor:
        return tensor[:, 1:].reshape(len(tensor), 8, 8, -1).permute(0, 3, 1, 2)

    with GradCAM(model=vit, target_layers=[vit.blocks[-1].norm1], reshape_transform=reshape_transform) as cam:
        theirs = torch.from_numpy(cam(input_tensor=photo, targets=[ClassifierOutputTarget(target)]))
    mine = whycam.explain(vit, photo, target=target, layer="blocks.11.norm1").maps
    print(f"pytorch-grad-cam GradCAM on a ViT: {apart(mine, theirs):.2g}")

    with TorchcamLayerCAM(model, "layer4") as extractor:
        theirs = extractor(target, model(photo))[0]
    mine = explainer.explain(photo, "layer_cam", target=target, layer="layer4").maps
    print(f"torchcam LayerCAM: {apart(mine, theirs):.2g}")
    with SmoothGradCAMpp(model, "layer4") as extractor:
        theirs = extractor(target, model(photo))[0]
    mine = explainer.explain(photo, "smooth_grad_cam_plus_plus", target=target, layer="layer4").maps
    print(f"torchcam SmoothGradCAMpp (other noise): {apart(mine, theirs):.2g}")

    raw = LayerGradCam(model, model.layer4).attribute(photo, target=target)
    mine = explainer.explain(photo, target=target, layer="layer4", signed=True).maps
    print(f"captum LayerGradCam, signed, raw values: {float((mine - raw[:, 0]).abs().max() / raw.abs().max()):.2g}")
    large = LayerAttribution.interpolate(raw, (128, 128))[:, 0]
    mine = explainer.explain(photo, target=target, layer="layer4", signed=True).heatmaps(
        normalize="none", enlarge="nearest"
    )
    print(f"captum LayerAttribution.interpolate (nearest): {float((mine - large).abs().max() / large.abs().max()):.2g}")
    guided = GuidedGradCam(model, model.layer4).attribute(photo, target=target)
    made = explainer.explain(photo, "guided_grad_cam", target=target, layer="layer4")
    assert made.colors is not None
    difference = float((made.colors - guided).abs().max() / guided.abs().max())
    print(f"captum GuidedGradCam, each color (nearest there): {difference:.2g}")


if __name__ == "__main__":
    main()
