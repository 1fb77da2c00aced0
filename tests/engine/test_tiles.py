"""Pictures cut into tiles: one score of the whole is as of a picture given whole; scores of each, beside a loop."""

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whycam
from whycam.targets import Box, Region


class Dense(nn.Module):
    """Fully convolutional, of stride 8, with skips: a pixel reaches 33 pixels at most."""

    def __init__(self, global_=False):
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, 2, 1)
        self.two = nn.Conv2d(6, 8, 3, 2, 1)
        self.three = nn.Conv2d(8, 8, 3, 2, 1)
        self.four = nn.Conv2d(8, 8, 3, 1, 1)
        self.head = nn.Conv2d(8, 3, 1)
        self.global_ = global_

    def forward(self, x):
        x = self.three(self.two(self.one(x).relu()).relu()).relu()
        x = self.four(x).relu()
        if self.global_:
            x = x * x.mean((2, 3), keepdim=True).sigmoid()
        return self.head(x)


def network(**options):
    return nets.fixed(Dense(**options)).double()


def picture(height, width):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("method", ["hires_cam", "layer_cam", "grad_cam", "seg_xres_cam", "eigen_grad_cam"])
@pytest.mark.parametrize("size", [(96, 160), (100, 90), (131, 77)])
def test_it_is_as_if_the_picture_had_been_given_whole(method, size):
    model, inputs = network(), picture(*size)
    for target in (Region(1), Region(2, "box", box=(20, 30, 70, 60))):
        whole = whycam.explain(model, inputs, method, target=target, layer="three")
        tiled = whycam.explain(model, inputs, method, target=target, layer="three", tiles=32)
        assert tiled.maps.shape == whole.maps.shape
        torch.testing.assert_close(tiled.maps, whole.maps, rtol=1e-6, atol=1e-6 * float(whole.maps.abs().max()))
        torch.testing.assert_close(tiled.scores, whole.scores, rtol=1e-9, atol=0)
        assert tiled.target == whole.target
        assert "tiles of 32x32 with" in tiled.layer.why
    # by hand as well: HiResCAM of the mean over a mask is the gradient times the activation
    if method == "hires_cam":
        kept = []
        handle = model.three.register_forward_hook(lambda module, given, output: kept.append(output))
        answer = model(inputs.clone().requires_grad_())
        handle.remove()
        score = answer[0, 1][answer[0].argmax(0) == 1].mean()
        (gradient,) = torch.autograd.grad(score, kept[0])
        found = whycam.explain(model, inputs, method, target=Region(1), layer="three", tiles=32)
        expected = (gradient * kept[0]).sum(1).float().detach()
        torch.testing.assert_close(found.maps, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


def test_without_a_halo_it_is_another_map():
    model, inputs = network(), picture(96, 160)
    whole, exact, none = (
        whycam.explain(model, inputs, "hires_cam", target=Region(1), layer="three", tiles=tiles)
        for tiles in (None, 32, whycam.Tiles(32, halo=0))
    )
    assert torch.allclose(exact.maps, whole.maps, rtol=1e-5, atol=1e-8)
    assert not torch.allclose(none.maps, whole.maps, rtol=1e-2, atol=1e-4)


def test_a_network_that_sees_everything_says_so():
    model, inputs = network(global_=True), picture(96, 160)
    with pytest.raises(whycam.InputError, match="every place of the answer depends on every pixel"):
        whycam.explain(model, inputs, "hires_cam", target=Region(1), layer="three", tiles=32)
    found = whycam.explain(model, inputs, "hires_cam", target=Region(1), layer="three", tiles=whycam.Tiles(32, halo=32))
    assert found.status[0].ok


def test_the_layer_is_chosen_and_several_targets_share_the_tiles():
    model, inputs = network(), picture(96, 160)
    targets = [Region(1), Region(2)]
    whole = whycam.compare(model, inputs, ["hires_cam", "grad_cam"], targets=targets)
    tiled = whycam.compare(model, inputs, ["hires_cam", "grad_cam"], targets=targets, tiles=32)
    assert [key[1] for key in tiled] == [key[1] for key in whole]
    for one, other in zip(tiled.values(), whole.values(), strict=True):
        torch.testing.assert_close(one.maps, other.maps, rtol=1e-5, atol=1e-6 * float(other.maps.abs().max()))
    assert tiled.cost.backwards == 2 * 15 + 1  # one to choose the layer


class Heads(Dense):
    """Answers at several depths in one tensor, `(batch, head, class, *space)`, the first of them in full."""

    def forward(self, x):
        full = super().forward(x)
        return torch.stack([full, -full], 1)


def test_several_heads_are_read_as_for_the_whole_picture():
    model, inputs = nets.fixed(Heads()).double(), picture(96, 160)
    whole, tiled = (
        whycam.explain(model, inputs, "hires_cam", target=Region(1), layer="three", tiles=tiles) for tiles in (None, 32)
    )
    torch.testing.assert_close(tiled.maps, whole.maps, rtol=1e-5, atol=1e-6 * float(whole.maps.abs().max()))


def test_a_layer_that_was_chosen_says_that_tiles_were_put_together(monkeypatch):
    monkeypatch.setattr("whycam.engine.layer_plan.of_segmenter", lambda *_, **__: ([], 0, 0))
    found = whycam.explain(network(), picture(96, 160), "hires_cam", target=Region(1), tiles=32)
    assert found.layer.why.startswith("the last feature")
    assert "put together from 15 tiles of 32x32" in found.layer.why


class Classifier(nn.Module):
    """Takes pictures of 32 pixels and no other."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        assert x.shape[2:] == (32, 32)
        return self.head(self.conv(x).relu().mean((2, 3)))


def test_a_score_each_is_the_mean_of_tiles_where_they_overlap():
    model, inputs = nets.fixed(Classifier()).double(), picture(48, 70)
    found = whycam.explain(model, inputs, "hires_cam", target=1, layer="conv", tiles=32)
    total, count = torch.zeros(48, 70, dtype=torch.float64), torch.zeros(48, 70)
    scores = []
    for top in (0, 16):
        for left in (0, 16, 32, 38):
            tile = inputs[..., top : top + 32, left : left + 32]
            kept = []
            handle = model.conv.register_forward_hook(lambda module, given, output, kept=kept: kept.append(output))
            score = model(tile.clone().requires_grad_())[0, 1]
            handle.remove()
            (gradient,) = torch.autograd.grad(score, kept[0])
            heat = F.interpolate((gradient * kept[0]).sum(1, keepdim=True), (32, 32), mode="bilinear")[0, 0]
            total[top : top + 32, left : left + 32] += heat.detach()
            count[top : top + 32, left : left + 32] += 1
            scores.append(score.item())
    expected = (total / count).float()
    torch.testing.assert_close(found.maps[0], expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    torch.testing.assert_close(
        found.tile_scores[0].flatten(), torch.tensor(scores, dtype=torch.float64), rtol=1e-9, atol=0
    )
    assert found.tile_scores.shape == (1, 2, 4)
    assert found.heatmaps().shape == (1, 48, 70)
    assert any("the mean of 8 tiles" in note for note in found.notes)


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"method": "score_cam", "target": Region(1)}, "Score-CAM reads inputs, which is not put together from tiles"),
     ({"target": 1, "tiles": whycam.Tiles(32, score="whole")}, "one score of the whole picture needs a target"),
     ({"target": Box(0)}, "a detector finds other boxes in every tile"),
     ({"target": None}, "each tile has a top class of its own"),
     ({"target": Region(1), "tiles": 30}, "tiles need a whole number of pixels for each cell"),
     ({"target": Region(1), "smoothing": "augmentations"}, "tiles= and smoothing= or path= exclude each other"),
     ({"target": Region(1), "tiles": whycam.Tiles((32,))}, "tiles of 1 sides came for a picture with 2 axes")],
)  # fmt: skip
def test_what_tiles_cannot_do(asked, said):
    with pytest.raises(whycam.WhycamError, match=said):
        whycam.explain(network(), picture(96, 160), **{"tiles": 32, "layer": "three", **asked})


@pytest.mark.parametrize(
    "make", [lambda: whycam.Tiles(0), lambda: whycam.Tiles(8, halo=-1), lambda: whycam.Tiles(8, overlap=1.0)]
)
def test_tiles_that_cannot_be(make):
    with pytest.raises(whycam.OptionError, match=r"tiles have a size|overlap a share"):
        make()
