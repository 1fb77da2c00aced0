"""Several grids in one axis of tokens, as deformable encoders have them: found by number, verified, a map of each."""

import detectors
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whycam
from whycam.network.layouts import Scales, Tokens, readings
from whycam.targets import Box

GRIDS = ((8, 12), (4, 6), (2, 3))


class Encoder(nn.Module):
    """Three convolutions' grids as tokens, mixed over the channels alone; the coarsest first where `turned`."""

    def __init__(self, turned=False, shuffled=False):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(a, 6, k, k) for a, k in ((3, 8), (6, 2), (6, 2)))
        self.norm = nn.LayerNorm(6)
        self.last = nn.Linear(6, 2)
        self.turned, self.shuffled = turned, shuffled

    def forward(self, inputs):
        fine = self.first(inputs)
        middle = self.second(fine)
        every = [fine, middle, self.third(middle)]
        tokens = torch.cat([each.flatten(2).mT for each in (every[::-1] if self.turned else every)], 1)
        if self.shuffled:
            tokens = tokens[:, torch.randperm(126, generator=torch.Generator().manual_seed(0))]
        return self.last(self.norm(tokens)).tanh().mean(1)


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return torch.rand(2, 3, 64, 96, dtype=torch.float64)


def by_hand(model, inputs):
    kept = []

    def keep(module, given, output):
        kept.append(output)
        return output.clone()

    handle = model.norm.register_forward_hook(keep)
    score = model(inputs)[:, 1].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    values, maps, start = (gradient * kept[0]).sum(2).detach(), {}, 0
    for rows, columns in GRIDS[::-1] if model.turned else GRIDS:
        maps[rows, columns] = values[:, start : start + rows * columns].reshape(-1, rows, columns)
        start += rows * columns
    return maps


@pytest.mark.parametrize("turned", [False, True])
def test_each_grid_is_a_map_and_they_are_added_up(inputs, turned):
    torch.manual_seed(1)
    model = Encoder(turned).double()
    e = whycam.explain(model, inputs, "hires_cam", target=1, layer="norm")
    maps = by_hand(model, inputs)
    total = sum(each.sum((1, 2)) for each in maps.values())
    torch.testing.assert_close(e.maps.double().sum((1, 2)), total, rtol=1e-5, atol=1e-8)
    assert e.layer.name == "norm"
    assert e.layer.grid == (8, 12)
    assert e.layer.location == "verified"
    assert e.layer.why == "3 scales in one axis of tokens fused by sum"
    middle = F.interpolate(maps[4, 6][None], (8, 12), mode="bilinear")[0] / 4
    coarse = F.interpolate(maps[2, 3][None], (8, 12), mode="bilinear")[0] / 16
    inner = (slice(None), slice(2, -2), slice(2, -2))  # a border cell is spread on fewer
    torch.testing.assert_close(e.maps.double()[inner], (maps[8, 12] + middle + coarse)[inner], rtol=1e-4, atol=1e-8)
    said = whycam.explain(model, inputs, "hires_cam", target=1, layer="norm",
                          layout=Scales(GRIDS[::-1] if turned else GRIDS))  # fmt: skip
    torch.testing.assert_close(said.maps, e.maps)
    assert said.layer.location == "as given"


def test_an_order_that_is_none_of_them_is_refused_and_not_guessed(inputs):
    torch.manual_seed(1)
    with pytest.raises(whycam.WhycamError, match=r"could not be told|do not lie as in the input"):
        whycam.explain(Encoder(shuffled=True).double(), inputs, "hires_cam", target=1, layer="norm")


@pytest.mark.parametrize("method", ["score_cam", "ablation_cam", "integrated_grad_cam", "layer_cam"])
def test_methods_that_edit_the_layer_edit_one_grid_at_a_time(inputs, method):
    """A method of one grid at a time: its sum is that of the three, each read as tokens between others."""
    torch.manual_seed(1)
    model = Encoder().double()
    e = whycam.explain(model, inputs, method, target=1, layer="norm")
    parts = [whycam.explain(model, inputs, method, target=1, layer="norm", layout=each) for each in Scales(GRIDS).parts]
    total = sum(each.maps.sum((1, 2)) for each in parts)
    torch.testing.assert_close(e.maps.sum((1, 2)), total, rtol=1e-4, atol=1e-6)


def test_smoothed_and_along_a_path(inputs):
    torch.manual_seed(1)
    model = Encoder().double()
    for asked in ({"path": 3}, {"smoothing": "augmentations"}):
        e = whycam.explain(model, inputs, "hires_cam", target=1, layer="norm", **asked)
        parts = [
            whycam.explain(model, inputs, "hires_cam", target=1, layer="norm", layout=each, **asked)
            for each in Scales(GRIDS).parts
        ]
        torch.testing.assert_close(
            e.maps.sum((1, 2)), sum(each.maps.sum((1, 2)) for each in parts), rtol=1e-4, atol=1e-6
        )


def test_the_layout_there_and_back():
    layout, output = Scales(GRIDS), torch.rand(2, 126, 5)
    assert layout.count == 126
    assert torch.equal(layout.from_maps(layout.to_maps(output), output), output)
    assert layout.parts == [Tokens((8, 12), 0, 30), Tokens((4, 6), 96, 6), Tokens((2, 3), 120, 0)]
    assert torch.equal(layout.parts[1].to_maps(output), output[:, 96:120].mT.reshape(2, 5, 4, 6))
    assert str(layout) == "tokens on grids of 8x12, 4x6, 2x3"


def test_neighboring_grids_alone():
    found = readings((1, 102, 5), (1, 3, 64, 96), None, (), GRIDS)  # 96 + 6 leaves the middle one out
    assert not [each for each in found if isinstance(each, Scales)]
    assert not [each for each in readings((1, 96, 5), (1, 3, 64, 96), None, (), GRIDS) if isinstance(each, Scales)]
    found = readings((1, 120, 5), (1, 3, 64, 96), None, (), GRIDS)
    assert [each for each in found if isinstance(each, Scales)] == [Scales(GRIDS[:2]), Scales(GRIDS[1::-1])]


def test_deformable_encoders():
    torch.manual_seed(0)
    model = detectors.TRANSFORMERS["Deformable DETR"]().eval()
    e = whycam.explain(model, torch.rand(1, 3, 64, 96), target=Box(0), layer="model.encoder.layers.0.final_layer_norm")
    assert e.layer.why == "3 scales in one axis of tokens fused by sum"
    assert e.layer.location == "verified"
