"""ODAM: products added up by hand, with gradients convolved by hand where they are."""

import math

import numpy as np
import pytest
import torch

from whycam.methods.odam import odam


def smoothed(values):
    """Each axis of (*space) convolved with three cells of a Gaussian of deviation 0.8; the border is mirrored."""
    side = math.exp(-1 / (2 * 0.8**2))
    kernel = np.array([side, 1, side]) / (1 + 2 * side)
    for axis, length in enumerate(values.shape):
        rows = np.moveaxis(values, axis, 0)
        made = np.zeros_like(rows)
        for i in range(length):
            for step in (-1, 0, 1):
                at = abs(i + step)
                at = 2 * (length - 1) - at if at >= length else at
                made[i] += kernel[step + 1] * rows[at]
        values = np.moveaxis(made, 0, axis)
    return values


def by_hand(activations, gradients, smooth):
    maps = []
    for a, g in zip(activations.numpy(), gradients.numpy(), strict=True):
        weights = np.stack([smoothed(each) for each in g]) if smooth else g
        maps.append(np.maximum((weights * a).sum(0), 0))
    return np.stack(maps)


@pytest.mark.parametrize("space", [(20,), (17, 16), (16, 18, 17)], ids=["1d", "2d", "3d"])
def test_fine_layers_are_smoothed_and_coarse_ones_not_unless_asked(space, generator):
    fine = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    coarse = fine[(..., *(slice(0, 7) for _ in space))]
    for (activations, gradients), usual in ((fine, True), (coarse, False)):
        for asked, smooth in ((None, usual), (True, True), (False, False)):
            expected = by_hand(activations, gradients, smooth)
            np.testing.assert_allclose(odam(activations, gradients, smooth=asked), expected, rtol=1e-10, atol=1e-12)


def test_one_short_axis_is_coarse(generator):
    activations, gradients = torch.randn(2, 1, 3, 40, 15, generator=generator, dtype=torch.float64)
    expected = by_hand(activations, gradients, False)
    np.testing.assert_allclose(odam(activations, gradients), expected, rtol=1e-10, atol=1e-12)
