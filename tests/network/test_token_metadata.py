"""What models say of their own tokens."""

import pytest
import torch
import torchvision_shim
from torch import nn

import whycam
from whycam.network.layouts import Tokens
from whycam.network.token_metadata import token_claim

torchvision_shim.register()
import timm  # noqa: E402
import torchvision  # noqa: E402
import transformers  # noqa: E402

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def timm_vit(name, **options):
    options = {"img_size": 64, "depth": 2, "embed_dim": 24, "num_heads": 2, "num_classes": 5} | options
    return timm.create_model(name, **options).eval()


def hf(kind, size=64, **options):
    config = getattr(transformers, f"{kind}Config")(image_size=size, patch_size=8, num_labels=5, **SMALL, **options)
    return getattr(transformers, f"{kind}ForImageClassification")(config).eval()


CLAIMS = [
    ("timm, a class token", lambda: timm_vit("vit_tiny_patch16_224"), (64, 64), Tokens((4, 4), 1)),
    ("timm, not square", lambda: timm_vit("vit_tiny_patch16_224", img_size=(32, 64)), (32, 64), Tokens((2, 4), 1)),
    (
        "timm, any size",
        lambda: timm_vit("vit_tiny_patch16_224", dynamic_img_size=True),
        (48, 80),
        Tokens((3, 5), 1),
    ),
    (
        "timm, registers",
        lambda: timm_vit("vit_small_patch14_reg4_dinov2", patch_size=16, img_size=64),
        (64, 64),
        Tokens((4, 4), 5),
    ),
    ("timm, distilled", lambda: timm_vit("deit_tiny_distilled_patch16_224"), (64, 64), Tokens((4, 4), 2)),
    (
        "timm, none",
        lambda: timm_vit("vit_tiny_patch16_224", class_token=False, global_pool="avg"),
        (64, 64),
        Tokens((4, 4), 0),
    ),
    (
        "torchvision",
        lambda: torchvision.models.VisionTransformer(64, 16, 1, 2, 8, 16),
        (64, 64),
        Tokens((4, 4), 1),
    ),
    ("transformers", lambda: hf("ViT"), (64, 64), Tokens((8, 8), 1)),
    ("transformers, not square", lambda: hf("ViT", (48, 80)), (48, 80), Tokens((6, 10), 1)),
    ("transformers, distilled", lambda: hf("DeiT"), (64, 64), Tokens((8, 8), 2)),
    (
        "transformers, registers",
        lambda: hf("Dinov2WithRegisters", num_register_tokens=7),
        (64, 64),
        Tokens((8, 8), 8),
    ),
    ("transformers, no class token", lambda: hf("IJepa"), (64, 64), Tokens((8, 8), 0)),
]


@pytest.mark.parametrize(("make", "size", "claim"), [each[1:] for each in CLAIMS], ids=[each[0] for each in CLAIMS])
def test_the_tokens_of_well_known_families(make, size, claim):
    assert token_claim(make(), (2, 3, *size)) == claim


def test_detection_tokens_come_last():
    config = transformers.YolosConfig(image_size=[64, 64], patch_size=8, num_detection_tokens=10, **SMALL)
    model = transformers.YolosForObjectDetection(config).eval()
    assert token_claim(model, (1, 3, 64, 64)) == Tokens((8, 8), 1, 10)


@pytest.mark.parametrize("make", [lambda: nn.Conv2d(3, 4, 3), lambda: torchvision.models.resnet18()])
def test_a_network_without_patches_says_nothing(make):
    assert token_claim(make(), (1, 3, 64, 64)) is None


def test_a_claim_tells_what_no_count_can():
    # 16 patches behind 9 other tokens: 25, which would be a grid of 5 x 5
    model = timm_vit("vit_tiny_patch16_224", reg_tokens=8)
    inputs = torch.randn(1, 3, 64, 64)
    found = whycam.explain(model, inputs, layer="blocks.0")
    assert found.layer.layout == "tokens on a grid of 4x4 after 9"
    assert found.layer.location == "verified"
    model.num_prefix_tokens = 0  # a claim that the sizes contradict counts for nothing
    assert whycam.explain(timm_vit("vit_tiny_patch16_224"), inputs, layer="blocks.0").layer.grid == (4, 4)
