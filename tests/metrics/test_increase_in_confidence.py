"""Increase in confidence: counted one picture at a time, and on a linear model of four pixels."""

import pytest
import torch
from metrics_by_hand import FourPixels, Seen, Small, drawn, probability_of

from whycam.metrics import increase_in_confidence


@pytest.mark.parametrize("space", [(7,), (5, 4), (3, 2, 4)], ids=["1d", "2d", "3d"])
def test_is_100_where_the_masked_picture_is_more_probable(space):
    net, inputs, maps = Small(axes=len(space)), drawn(12, 3, *space), drawn(12, *space, seed=3)
    found = increase_in_confidence(maps, net, inputs, [0, 1, 2] * 4)
    expected = []
    for n, index in enumerate([0, 1, 2] * 4):
        picture, mask = inputs[n].numpy(), maps[n].numpy().clip(min=0) / maps[n].numpy().max()
        more = probability_of(net, picture * mask, index) > probability_of(net, picture, index)
        expected.append(100.0 if more else 0.0)
    assert found.tolist() == expected
    assert 0 < sum(expected) < 1200


def test_a_linear_model_of_four_pixels():
    net = FourPixels([[4.0, 3.0, -2.0, -1.0], [0.0] * 4])
    inputs = torch.ones(3, 1, 2, 2, dtype=torch.float64)
    maps = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]], [[1.0, 0.1], [-1.0, -1.0]]])
    # 4 becomes 7, -3, and 4 + 3 / 10
    assert increase_in_confidence(maps, net, inputs, 0).tolist() == [100, 0, 100]


def test_a_map_of_ones_increases_nothing_whatever_the_rounding():
    scores = torch.full((2,), 0.5, dtype=torch.float64)
    rounded = Seen(lambda pictures: scores + torch.tensor([1e-6, 1e-4], dtype=torch.float64))
    found = increase_in_confidence.function(torch.ones(2, 2, 2), torch.ones(2, 1, 2, 2), scores, rounded)
    assert found.tolist() == [0, 100]


def test_what_speaks_against_the_target_stays_hidden():
    # xplique takes the map's magnitude first
    net = FourPixels([[1.0, 0.0, 0.0, -9.0], [0.0] * 4])
    inputs = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    assert float(increase_in_confidence(torch.tensor([[[1.0, 0.0], [0.0, -9.0]]]), net, inputs, 0)) == 100
