"""What one forward shows of a network's features."""

import nets
import pytest
import torch
import torchvision_shim
from torch import nn

from whycam.network.layers.features import features, is_convolutional
from whycam.network.layouts import ChannelsFirst, Tokens

torchvision_shim.register()
import timm  # noqa: E402


def by_name(model, inputs):
    return {str(each.tap): each for each in features(model, inputs)[0]}


def vit():
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=64, depth=2, embed_dim=24, num_heads=2, num_classes=5
    ).eval()


def test_each_feature_knows_what_made_it():
    found = by_name(vit(), torch.zeros(2, 3, 64, 64))
    assert {name: found[name].role for name in ("patch_embed.proj", "blocks.0.norm1", "blocks.0.attn.qkv", "norm")} == {
        "patch_embed.proj": "step",
        "blocks.0.norm1": "norm",
        "blocks.0.attn.qkv": "step",
        "norm": "norm",
    }
    assert found["blocks.0"].role == "block"
    assert found["blocks.0.mlp.act"].role == "activation"
    assert found["blocks.0.mlp.act"].before is not None
    assert str(found["blocks.0.mlp.act"].before) == "blocks.0.mlp.fc1"
    assert [found[name].inner for name in ("blocks.0.attn.qkv", "blocks.0.attn", "blocks.0.norm1")] == [
        True,
        False,
        False,
    ]
    assert (found["blocks.0"].width, found["blocks.0.attn.qkv"].width, found["patch_embed.proj"].width) == (24, 72, 24)
    assert found["blocks.0"].layout == Tokens((4, 4), 1)
    assert found["patch_embed.proj"].layout == ChannelsFirst()
    assert found["blocks.0"].stride == (16, 16)


def test_windows_folded_into_the_batch_are_no_features():
    model = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, depths=(1, 1), embed_dim=12, num_heads=(1, 2)
    )
    names = by_name(model.eval(), torch.zeros(1, 3, 64, 64))
    assert "layers.0" in names
    assert not any("attn" in name for name in names)


def test_a_module_that_wraps_the_tensor_lends_its_name_only_if_no_other_does():
    class Base(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return {"last": self.conv(x)}

    model = nn.Sequential(Base())
    model.forward = lambda x: model[0](x)["last"].mean((2, 3))
    assert list(by_name(model, nets.images().float())) == ["0.conv"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (nets.plain, True),
        (lambda: nets.fixed(nets.ChannelsLast()), False),
        (lambda: nets.fixed(nets.Tokens()), False),
        (lambda: nets.fixed(nets.Dense()), True),
    ],
)
def test_what_is_plainly_convolutional(make, expected):
    assert is_convolutional(make(), nets.images()) == expected


def test_gates_of_one_vector_leave_a_network_convolutional():
    class Gated(nets.Plain):
        def __init__(self):
            super().__init__()
            self.gate = nn.Conv1d(1, 1, 3, padding=1)

        def features(self, x):
            maps = super().features(x)
            return maps * self.gate(nets.spatial_mean(maps)[:, None]).mT[..., None]

    assert is_convolutional(nets.fixed(Gated()), nets.images())


def test_a_fold_that_mixes_pixels_and_patches_is_not_plainly_convolutional():
    class Unfolded(nets.Plain):
        def __init__(self):
            super().__init__()
            self.mix = nn.Conv2d(6, 6, 1)

        def features(self, x):
            maps = self.relu1(self.conv1(x))
            patches = maps.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).flatten(2, 3).mT  # (B, C, 4 pixels, 16 patches)
            maps = self.mix(patches).unflatten(3, (4, 4)).unflatten(2, (2, 2))
            return self.relu2(self.conv2(maps.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)))

    assert not is_convolutional(nets.fixed(Unfolded()), nets.images())


class Registers(nn.Module):
    """Patches of a convolution's grid, of other proportions than the picture, behind other tokens."""

    def __init__(self, beside):
        super().__init__()
        self.embed = nn.Conv2d(3, 16, (2, 4), stride=(2, 4))
        self.others = nn.Parameter(torch.randn(1, beside, 16))
        self.block = nn.Linear(16, 16)

    def forward(self, x):
        patches = self.embed(x).flatten(2).mT
        return self.block(torch.cat([self.others.expand(len(x), -1, -1), patches], 1))[:, 0]


@pytest.mark.parametrize(("beside", "known"), [(1, "said"), (2, "guessed"), (7, "guessed"), (40, "guessed")])
def test_tokens_beside_a_convolution_s_grid_are_a_guess_where_there_are_several(beside, known):
    found = by_name(nets.fixed(Registers(beside)), nets.images(side=12))
    assert found["embed"].grid == (6, 3)
    first, *others = found["block"].readings
    assert (first, first.known) == (Tokens((6, 3), beside), known)
    assert all(each.known == "guessed" for each in others)
