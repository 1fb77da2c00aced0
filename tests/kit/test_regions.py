"""The bright part of a map, by hand."""

import torch

from whycam.kit.regions import around, bright, run_lengths


def test_bright_is_above_a_share_of_each_maps_own_maximum():
    maps = torch.tensor([[[10.0, 2.0, 2.1]], [[0.5, 0.1, -1.0]], [[0.0, -1.0, -2.0]], [[-1.0, -2.0, -3.0]]])
    assert bright(maps, 0.2).int().tolist() == [[[1, 0, 1]], [[1, 0, 0]], [[0, 0, 0]], [[0, 0, 0]]]
    assert bright(maps, 0.0).int().tolist()[0] == [[1, 1, 1]]


def test_the_box_around_a_mask():
    mask = torch.zeros(5, 7, dtype=torch.bool)
    assert around(mask).shape == (0, 4)
    mask[1, 4] = mask[3, 2] = True
    assert around(mask).tolist() == [[2, 1, 5, 4]]  # left, top, right, bottom


def test_run_lengths_go_down_the_columns_and_begin_outside():
    mask = torch.tensor([[0, 1, 0], [0, 1, 1]], dtype=torch.bool)
    assert run_lengths(mask) == [2, 2, 1, 1]
    assert run_lengths(~mask) == [0, 2, 2, 1, 1]
    assert run_lengths(torch.zeros(2, 3, dtype=torch.bool)) == [6]
    assert run_lengths(torch.ones(2, 3, dtype=torch.bool)) == [0, 6]
