"""ADCC against its three parts, each worked from the paper one picture at a time."""

import math

import numpy as np
import pytest
import torch
from metrics_by_hand import FourPixels, Small, by_gradient, drawn, probability_of
from torch import Tensor, nn

import whycam


def positive(module: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    """A method that keeps what speaks for the class."""
    return by_gradient(module, inputs, classes).clamp(min=0)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    pairs = [*zip(one.flatten().tolist(), other.flatten().tolist(), strict=True)]
    means = [sum(each) / len(pairs) for each in zip(*pairs, strict=True)]
    off = [(a - means[0], b - means[1]) for a, b in pairs]
    below = math.sqrt(sum(a * a for a, _ in off)) * math.sqrt(sum(b * b for _, b in off))
    return sum(a * b for a, b in off) / below if below else math.nan


def parts(net: nn.Module, picture: Tensor, map_: Tensor, index: int) -> tuple[float, float, float]:
    """Coherency, complexity and drop of one picture, section 3.2."""
    mask = map_.clamp(min=0) / map_.max() if map_.max() > 0 else torch.zeros_like(map_)
    shown = picture * mask
    again = positive(net, shown[None], torch.tensor([index]))[0]
    again = again / again.max() if again.max() > 0 else again
    alike = correlation(mask.numpy(), again.numpy())
    coherent = 0.0 if math.isnan(alike) else (1 + alike) / 2
    wide = sum(mask.flatten().tolist()) / mask.numel()
    before, after = probability_of(net, picture, index), probability_of(net, shown, index)
    return coherent, wide, max(0.0, before - after) / before


def together(coherent: float, wide: float, drop: float) -> float:
    each = [coherent, 1 - wide, 1 - drop]
    return 0.0 if 0.0 in each else 3 / sum(1 / one for one in each)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_is_the_papers_three_parts(axes):
    net = Small(axes=axes)
    inputs, maps = drawn(6, 3, *[4] * axes, seed=3), drawn(6, *[4] * axes, seed=4)
    found = whycam.metrics.adcc(maps, net, inputs, target=1, explain=positive, curves=True)
    every = [parts(net, *each, 1) for each in zip(inputs, maps, strict=True)]
    for name, expected in zip(("coherency", "complexity", "average_drop"), zip(*every, strict=True), strict=True):
        assert found.parts[name].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-11)
    assert found.values.tolist() == pytest.approx([together(*each) for each in every], rel=1e-9)
    assert len({round(value, 3) for value in found.values.tolist()}) == 6


def test_four_pixels_by_hand():
    # the score is a + b + c + d for class 0 and 0 for class 1; the map shows a and b, and then so does its own map
    net = FourPixels([[1.0, 1.0, 1.0, 1.0], [0.0] * 4])
    picture, map_ = torch.tensor([[[[1.0, 1.0], [-1.0, 1.0]]]], dtype=torch.float64), torch.tensor([[[2.0, 2], [0, 0]]])
    found = whycam.metrics.adcc(map_, net, picture, target=0, explain=positive, curves=True)
    assert found.parts["coherency"].item() == pytest.approx(1)
    assert found.parts["complexity"].item() == 0.5
    assert found.parts["average_drop"].item() == pytest.approx(0)  # 2 before and after
    assert found.values.item() == pytest.approx(3 / (1 + 2 + 1))


def test_a_method_that_says_the_opposite_of_what_it_is_shown_is_not_coherent():
    def opposite(module: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
        return 1.0 - (inputs != 0).double().amax(1)

    net, pictures = Small(), drawn(1, 3, 2, 2)
    found = whycam.metrics.adcc(torch.tensor([[[1.0, 0], [0, 1]]]), net, pictures, explain=opposite, curves=True)
    assert (found.parts["coherency"].item(), found.values.item()) == (0.0, 0.0)


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan], ids=["dark", "bright", "broken"])
def test_coherency_of_what_has_none_is_0(value):
    """A second map of NaN, as in the authors' code, and one that is flat, which makes theirs NaN as a whole."""
    net, pictures, maps = Small(), drawn(2, 3, 2, 2), drawn(2, 2, 2, seed=1)
    found = whycam.metrics.adcc(
        maps, net, pictures, explain=lambda _, inputs, __: torch.full_like(inputs[:, 0], value), curves=True
    )
    assert found.parts["coherency"].tolist() == [0, 0]
    assert found.values.tolist() == [0, 0]


def test_maps_of_zeros_and_of_ones_are_worth_nothing():
    net, pictures = Small(), drawn(2, 3, 2, 2)
    maps = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])
    found = whycam.metrics.adcc(maps, net, pictures, explain=positive, curves=True)
    assert found.parts["complexity"].tolist() == [0, 1]
    assert found.values.tolist() == [0, 0]


def test_the_second_map_is_for_the_same_class():
    net, pictures, maps = Small(), drawn(3, 3, 4, 4, seed=2), drawn(3, 4, 4, seed=5).clamp(min=0)
    asked = []

    def seen(module: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
        asked.append(classes.tolist())
        return positive(module, inputs, classes)

    whycam.metrics.adcc(maps, net, pictures, target=2, explain=seen)
    assert asked == [[2, 2, 2]]
