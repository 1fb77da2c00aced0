"""Guided backprop's merging of the colors, place by place."""

import math

import numpy as np
import pytest
import torch

from whycam.methods.guided_backprop import guided_backprop

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])

MERGES = {
    "sum": math.fsum,
    "max": lambda values: max(abs(v) for v in values),
    "norm": lambda values: math.hypot(*values),
}


@pytest.mark.parametrize(("colors", "expected"), [("sum", -1.0), ("max", 4.0), ("norm", 5.0)])
def test_worked_example(colors, expected):
    guided = torch.tensor([[[3.0], [-4.0], [0.0]]])
    torch.testing.assert_close(guided_backprop(guided, colors=colors), torch.tensor([[expected]]))


@every_rank
@pytest.mark.parametrize("colors", MERGES)
def test_merges_each_place_by_itself(space, colors, generator):
    guided = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    maps = guided_backprop(guided, colors=colors)
    for n in range(2):
        for at in np.ndindex(*space):
            values = [guided[(n, c, *at)].item() for c in range(3)]
            assert maps[(n, *at)].item() == pytest.approx(MERGES[colors](values), abs=1e-12)


def test_the_default_is_the_signed_sum(generator):
    guided = torch.randn(2, 3, 5, 7, generator=generator)
    assert guided_backprop(guided).equal(guided_backprop(guided, colors="sum"))
    assert guided_backprop(guided).min() < 0


@pytest.mark.parametrize("colors", MERGES)
def test_a_single_color_is_itself_or_its_magnitude(colors, generator):
    guided = torch.randn(2, 1, 5, 7, generator=generator)
    torch.testing.assert_close(guided_backprop(guided, colors=colors).abs(), guided[:, 0].abs())


@pytest.mark.parametrize("colors", MERGES)
def test_gradients_of_zero_give_no_map(colors):
    assert not guided_backprop(torch.zeros(1, 3, 4, 4), colors=colors).any()
