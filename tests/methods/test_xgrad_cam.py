"""XGrad-CAM against its sums written out, and against the conservation it was built for."""

import math

import numpy as np
import pytest
import torch

from whycam.methods.xgrad_cam import xgrad_cam

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])


def by_loops(activations, gradients):
    batch, channels, *space = activations.shape
    places = list(np.ndindex(*space))
    maps = np.zeros((batch, *space))
    for n in range(batch):
        for k in range(channels):
            total = math.fsum(activations[(n, k, *at)].item() for at in places)
            joint = math.fsum(activations[(n, k, *at)].item() * gradients[(n, k, *at)].item() for at in places)
            weight = joint / total if total != 0 else 0.0
            for at in places:
                maps[(n, *at)] += weight * activations[(n, k, *at)].item()
    return torch.from_numpy(np.maximum(maps, 0))


def test_worked_example():
    activations = torch.tensor([[[1.0, 3.0], [2.0, 2.0]]])
    gradients = torch.tensor([[[2.0, 1.0], [-1.0, 0.0]]])
    # weights (2 + 3) / 4 and -2 / 4, so [1.25 - 1, 3.75 - 1]
    torch.testing.assert_close(xgrad_cam(activations, gradients), torch.tensor([[0.25, 2.75]]))


@every_rank
def test_is_the_weighted_mean_gradient(space, generator):
    activations, gradients = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    activations = activations.relu()
    torch.testing.assert_close(xgrad_cam(activations, gradients), by_loops(activations, gradients))


@every_rank
def test_its_total_before_the_positive_part_is_that_of_gradient_times_activation(space, generator):
    activations, gradients = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    activations = activations.relu()
    signed = xgrad_cam(activations, gradients) - xgrad_cam(activations, -gradients)  # relu(x) - relu(-x) = x
    torch.testing.assert_close(signed.flatten(1).sum(1), (gradients * activations).flatten(1).sum(1))


def test_gradients_constant_over_space_are_the_weights(generator):
    activations = torch.rand(2, 3, 5, 7, generator=generator, dtype=torch.float64)
    constants = torch.randn(2, 3, 1, 1, generator=generator, dtype=torch.float64)
    expected = (constants * activations).sum(1).relu()
    torch.testing.assert_close(xgrad_cam(activations, constants.expand_as(activations)), expected)


def test_trap_r1_a_channel_that_sums_to_zero_gets_no_weight():
    activations = torch.tensor([[[0.0, 0.0], [2.0, 6.0], [1.0, -1.0]]], dtype=torch.float64)
    gradients = torch.tensor([[[5.0, 5.0], [1.0, 1.0], [9.0, -9.0]]], dtype=torch.float64)
    torch.testing.assert_close(xgrad_cam(activations, gradients), activations[:, 1])


@pytest.mark.parametrize("scale", [1e-6, 1e-9, 1e-30])
def test_trap_r1_no_epsilon_weakens_a_weak_channel(scale, generator):
    activations = torch.rand(1, 3, 5, 7, generator=generator, dtype=torch.float64) * scale
    gradients = torch.rand(1, 3, 5, 7, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(xgrad_cam(activations, gradients), by_loops(activations, gradients), rtol=1e-10, atol=0)


def test_trap_r1_a_signed_channel_of_almost_no_sum_takes_over_as_the_formula_has_it():
    activations = torch.tensor([[[1.0, -1.0 + 2**-20], [1.0, 1.0]]], dtype=torch.float64)
    gradients = torch.tensor([[[1.0, -1.0], [1.0, 1.0]]], dtype=torch.float64)
    maps = xgrad_cam(activations, gradients)
    torch.testing.assert_close(maps, by_loops(activations, gradients))
    assert maps.max() > 1e6


def test_trap_g8_volumes_are_summed_over_all_their_axes(generator):
    activations, gradients = torch.randn(2, 2, 3, 2, 3, 4, generator=generator, dtype=torch.float64).abs()
    flat = xgrad_cam(activations.flatten(2), gradients.flatten(2))
    torch.testing.assert_close(xgrad_cam(activations, gradients).flatten(1), flat)


def test_the_positive_part_is_taken():
    activations = torch.ones(1, 2, 3, 3)
    assert not xgrad_cam(activations, -activations).any()


def test_gradients_of_zero_give_no_map():
    activations = torch.ones(1, 2, 3, 3)
    assert not xgrad_cam(activations, torch.zeros_like(activations)).any()
