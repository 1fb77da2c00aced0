"""The energy pointing game against sums over pixels."""

import math

import pytest
import torch
from metrics_by_hand import drawn
from torch import Tensor

import whycam

energy = whycam.metrics.energy_pointing_game


def share(map_: Tensor, mask: Tensor) -> float:
    pairs = [*zip(map_.flatten().tolist(), mask.flatten().tolist(), strict=True)]
    return math.fsum(v for v, here in pairs if v > 0 and here) / math.fsum(v for v, _ in pairs if v > 0)


@pytest.mark.parametrize("space", [(9,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])
def test_is_the_positive_parts_share_in_the_mask(space):
    maps, masks = drawn(6, *space), drawn(6, *space, seed=1) > 0
    expected = [share(*each) for each in zip(maps, masks, strict=True)]
    assert energy(maps, masks=masks).tolist() == pytest.approx(expected, rel=1e-13)


def test_four_pixels_by_hand():
    maps = torch.tensor([[[3.0, 1.0], [-9.0, 4.0]]])
    masks = torch.tensor([[[True, False], [True, False]]])
    assert energy(maps, masks=masks).item() == 3 / 8


def test_a_boxs_columns_are_its_left_and_right():
    """The authors' code takes them for rows, which is the same for boxes on the diagonal alone."""
    maps = torch.zeros(1, 8, 10)
    maps[0, 1, 7] = 1.0
    assert energy(maps, boxes=[torch.tensor([[6.0, 0, 9, 2]])]).item() == 1
    assert energy(maps, boxes=[torch.tensor([[0.0, 6, 2, 8]])]).item() == 0


def test_what_speaks_against_the_target_cancels_nothing():
    """Quantus divides sums of signed values: 3 / -1 here."""
    maps = torch.tensor([[[3.0, -4.0]]])
    assert energy(maps, masks=torch.tensor([[[True, False]]])).item() == 1


def test_a_map_that_is_nowhere_positive_has_no_energy():
    masks = torch.ones(2, 3, 3, dtype=torch.bool)
    assert energy(-drawn(2, 3, 3).abs(), masks=masks).isnan().all()
    assert energy(torch.zeros(2, 3, 3), masks=masks).isnan().all()


def test_an_empty_mask_cannot_be_pointed_at():
    assert energy(torch.ones(1, 3, 3), masks=torch.zeros(1, 3, 3, dtype=torch.bool)).isnan().all()
