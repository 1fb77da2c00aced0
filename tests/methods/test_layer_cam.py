"""LayerCAM against its sum written out, and where it must equal other methods."""

import numpy as np
import pytest
import torch

from whycam.methods.layer_cam import layer_cam

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])


def by_loops(activations, gradients):
    batch, channels, *space = activations.shape
    maps = np.zeros((batch, *space))
    for n in range(batch):
        for at in np.ndindex(*space):
            value = 0.0
            for k in range(channels):
                if gradients[(n, k, *at)].item() > 0:
                    value += gradients[(n, k, *at)].item() * activations[(n, k, *at)].item()
            maps[(n, *at)] = value if value > 0 else 0.0
    return torch.from_numpy(maps)


def test_worked_example():
    activations = torch.tensor([[[1.0, 3.0, 2.0], [2.0, 2.0, -2.0]]])
    gradients = torch.tensor([[[2.0, -1.0, 0.5], [-1.0, 0.5, 1.0]]])
    # [2, 1, 1 - 2], of which the last is dropped
    torch.testing.assert_close(layer_cam(activations, gradients), torch.tensor([[2.0, 1.0, 0.0]]))


@every_rank
@pytest.mark.parametrize("signed", [False, True], ids=["after a ReLU", "signed"])
def test_is_its_sum_written_out(space, signed, generator):
    activations, gradients = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    activations = activations if signed else activations.relu()
    torch.testing.assert_close(layer_cam(activations, gradients), by_loops(activations, gradients))


def test_the_last_positive_part_matters_for_signed_activations_only(generator):
    activations, gradients = torch.randn(2, 2, 3, 5, 7, generator=generator)
    without = lambda a: (a * gradients.clamp(min=0)).sum(1)  # noqa: E731
    torch.testing.assert_close(layer_cam(activations.abs(), gradients), without(activations.abs()))
    assert without(activations).min() < 0
    assert layer_cam(activations, gradients).min() == 0


def test_positive_gradients_constant_over_space_weigh_the_channels(generator):
    activations = torch.rand(2, 3, 5, 7, generator=generator, dtype=torch.float64)
    weights = torch.rand(2, 3, 1, 1, generator=generator, dtype=torch.float64)
    maps = layer_cam(activations, weights.expand_as(activations))
    torch.testing.assert_close(maps, sum(weights[:, k] * activations[:, k] for k in range(3)))


def test_negative_gradients_take_nothing_away():
    activations = torch.ones(1, 2, 2)
    gradients = torch.tensor([[[1.0, -1.0], [-5.0, -5.0]]])
    torch.testing.assert_close(layer_cam(activations, gradients), torch.tensor([[1.0, 0.0]]))


def test_gradients_of_zero_give_no_map():
    activations = torch.ones(1, 2, 3, 3)
    assert not layer_cam(activations, torch.zeros_like(activations)).any()
