"""Model randomization against rank correlations of maps that a method makes of each copy."""

import math

import nets
import pytest
import torch
from metrics_by_hand import by_gradient, drawn, spearman
from torch import Tensor

import whycam
from whycam.evaluation.randomized import randomized

model_randomization = whycam.metrics.model_randomization


def of_stages(*stages: Tensor):
    """What the metric is given: the layer and the maps of each."""
    return lambda number, seed: iter([(f"layer{place}", each) for place, each in enumerate(stages)])


def test_is_the_mean_rank_correlation_with_the_maps_of_each_copy():
    net, pictures = nets.plain(), nets.images(3)
    classes = torch.tensor([2, 2, 2])
    maps = by_gradient(net, pictures, classes)
    found = model_randomization(maps, net, pictures, 2, explain=by_gradient, curves=True)
    stages = [by_gradient(each.module, pictures, classes) for each in randomized(net, pictures)]
    assert len(stages) == 3
    curves = [[spearman(each[place], maps[place]) for each in stages] for place in range(3)]
    sizes = [[spearman(each[place].abs(), maps[place].abs()) for each in stages] for place in range(3)]
    torch.testing.assert_close(found.curve, torch.tensor(curves, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert found.values.tolist() == pytest.approx([sum(each) / 3 for each in curves], rel=1e-9)
    assert found.parts["magnitudes"].tolist() == pytest.approx([sum(each) / 3 for each in sizes], rel=1e-9)
    assert found.parts["all_layers"].tolist() == pytest.approx([each[-1] for each in curves], rel=1e-9)
    assert found.at == pytest.approx((1 / 3, 2 / 3, 1))


def test_the_network_before_it_is_randomized_has_no_part_in_the_mean():
    """Quantus skips a key that is not there, so a correlation of 1 is averaged in: a third with two layers."""
    maps = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]], dtype=torch.float64)
    # each rank moves so that the correlation is 0
    apart = torch.tensor([[[2.0, 4.0, 1.0, 3.0]]], dtype=torch.float64)
    assert spearman(maps, apart) == 0
    found = model_randomization.function(maps, of_stages(apart, apart))
    assert (found.values.item(), found.curve.tolist()) == (0, [[0, 0]])


def test_a_method_that_does_not_look_at_the_network_stays():
    net, pictures = nets.plain(), nets.images(2)
    maps = pictures.abs().sum(1)
    found = model_randomization(maps, net, pictures, explain=lambda _, x, __: x.abs().sum(1), ssim=True, curves=True)
    torch.testing.assert_close(found.values, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(found.parts["ssim"], torch.ones(2, dtype=torch.float64))


def test_a_sign_that_turns_is_told_from_what_is_left_of_the_magnitudes():
    maps = drawn(2, 5, 5)
    found = model_randomization.function(maps, of_stages(-maps))
    assert found.values.tolist() == pytest.approx([-1, -1])
    assert found.parts["magnitudes"].tolist() == pytest.approx([1, 1])


def test_flat_and_broken_maps():
    maps = drawn(2, 4, 4)
    maps[1] = 1.0
    flat, broken = torch.zeros_like(maps), torch.full_like(maps, math.nan)
    found = model_randomization.function(maps, of_stages(flat, maps, broken), ssim=True)
    assert found.curve[0].tolist() == pytest.approx([0, 1, math.nan], nan_ok=True)
    for values in (found.values, found.parts["magnitudes"], found.parts["ssim"]):
        assert values.tolist() == pytest.approx([0.5, math.nan], nan_ok=True)


def test_stages_and_seed_are_passed_on():
    asked = []
    maps = drawn(1, 4, 4)

    def stages(number: int, seed: int):
        asked.append((number, seed))
        return iter([("head", maps)])

    model_randomization.function(maps, stages)
    model_randomization.function(maps, stages, stages=3, seed=7)
    assert asked == [(8, 0), (3, 7)]


def test_every_method_of_an_evaluation_shares_the_copies():
    net, pictures = nets.plain(), nets.images(2)
    evaluation = whycam.evaluate(
        net, pictures, methods=["grad_cam", "hires_cam", "eigen_cam"], metrics=["model_randomization"], sanity=0
    )
    values = {row["method"]: row["value"] for row in evaluation.rows if row["metric"] == "model_randomization"}
    for method in ("grad_cam", "hires_cam", "eigen_cam"):
        alone = model_randomization(whycam.explain(net, pictures, method=method), net, pictures)
        assert values[method] == pytest.approx(alone[-1].item())
    assert values["control: random"] == pytest.approx(1)
