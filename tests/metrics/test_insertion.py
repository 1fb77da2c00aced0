"""Insertion, pixel by pixel in loops, and on a linear model of four pixels."""

import math

import numpy as np
import pytest
import torch
from metrics_by_hand import (
    FourPixels,
    Seen,
    Small,
    by_evidence,
    drawn,
    probability_of,
    replaced,
    trapezoids,
)

from whycam.metrics import insertion


@pytest.mark.parametrize("baseline", ["zero", "mean", 0.5])
@pytest.mark.parametrize("space", [(7,), (5, 4), (3, 2, 4)], ids=["1d", "2d", "3d"])
def test_is_the_area_under_the_curve_of_pictures_that_come_back(space, baseline):
    net, inputs, maps = Small(axes=len(space)), drawn(3, 3, *space), drawn(3, *space, seed=3)
    found = insertion(maps, net, inputs, [0, 1, 2], steps=6, baseline=baseline, curves=True)
    for n in range(3):
        picture, places = inputs[n].numpy(), by_evidence(maps[n].numpy())
        behind = np.stack(
            [np.full_like(color, {"zero": 0.0, "mean": color.mean(), 0.5: 0.5}[baseline]) for color in picture]
        )
        counts = [round(step * len(places) / 6) for step in range(7)]
        heights = [probability_of(net, replaced(behind, places[:count], picture), n) for count in counts]
        at = [count / len(places) for count in counts]
        np.testing.assert_allclose(found.curve[n], heights, rtol=1e-12)
        np.testing.assert_allclose(found.at, at, rtol=1e-15)
        assert float(found.values[n]) == pytest.approx(trapezoids(heights, at), rel=1e-12)


def test_starts_from_a_blurred_picture_of_the_papers_window():
    # torchcam and xplique start from zeros. A dot becomes its window: 11 pixels wide, of deviation 5
    picture = torch.zeros(1, 1, 25, 25, dtype=torch.float64)
    picture[0, 0, 12, 12] = 1
    seen = Seen(lambda pictures: pictures.flatten(1).sum(1))
    insertion.function(torch.rand(1, 25, 25), picture, torch.zeros(1), seen, steps=2)
    line = [math.exp(-((step / 5) ** 2) / 2) for step in range(-5, 6)]
    window = np.outer(line, line) / sum(line) ** 2
    np.testing.assert_allclose(seen.variants[0][0, 0, 7:18, 7:18], window, rtol=1e-12)
    assert float(seen.variants[0].sum()) == pytest.approx(1, rel=1e-12)


def test_a_linear_model_of_four_pixels():
    net = FourPixels([[4.0, 3.0, 2.0, 1.0], [0.0] * 4])
    inputs = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    maps = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    found = insertion(maps, net, inputs, 0, steps=4, baseline="zero", curves=True)
    heights = [1 / (1 + math.exp(-logit)) for logit in (0, 4, 7, 9, 10)]
    assert found.curve[0].tolist() == pytest.approx(heights, rel=1e-12)
    assert float(found.values) == pytest.approx(((heights[0] + heights[4]) / 2 + sum(heights[1:4])) / 4, rel=1e-12)


def test_a_map_that_is_nearly_all_zero_brings_back_exact_counts():
    maps = torch.zeros(1, 20, 10, dtype=torch.float64)
    maps[:, 3, :4] = 1
    seen = Seen(lambda pictures: pictures.flatten(1).sum(1))
    insertion.function(maps, torch.ones(1, 3, 20, 10), torch.zeros(1), seen, steps=8, baseline="zero")
    assert [int((variant[0, 0] == 1).sum()) for variant in seen.variants] == [0, 25, 50, 75, 100, 125, 150, 175]
    assert (seen.variants[1][0, 0, 3, :4] == 1).all()


def test_it_takes_its_steps_and_no_more():
    maps, inputs = drawn(2, 5, 4, seed=3), drawn(2, 3, 5, 4)
    rows = {}
    for steps in (5, 15):
        net = Small()
        insertion(maps, net, inputs, 0, steps=steps)
        rows[steps] = net.rows
    assert rows[15] - rows[5] == 10 * 2
    assert rows[5] - 5 * 2 <= 2 + 2 + 2 * 2  # the record, a pair on trial, and two variants seen by themselves
