"""The grid pointing game against sums over cells."""

import pytest
import torch
from metrics_by_hand import drawn

import whycam

grid = whycam.metrics.grid_pointing_game


@pytest.mark.parametrize("cell", range(9))
def test_is_the_positive_share_of_the_targets_cell(cell):
    maps, masks = drawn(3, 6, 9), torch.zeros(3, 6, 9, dtype=torch.bool)
    row, column = divmod(cell, 3)
    masks[:, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3] = True
    positive = maps.clamp(min=0)
    for map_, found in zip(positive, grid(maps, masks=masks).tolist(), strict=True):
        cells = [map_[2 * r : 2 * r + 2, 3 * c : 3 * c + 3].sum().item() for r in range(3) for c in range(3)]
        assert found == pytest.approx(cells[cell] / sum(cells))


def test_the_uniform_map_has_chance():
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[:, :2, 2:] = True
    assert grid(torch.ones(1, 4, 4), masks=masks).item() == 0.25


def test_a_map_with_nothing_positive_found_nothing():
    """The authors' code counts it so; left out, a method would gain by being silent."""
    masks = torch.ones(1, 4, 4, dtype=torch.bool)
    assert grid(-torch.ones(1, 4, 4), masks=masks).item() == 0


def test_is_measured_on_mosaics():
    assert [each.name for each in whycam.list_metrics() if each.mosaics] == ["grid_pointing_game"]
