"""Entropy against its formula, pixel by pixel."""

import math

import pytest
import torch

import whycam


def entropy(map_: torch.Tensor) -> float:
    """`-sum p log p`, where 0 has no part."""
    sizes = [abs(value) for value in map_.flatten().tolist()]
    return -math.fsum(size / sum(sizes) * math.log(size / sum(sizes)) for size in sizes if size)


@pytest.mark.parametrize("space", [(7,), (5, 4), (2, 3, 4)], ids=["1d", "2d", "3d"])
def test_is_its_formula(space, generator):
    maps = torch.randn(3, *space, generator=generator, dtype=torch.float64)
    maps[0].clamp_(min=0)
    expected = torch.tensor([entropy(each) for each in maps], dtype=torch.float64)
    torch.testing.assert_close(whycam.metrics.entropy(maps), expected, rtol=1e-13, atol=0)


def test_four_pixels_by_hand():
    maps = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [5.0, 0.0]], [[-1.0, 1.0], [0.0, 0.0]]])
    assert whycam.metrics.entropy(maps).tolist() == pytest.approx([math.log(4), 0.0, math.log(2)], abs=1e-15)


def test_negative_values_count_by_their_size_and_the_callers_array_stays_as_it_was():
    """Quantus takes the logarithm of signed values, and divides the caller's array."""
    signed = torch.tensor([[1.0, -2.0, 3.0, -4.0]], dtype=torch.float64)
    array = signed.numpy().copy()
    assert whycam.metrics.entropy(array).tolist() == whycam.metrics.entropy(signed.abs()).tolist()
    assert array.tolist() == signed.tolist()


def test_of_a_map_of_zeros_is_not_defined():
    assert whycam.metrics.entropy(torch.zeros(2, 2, 2)).isnan().all()
