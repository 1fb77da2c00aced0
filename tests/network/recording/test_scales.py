"""A layer that runs once for each scale, as detectors' shared heads do: a record and a map of each, or their sum."""

import detectors
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whycam
from whycam.targets import Box


class Shared(nn.Module):
    """One head on three scales of one feature; the middle one has no part in class 1."""

    def __init__(self, sides=(12, 6, 1)):
        super().__init__()
        self.sides = sides
        self.body = nn.Conv2d(3, 5, 3, 2, 1)
        self.head = nn.Conv2d(5, 5, 3, 1, 1)
        self.relu = nn.ReLU()
        self.last = nn.Linear(5 * len(sides), 2, bias=False)
        if len(sides) > 2:
            self.last.weight.data[1, 5:10] = 0

    def forward(self, inputs):
        features = self.relu(self.body(inputs))
        outputs = [self.relu(self.head(F.adaptive_avg_pool2d(features, side))) for side in self.sides]
        return self.last(torch.cat([each.square().mean((2, 3)) for each in outputs], 1))


def by_hand(model, inputs, of):
    """Gradient times activation of each call, by plain autograd."""
    kept = []

    def keep(module, given, output):
        kept.append(output)
        return output.clone()

    handle = model.head.register_forward_hook(keep)
    score = model(inputs)[:, of].sum()
    handle.remove()
    return [(g * a).sum(1).detach() for a, g in zip(kept, torch.autograd.grad(score, kept), strict=True)]


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    return Shared().double(), torch.rand(2, 3, 24, 24, dtype=torch.float64)


def test_each_call_has_its_map(case):
    model, inputs = case
    found = whycam.compare(model, inputs, ["hires_cam"], targets=[0], layers=["head#*"])
    assert [key[1] for key in found] == ["head#0", "head#1", "head#2"]
    for each, expected in zip(found.values(), by_hand(model, inputs, 0), strict=True):
        torch.testing.assert_close(each.maps.double(), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("of", [0, 1])
@pytest.mark.parametrize("layer", ["head", "head#*", ["head#*"]])
def test_the_name_alone_is_their_sum(case, layer, of):
    model, inputs = case
    e = whycam.explain(model, inputs, "hires_cam", target=of, layer=layer)
    every = by_hand(model, inputs, of)
    total = sum(each.sum((1, 2)) for each in every)
    torch.testing.assert_close(e.maps.double().sum((1, 2)), total, rtol=1e-5, atol=1e-7)
    spread = F.interpolate(every[2][None], (12, 12), mode="nearest")[0] / 144
    fine = F.interpolate(every[1][None], (12, 12), mode="bilinear")[0] / 4
    inner = e.maps.double()[:, 2:-2, 2:-2] - (every[0] + spread)[:, 2:-2, 2:-2]  # a border cell is spread on fewer
    torch.testing.assert_close(inner, fine[:, 2:-2, 2:-2], rtol=1e-4, atol=1e-7)
    assert e.layer.name == "head"
    assert e.layer.grid == (12, 12)
    assert e.layer.why == "3 calls, one for each scale (choose with '#'), fused by sum"
    assert (e.cost.forwards, e.cost.backwards) == (1, 1)
    assert e.status[0].ok
    dead = "no part of the score comes through head#1" in e.notes
    assert dead == (of == 1)


def test_one_call_can_be_named(case):
    model, inputs = case
    e = whycam.explain(model, inputs, "hires_cam", target=0, layer="head#1")
    torch.testing.assert_close(e.maps.double(), by_hand(model, inputs, 0)[1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("sides", "layer"), [((6, 6), "head"), ((6, 12, 6), "head"), ((6, 3), "relu")])
def test_what_is_no_scale_is_the_last_call(sides, layer):
    """The same grid twice, and an activation function that runs everywhere, are calls as they were."""
    torch.manual_seed(0)
    model, inputs = Shared(sides).double(), torch.rand(1, 3, 24, 24, dtype=torch.float64)
    e = whycam.explain(model, inputs, "hires_cam", target=0, layer=layer)
    last = whycam.explain(model, inputs, "hires_cam", target=0, layer=f"{layer}#-1")
    torch.testing.assert_close(e.maps, last.maps)
    assert "choose with '#'" in e.layer.why


@pytest.mark.parametrize("family", ["RetinaNet", "FCOS"])
def test_the_shared_heads_of_detectors(family):
    torch.manual_seed(0)
    model, inputs = detectors.TORCHVISION[family]().eval(), torch.rand(2, 3, 64, 96)
    name = "head.classification_head.conv.0"
    one = whycam.explain(model, inputs, "hires_cam", target=Box(0), layer=name)
    every = whycam.compare(model, inputs, ["hires_cam"], targets=[Box(0)], layers=[f"{name}#*"])
    assert [each.layer.grid for each in every.values()] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    total = sum(each.maps.sum((1, 2)) for each in every.values())
    torch.testing.assert_close(one.maps.sum((1, 2)), total, rtol=1e-4, atol=1e-8)
    assert [status.kind for each in every.values() for status in each.status].count("zero gradient") == 8
    assert {status.kind for status in one.status} == {"ok"}
