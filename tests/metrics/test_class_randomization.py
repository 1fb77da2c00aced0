"""Class randomization against rank correlations of two classes' maps."""

import math

import nets
import pytest
import torch
from metrics_by_hand import FourPixels, by_gradient, drawn, spearman
from torch import Tensor, nn

import whycam

class_randomization = whycam.metrics.class_randomization


@pytest.mark.parametrize("other", ["random", "likeliest"])
def test_is_the_rank_correlation_with_another_classs_map(other):
    net, pictures, asked = nets.plain(), nets.images(4), []

    def seen(module: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
        asked.append(classes)
        return by_gradient(module, inputs, classes)

    logits = net(pictures).detach()
    own = logits.argmax(1)
    maps = by_gradient(net, pictures, own)
    found = class_randomization(maps, net, pictures, explain=seen, other=other, curves=True)
    (classes,) = asked
    again = by_gradient(net, pictures, classes)
    expected = [spearman(*each) for each in zip(maps, again, strict=True)]
    assert found.values.tolist() == pytest.approx(expected, rel=1e-9)
    sizes = [spearman(one.abs(), two.abs()) for one, two in zip(maps, again, strict=True)]
    assert found.parts["magnitudes"].tolist() == pytest.approx(sizes, rel=1e-9)
    if other == "likeliest":
        assert classes.tolist() == logits.argsort(1)[:, -2].tolist()
    else:
        steps = set(((classes - own) % 5).tolist())
        assert len(steps) == 1  # as many for all, whatever the batch
        assert steps != {0}


def test_a_class_of_its_own_is_never_drawn():
    net, asked = nets.plain(), []

    def seen(module: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
        asked.append(classes)
        return inputs.sum(1)

    own = torch.arange(5)
    for seed in range(30):
        class_randomization(drawn(5, 8, 8), net, nets.images(5), own.tolist(), explain=seen, seed=seed)
    assert all((each != own).all() for each in asked)
    assert {each[0].item() for each in asked} == {1, 2, 3, 4}


def test_four_pixels_by_hand():
    # what speaks for one class speaks against the other
    net = FourPixels([[4.0, 3.0, 2.0, 1.0], [-4.0, -3.0, -2.0, -1.0]])
    picture = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    maps = by_gradient(net, picture, torch.tensor([0]))
    found = class_randomization(maps, net, picture, 0, explain=by_gradient, curves=True)
    assert found.values.item() == pytest.approx(-1)
    assert found.parts["magnitudes"].item() == pytest.approx(1)


def test_a_method_without_a_class_has_the_same_map_for_another():
    net, pictures = nets.plain(), nets.images(2)
    assert class_randomization(whycam.explain(net, pictures, method="eigen_cam"), net, pictures).tolist() == (
        pytest.approx([1, 1])
    )


def test_a_flat_map_for_the_other_class_has_nothing_in_common():
    maps = drawn(2, 4, 4)
    maps[1] = 1.0
    found = class_randomization.function(
        maps, lambda _: torch.zeros_like(maps), lambda _: torch.zeros(2).long(), ssim=True
    )
    for values in (found.values, *found.parts.values()):
        assert values.tolist() == pytest.approx([0, math.nan], nan_ok=True)
    assert list(found.parts) == ["magnitudes", "ssim"]


def test_what_is_no_class_has_no_other():
    net, pictures = nets.plain(), nets.images(2)
    with pytest.raises(whycam.WhycamError, match="asks for another class, and what is explained is none"):
        class_randomization(drawn(2, 8, 8), net, pictures, lambda output: output.sum(1), explain=by_gradient)
