"""ARCC against its three parts, which have tests of their own."""

import nets
import pytest
import torch
from metrics_by_hand import Small, drawn
from torch import Tensor, nn

import whycam

PICTURES, MAPS = drawn(8, 3, 4, 4, seed=3), drawn(8, 4, 4, seed=4)


def explain(module: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    return inputs.sum(1) * (1.0 + classes[:, None, None])


def test_is_the_harmonic_mean_of_coherency_simplicity_and_twice_road():
    net = Small()
    found = whycam.metrics.arcc(MAPS, net, PICTURES, target=1, explain=explain, curves=True)
    beside = whycam.metrics.adcc(MAPS, net, PICTURES, target=1, explain=explain, curves=True).parts
    road = whycam.metrics.road(MAPS, net, PICTURES, target=1, fractions=(0.2, 0.4, 0.6, 0.8)).tolist()
    assert found.parts["road"].tolist() == pytest.approx(road, rel=1e-9)
    for name in ("coherency", "complexity"):
        assert found.parts[name].tolist() == pytest.approx(beside[name].tolist(), rel=1e-12)
    coherent, wide = beside["coherency"].tolist(), beside["complexity"].tolist()
    for value, *parts in zip(found.values.tolist(), coherent, wide, road, strict=True):
        each = [parts[0], 1 - parts[1], 2 * max(0.0, parts[2])]
        assert value == pytest.approx(3 / sum(1 / one for one in each) if all(each) else 0.0, rel=1e-9)
    assert 0 < sum(value == 0 for value in found.values.tolist()) < 8  # ROAD below 0 is nothing


def test_a_flat_map_is_not_half_coherent():
    """pytorch-grad-cam adds 1e-8 to what it divides by, so that nothing is a correlation of 0, which becomes 1/2."""
    found = whycam.metrics.arcc(torch.ones(2, 4, 4), Small(), PICTURES[:2], explain=explain, curves=True)
    assert found.parts["coherency"].tolist() == [0, 0]
    assert found.values.tolist() == [0, 0]


def test_asks_for_nothing_that_road_has_asked_for():
    def forwards(*metrics: str) -> int:
        given = {"methods": ["grad_cam"], "metrics": metrics, "controls": False, "sanity": 0}
        return whycam.evaluate(nets.plain(), nets.images(2), **given).asked["forwards"]

    assert forwards("road", "arcc") == forwards("road") > 0
