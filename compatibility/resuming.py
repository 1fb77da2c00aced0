"""Every layer of many architectures, resumed by itself and by whole forwards with the layer's output replaced.

`python -m compatibility.resuming` prints the table of docs/resuming.md; `--small` makes the networks as small as the
test suite does.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: Outputs that are nearer to each other than this, in parts of the largest, are the same: batches round differently.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Found:
    """What became of one layer: `exact`, `whole forwards` (and why), `different`, or `no layer` (and why)."""

    layer: str
    verdict: str
    why: str = ""
    apart: float = 0.0


def check(model: nn.Module, inputs: Tensor, at_most: int | None = None) -> list[Found]:
    """Each layer with spatial axes of a network, or `at_most` so many of them, evenly spread.

    Edited activations are noise on the recorded ones, some channels alone, and zeros.
    """
    from whycam.kit.progress import Progress
    from whycam.network.layers.features import features
    from whycam.network.recording.record import record
    from whycam.network.variants.scoring import Above, Network, Replaced, RunConfig
    from whycam.network.variants.shared_copy import twin
    from whycam.targets import resolve

    seen, _ = features(model, inputs)
    every = -(-len(seen) // at_most) if at_most else 1
    taps = [feature.tap for feature in seen][::every]
    layouts = {feature.tap: feature.layout for feature in seen}
    recording = record(
        model, inputs, taps, [lambda out: resolve(None, out)], gradients=False, resume=True, layouts=layouts
    )
    network = Network(model, inputs, None, recording.output, (False, torch.bfloat16))
    execution = RunConfig(progress=Progress(False))
    found = []
    for tap in taps:
        layer = recording.layers[tap]
        if layer.refusal:
            found.append(Found(str(tap), "no layer", layer.refusal))
            continue
        variants = _edited(layer.activations)
        whole = Replaced(network, execution, layer)
        part = Above(network, execution, layer, lambda: twin(model))
        with network.running():
            try:
                part.prepare(variants[0])
            except Exception as error:
                found.append(Found(str(tap), "whole forwards", str(error)))
                continue
            whole.prepare(variants[0])
            pack = torch.stack(variants)
            pairs = zip(part.outputs(pack), whole.outputs(pack), strict=True)
            apart = max(float((one - other).abs().amax() / other.abs().amax()) for one, other in pairs)
        found.append(Found(str(tap), "exact" if apart <= ROUNDING else "different", apart=apart))
    return found


def _edited(activations: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(activations.shape, generator=generator, dtype=activations.dtype)
    shares = torch.rand(activations.shape[1], generator=generator, dtype=activations.dtype)
    shares = shares.reshape(-1, *[1] * (activations.ndim - 2))
    return [activations + 0.3 * activations.std() * noise, activations * shares, torch.zeros_like(activations)]


def networks(*, small: bool) -> dict[str, tuple[Callable[[], nn.Module], int]]:
    """Architectures by name: what makes them, with random weights, and the side of their input."""
    import timm
    from torchvision import models
    from transformers import ConvNextV2Config, ConvNextV2ForImageClassification, ViTConfig, ViTForImageClassification

    def vit(**sizes: Any) -> nn.Module:
        few = {"depth": 3, "embed_dim": 48, "num_heads": 3} if small else {}
        return timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10, **few, **sizes)

    def depths(*sizes: int) -> dict[str, Any]:
        return {"depths": sizes} if small else {}

    width = {"width_mult": 0.25} if small else {}
    dense = {"growth_rate": 8, "block_config": (2, 2, 2), "num_init_features": 16} if small else {}
    hidden = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}
    return {
        "ResNet-18 (residual)": (lambda: models.resnet18(), 64),
        "DenseNet-121 (dense)": (lambda: models.DenseNet(**dense) if small else models.densenet121(), 64),
        "MobileNetV2 (inverted residual)": (lambda: models.mobilenet_v2(**width), 64),
        "GoogLeNet (inception)": (lambda: models.googlenet(init_weights=False), 64),
        "Inception v3 (inception)": (lambda: models.inception_v3(init_weights=False), 96),
        "VGG-11": (lambda: models.vgg11(), 64),
        "RegNetY-400MF (squeeze and excitation)": (lambda: models.regnet_y_400mf(), 64),
        "ShuffleNetV2": (lambda: models.shufflenet_v2_x0_5(), 64),
        "EfficientNet-B0, timm": (lambda: timm.create_model("efficientnet_b0"), 64),
        "ConvNeXt, timm": (lambda: timm.create_model("convnext_atto", **depths(1, 1, 1, 1)), 64),
        "ViT-Tiny, timm": (vit, 64),
        "Swin, torchvision": (
            lambda: models.SwinTransformer([4, 4], 24, [1, 1, 2], [1, 2, 4], [4, 4]) if small else models.swin_t(),
            64,
        ),
        "Swin, timm": (
            lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=56, **depths(1, 1, 1, 1)),
            56,
        ),
        "ViT, transformers": (
            lambda: ViTForImageClassification(ViTConfig(image_size=64, **(hidden if small else {}))),
            64,
        ),
        "ConvNeXt V2, transformers": (
            lambda: ConvNextV2ForImageClassification(
                ConvNextV2Config(**({"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]} if small else {}))
            ),
            64,
        ),
    }


def made(make: Callable[[], nn.Module], side: int) -> tuple[nn.Module, Tensor]:
    """A network ready to predict, none of whose parts is silent, and two samples for it."""
    torch.manual_seed(0)
    model = make().eval()
    for parameter in model.parameters():
        if not parameter.any():  # heads and scales that begin at zero
            nn.init.normal_(parameter, std=0.02)
    return model, torch.randn(2, 3, side, side)


def table(rows: Sequence[tuple[str, Sequence[Found]]]) -> str:
    """The findings as a Markdown table."""
    lines = [
        "| architecture | layers | exact | whole forwards | silently different | largest difference |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in rows:
        count = Counter(each.verdict for each in found)
        apart = max((each.apart for each in found), default=0.0)
        lines.append(
            f"| {name} | {len(found) - count['no layer']} | {count['exact']} | {count['whole forwards']} | "
            f"{count['different']} | {apart:.0e} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    from compatibility.__main__ import prepare

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--match", default="")
    parser.add_argument("--layers", type=int, help="so many of each, evenly spread; all by default")
    asked = parser.parse_args()
    prepare()
    rows = []
    for name, (make, side) in networks(small=asked.small).items():
        if asked.match.lower() not in name.lower():
            continue
        started = time.perf_counter()
        found = check(*made(make, side), at_most=asked.layers)
        rows.append((name, found))
        reasons = Counter(f"{each.verdict}: {each.why[:160]}" for each in found if each.why)
        print(f"{name}: {time.perf_counter() - started:.0f} s", *reasons.items(), sep="\n  ", flush=True)
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
