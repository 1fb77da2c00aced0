"""Sparseness against the Gini index as the mean difference of all pairs, worked pair by pair."""

import pytest
import torch

import whycam


def gini(map_: torch.Tensor) -> float:
    """Half the mean difference of all pairs over the mean: the index's other definition."""
    sizes = [abs(value) for value in map_.flatten().tolist()]
    apart = sum(abs(one - other) for one in sizes for other in sizes)
    return apart / (2 * len(sizes) * sum(sizes))


@pytest.mark.parametrize("space", [(7,), (5, 4), (2, 3, 4)], ids=["1d", "2d", "3d"])
def test_is_the_mean_difference_of_all_pairs(space, generator):
    maps = torch.randn(3, *space, generator=generator, dtype=torch.float64)
    expected = torch.tensor([gini(each) for each in maps], dtype=torch.float64)
    torch.testing.assert_close(whycam.metrics.sparseness(maps), expected, rtol=1e-13, atol=0)


def test_four_pixels_by_hand():
    maps = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [5.0, 0.0]], [[1.0, 2.0], [3.0, 4.0]]])
    # (-3 * 1 - 1 * 2 + 1 * 3 + 3 * 4) / (4 * 10)
    assert whycam.metrics.sparseness(maps).tolist() == [0.0, 0.75, 0.25]


def test_signs_do_not_matter_and_the_callers_array_stays_as_it_was():
    """Quantus adds 1e-7 to the caller's array."""
    maps = torch.tensor([[1.0, -2.0, 3.0, -4.0]], dtype=torch.float64)
    array = maps.numpy().copy()
    assert whycam.metrics.sparseness(array).tolist() == [0.25]
    assert array.tolist() == maps.tolist()


def test_of_a_map_of_zeros_is_not_defined():
    """Quantus says 0, by the 1e-7 that it adds."""
    assert whycam.metrics.sparseness(torch.zeros(2, 2, 2)).isnan().all()
