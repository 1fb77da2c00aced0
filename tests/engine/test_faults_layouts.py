"""Faults of other libraries with token and channels-last networks: what happens here instead (rows 19 to 22)."""

import nets
import pytest
import torch
import torch.nn.functional as F
import torchvision_shim
from torch import nn

import whycam
from whycam.network.layouts import ChannelsLast, Tokens

torchvision_shim.register()
import timm  # noqa: E402
import torchvision  # noqa: E402
import transformers  # noqa: E402
from timm.models.mlp_mixer import MlpMixer  # noqa: E402

SMALL = {"img_size": 64, "depth": 3, "embed_dim": 24, "num_heads": 2, "num_classes": 5}


def lively(model):
    """The model in evaluation mode, with random heads, which timm starts at zero."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if not parameter.any() or parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.double().eval()


def vit(**options):
    torch.manual_seed(0)
    return lively(timm.create_model("vit_tiny_patch16_224", **SMALL | options))


def swin():
    torch.manual_seed(0)
    return lively(
        timm.create_model(
            "swin_tiny_patch4_window7_224",
            img_size=64,
            depths=(1, 2),
            embed_dim=12,
            num_heads=(1, 2),
            window_size=4,
            num_classes=5,
        )
    )


def pictures(height=64, width=64, samples=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 3, height, width, generator=generator, dtype=torch.float64)


def plain_grad_cam(model, module, inputs, to_maps, classes, *, signed=False):
    """Grad-CAM by autograd at what `module` returns, its axes put in order by `to_maps`."""
    kept = []
    handle = module.register_forward_hook(lambda _, __, output: kept.append(output))
    output = model(inputs)
    handle.remove()
    score = output.gather(1, torch.as_tensor(classes)[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, kept)
    activations, gradient = to_maps(kept[0].detach()), to_maps(gradient)
    weighted = (gradient.mean((2, 3), keepdim=True) * activations).sum(1)
    return weighted if signed else F.relu(weighted)


def signed_grad_cam(activations, gradients):
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1)


def tokens(prefix, height, width):
    return lambda x: x[:, prefix:].mT.unflatten(2, (height, width))


# Row 19: the last block of a class-token ViT has no gradient at its patches: the map is zero, and nobody says so.


@pytest.mark.parametrize("layer", ["blocks.2", "norm", "blocks.2.norm2", "blocks.2.attn"])
def test_row_19_an_empty_map_of_the_last_block_says_why(layer):
    found = whycam.explain(vit(), pictures(), layer=layer)
    assert not found.maps.any()
    assert {status.kind for status in found.status} == {"zero gradient"}
    assert "class token" in found.status[0].message


def test_row_19_with_no_layer_named_the_patches_count():
    model, inputs = vit(), pictures()
    found = whycam.explain(model, inputs, "grad_cam", target=3)
    assert found.layer.name == "blocks.2.norm1"
    assert found.layer.location == "verified"
    assert "the score depends on" in found.layer.why
    expected = plain_grad_cam(model, model.blocks[2].norm1, inputs, tokens(1, 4, 4), [3, 3])
    torch.testing.assert_close(found.maps.double(), expected, rtol=1e-4, atol=1e-8)
    assert found.maps.any()


# Row 20: Swin's channels-last features taken for channels first.


def test_row_20_swin_needs_no_reshape():
    model, inputs = swin(), pictures()
    found = whycam.explain(model, inputs, target=[1, 4])
    assert (found.layer.name, found.layer.layout, found.layer.grid) == ("norm", "channels last", (8, 8))
    expected = plain_grad_cam(model, model.norm, inputs, lambda x: x.permute(0, 3, 1, 2), [1, 4])
    torch.testing.assert_close(found.maps.double(), expected, rtol=1e-4, atol=1e-8)
    named = whycam.explain(model, inputs, target=[1, 4], layer="norm")
    assert torch.equal(named.maps, found.maps)


def test_row_20_torchvisions_swin_too():
    torch.manual_seed(0)
    model = lively(
        torchvision.models.SwinTransformer(
            [4, 4], 12, [1, 1], [1, 2], window_size=[4, 4], num_classes=5, stochastic_depth_prob=0.0
        )
    )
    inputs = pictures()
    found = whycam.explain(model, inputs, target=2)
    assert found.layer.location == "verified"
    assert found.layer.grid == (8, 8)
    expected = plain_grad_cam(model, model.norm, inputs, lambda x: x.permute(0, 3, 1, 2), [2, 2])
    torch.testing.assert_close(found.maps.double(), expected, rtol=1e-4, atol=1e-8)


# Row 21: the documented reshape for Swin fails with today's features. There is none to write; one is taken as it is.


def test_row_21_a_layout_that_is_given_is_used_and_one_that_does_not_fit_is_refused():
    model, inputs = swin(), pictures()
    found = whycam.explain(model, inputs, target=2, layer="norm", layout=ChannelsLast())
    assert found.layer.location == "as given"
    assert torch.equal(found.maps, whycam.explain(model, inputs, target=2, layer="norm").maps)
    with pytest.raises(whycam.WhycamError, match=r"shape \(batch, 50, channel\)"):
        whycam.explain(vit(), inputs, layer="blocks.1", layout=Tokens((7, 7), 1))


# Row 22: the automatic layer is a key norm, a patch embedding or a stem.


def small_hf(kind):
    sizes = {"image_size": 64, "patch_size": 8, "hidden_size": 16, "intermediate_size": 32}
    sizes |= {"num_hidden_layers": 3, "num_attention_heads": 2}
    sizes = {"vision_config": sizes} if kind == "Siglip" else sizes
    config = getattr(transformers, f"{kind}Config")(num_labels=5, **sizes)
    torch.manual_seed(0)
    return lively(getattr(transformers, f"{kind}ForImageClassification")(config))


@pytest.mark.parametrize(
    ("make", "size", "layer", "grid"),
    [
        (lambda: vit(qk_norm=True), 64, "blocks.2.norm1", (4, 4)),
        (lambda: vit(global_pool="avg", class_token=False), 64, "blocks", (4, 4)),
        (lambda: vit(reg_tokens=4), 64, "blocks.2.norm1", (4, 4)),
        (lambda: small_hf("ViT"), 64, "vit.layers.2.layernorm_before", (8, 8)),
        (lambda: small_hf("DeiT"), 64, "deit.layers.2.layernorm_before", (8, 8)),
        (lambda: small_hf("Siglip"), 64, "vision_model.post_layernorm", (8, 8)),
        (
            lambda: lively(MlpMixer(5, 64, patch_size=32, num_blocks=2, embed_dim=16)),
            64,
            "norm",
            (2, 2),
        ),
        (lambda: lively(timm.create_model("levit_128s", num_classes=5)), 224, "stages", (4, 4)),
        (lambda: lively(timm.create_model("test_convnext", num_classes=5)), 96, "stages", (3, 3)),
    ],
    ids=["key norm", "mean of patches", "registers", "hf vit", "hf deit", "hf siglip", "mixer", "levit", "convnext"],
)
def test_row_22_the_layer_is_the_last_that_counts_for_the_score(make, size, layer, grid):
    found = whycam.explain(make(), pictures(size, size), "grad_cam")
    assert (found.layer.name, found.layer.grid) == (layer, grid)
    assert all(status.kind != "zero gradient" for status in found.status)


def test_row_22_a_model_that_rejects_the_usual_size_is_asked_at_its_own():
    class Strict(nets.Plain):
        def forward(self, x):
            assert x.shape[2:] == (48, 80), "only 48 x 80"
            return super().forward(x)

    found = whycam.explain(nets.fixed(Strict()), pictures(48, 80))
    assert found.layer.grid == (24, 40)


# The layout must not matter.


class AsImage(nn.Module):
    """Tokens laid out as an image, and back."""

    def __init__(self, grid, prefix):
        super().__init__()
        self.grid, self.prefix = grid, prefix
        self.image = nn.Identity()

    def forward(self, x):
        patches = self.image(x[:, self.prefix :].mT.unflatten(2, self.grid).clone())
        return torch.cat([x[:, : self.prefix], patches.flatten(2).mT], 1)


GRADIENT_METHODS = [
    "grad_cam",
    "grad_cam_plus_plus",
    "xgrad_cam",
    "hires_cam",
    "layer_cam",
    "grad_cam_elementwise",
    "eigen_cam",
    "eigen_grad_cam",
    "kpca_cam",
    "fem",
]


def test_tokens_give_the_map_of_the_same_numbers_laid_out_as_an_image():
    model, inputs = vit(img_size=(48, 80)), pictures(48, 80)
    model.blocks[1] = nn.Sequential(model.blocks[1], AsImage((3, 5), 1))
    made = whycam.compare(model, inputs, GRADIENT_METHODS, layers=["blocks.1.0", "blocks.1.1.image"], targets=[3])
    assert made.failures == {}
    for method in GRADIENT_METHODS:
        found, expected = made[method, "blocks.1.0", 3], made[method, "blocks.1.1.image", 3]
        assert found.layer.layout == "tokens on a grid of 3x5 after 1"
        assert expected.layer.layout == "channels first"
        torch.testing.assert_close(found.maps, expected.maps, rtol=1e-4, atol=1e-9)
        assert found.maps.any()


class Stem(nn.Module):
    """Patches of any picture as tokens, or the same numbers on their grid."""

    def __init__(self, *, tokens):
        super().__init__()
        self.embed, self.act = nn.Conv2d(3, 6, 4, stride=4), nn.Tanh()
        self.head, self.tokens = nn.Linear(6, 5), tokens

    def forward(self, x):
        maps = self.embed(x)
        if self.tokens:
            return self.head(self.act(maps.flatten(2).mT).square().mean(1))
        return self.head(self.act(maps).square().mean((2, 3)))


@pytest.mark.parametrize("method", ["cameras", "sess", "integrated_grad_cam"])
def test_tokens_of_inputs_of_other_sizes_are_read_on_their_own_grid(method):
    options = {"cameras": {"steps": 3, "largest": 2.0}, "sess": {"steps": 3}, "integrated_grad_cam": {"steps": 3}}
    inputs = torch.randn(2, 3, 24, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, expected = (
        whycam.explain(nets.fixed(Stem(tokens=tokens)), inputs, method, layer="act", target=1, **options[method]).maps
        for tokens in (True, False)
    )
    torch.testing.assert_close(found, expected)
    assert found.any()


def test_channels_last_gives_the_map_of_its_channels_first_twin():
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.image = nn.Identity()

        def forward(self, x):
            return self.image(x.permute(0, 3, 1, 2).clone()).permute(0, 2, 3, 1)

    model, inputs = swin(), pictures()
    model.norm = nn.Sequential(model.norm, First())
    made = whycam.compare(model, inputs, GRADIENT_METHODS, layers=["norm.0", "norm.1.image"], targets=[3])
    assert made.failures == {}
    for method in GRADIENT_METHODS:
        found, expected = made[method, "norm.0", 3], made[method, "norm.1.image", 3]
        assert (found.layer.layout, expected.layer.layout) == ("channels last", "channels first")
        torch.testing.assert_close(found.maps, expected.maps, rtol=1e-4, atol=1e-9)
        assert found.maps.any()


@pytest.mark.parametrize(("block", "grid", "unrolled"), [(0, 56, 3), (2, 28, 2), (6, 14, 1), (10, 7, 0)])
def test_hieras_tokens_are_drawn_where_they_lie(block, grid, unrolled):
    torch.manual_seed(0)
    model = lively(timm.create_model("hiera_tiny_224", embed_dim=16, num_classes=5))
    inputs = pictures(224, 224, 1)
    found = whycam.explain(model, inputs, signed_grad_cam, layer=f"blocks.{block}", target=2)
    assert found.layer.location == "verified"
    assert found.layer.grid == (grid, grid)
    assert (f"unrolled {unrolled}x" in found.layer.layout) == bool(unrolled)

    def rolled(tokens):
        return model.reroll(tokens, block).permute(0, 3, 1, 2)  # the model's own way back

    expected = plain_grad_cam(model, model.blocks[block], inputs, rolled, [2], signed=True)
    torch.testing.assert_close(found.maps.double(), expected, rtol=1e-4, atol=1e-9)
    assert found.maps.any()


def test_hiera_of_transformers_too():
    torch.manual_seed(0)
    config = transformers.HieraConfig(
        image_size=[64, 64], embed_dim=16, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], num_labels=5
    )
    model = lively(transformers.HieraForImageClassification(config))
    listed = {row.name: row for row in whycam.layers(model, pictures())}
    assert listed["hiera.encoder.stages.0"].layout == "tokens on a grid of 16x16 after 0, unrolled 3x"
    assert {row.location for row in listed.values() if "stages" in row.name and "layers" not in row.name} == {
        "verified"
    }
    assert whycam.explain(model, pictures()).layer.grid == (2, 2)
