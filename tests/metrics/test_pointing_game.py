"""The pointing game against distances measured pixel by pixel."""

import math

import pytest
import torch
from metrics_by_hand import Small, drawn
from torch import Tensor

import whycam

pointing_game = whycam.metrics.pointing_game


def hits(map_: Tensor, mask: Tensor, tolerance: float) -> float:
    """TorchRay's rule: something of the target is closer to the highest pixel than the tolerance."""
    top = max(torch.cartesian_prod(*map(torch.arange, map_.shape)).tolist(), key=lambda at: map_[tuple(at)])
    away = [math.dist(top, place) for place in mask.nonzero().tolist()]
    return float(any(each < tolerance or each == 0 for each in away))


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("space", [(9, 12), (4, 5, 6)], ids=["2d", "3d"])
def test_is_the_distance_to_the_nearest_pixel_of_the_target(space, tolerance):
    maps, masks = drawn(40, *space), drawn(40, *space, seed=1) > (2 if tolerance > 1 else 0.5)
    masks[:, 0, 0] = True
    found = pointing_game(maps, masks=masks, tolerance=tolerance).tolist()
    assert found == [hits(*each, tolerance) for each in zip(maps, masks, strict=True)]
    assert 0 < sum(found) < 40


def test_15_pixels_beside_the_target_unless_said_otherwise():
    maps, masks = torch.zeros(2, 40, 40), torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[:, 5, 5] = True
    maps[0, 5, 19] = maps[1, 5, 20] = 1.0
    assert pointing_game(maps, masks=masks).tolist() == [1, 0]
    assert pointing_game(maps, masks=masks, tolerance=0).tolist() == [0, 0]
    assert pointing_game(maps, masks=masks, tolerance=16).tolist() == [1, 1]


def test_of_several_maxima_one_is_drawn_and_not_the_one_that_hits():
    """Quantus counts a hit where any of the tied maxima is on the target."""
    maps, masks = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool)
    maps[0, ::2, ::2] = 1.0
    masks[0, 0, 0] = True
    found = [pointing_game(maps, masks=masks, tolerance=0, seed=seed).item() for seed in range(200)]
    assert 4 < sum(found) < 30  # 200 / 16 are expected
    assert found[:20] == [pointing_game(maps, masks=masks, tolerance=0, seed=seed).item() for seed in range(20)]


@pytest.mark.parametrize("value", [0.0, 0.3, -2.0])
def test_a_flat_map_misses(value):
    """Every pixel of it is the highest, so by Quantus' rule it always hits."""
    masks = torch.ones(1, 8, 8, dtype=torch.bool)
    assert pointing_game(torch.full((1, 8, 8), value), masks=masks).item() == 0


def test_an_empty_mask_cannot_be_hit_or_missed():
    """Quantus writes NaN into a boolean array, which is True."""
    found = pointing_game(drawn(2, 8, 8), masks=torch.zeros(2, 8, 8, dtype=torch.bool))
    assert found.isnan().all()


def test_a_set_is_the_mean_over_classes_however_many_pictures_each_has():
    maps, masks = torch.zeros(5, 40, 40), torch.zeros(5, 40, 40, dtype=torch.bool)
    masks[:4, 0, 0] = True  # the last has no target, and no part
    maps[:, 0, 0] = torch.tensor([1.0, 1.0, 1.0, -1.0, 1.0])
    maps[:, 30, 30] = 0.5
    account = pointing_game.accumulator()
    measured = pointing_game(maps, Small(), drawn(5, 3, 40, 40), [2, 2, 2, 0, 1], masks=masks, curves=True)
    account.update(list("abcde"), measured)
    assert measured.values[:4].tolist() == [1, 1, 1, 0]
    assert account.compute() == 0.5  # 1 for class 2 and 0 for class 0; 3 of 4 pictures
    assert measured.curve[:, 1].tolist()[:4] == [2, 2, 2, 0]


def test_boxes_are_masks_too():
    maps = torch.zeros(1, 30, 60)
    maps[0, 3, 50] = 1.0
    inside, turned = torch.tensor([[48.0, 2, 52, 5]]), torch.tensor([[2.0, 10, 5, 30]])
    assert pointing_game(maps, boxes=[inside], tolerance=0).item() == 1
    assert pointing_game(maps, boxes=[turned], tolerance=0).item() == 0
