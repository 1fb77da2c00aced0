"""LIFT-CAM against its two sums written out, and against the methods it must equal above linear layers."""

import numpy as np
import pytest
import torch

from whycam.methods.ablation_cam import ablation_cam
from whycam.methods.lift_cam import lift_cam

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])


def by_loops(activations, contributions):
    batch, channels, *space = activations.shape
    maps = np.zeros((batch, *space))
    for n in range(batch):
        for k in range(channels):
            weight = sum(contributions[(n, k, *at)].item() for at in np.ndindex(*space))
            for at in np.ndindex(*space):
                maps[(n, *at)] += weight * activations[(n, k, *at)].item()
    return torch.from_numpy(np.maximum(maps, 0))


def test_worked_example():
    activations = torch.tensor([[[1.0, 3.0], [2.0, 2.0]]])
    contributions = torch.tensor([[[2.0, 1.0], [-1.0, 0.0]]])
    # weights 3 and -1
    torch.testing.assert_close(lift_cam(activations, contributions), torch.tensor([[1.0, 7.0]]))


@every_rank
def test_is_the_weighted_sum_of_the_channels(space, generator):
    activations, contributions = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(lift_cam(activations, contributions), by_loops(activations, contributions))


@every_rank
def test_above_a_linear_readout_it_is_ablation_cam_times_the_size_of_the_score(space, generator):
    activations = torch.rand(2, 3, *space, generator=generator, dtype=torch.float64)
    readout = torch.randn(3, *space, generator=generator, dtype=torch.float64)
    net = lambda maps: (maps * readout).flatten(1).sum(1) - 4  # noqa: E731
    ablated = ablation_cam(activations, net(activations), lambda variants: torch.stack([net(v) for v in variants]))
    sizes = net(activations).abs().reshape(-1, *[1] * len(space))
    torch.testing.assert_close(lift_cam(activations, activations * readout), ablated * sizes)
    assert ablated.any()


@every_rank
def test_under_pooling_and_a_linear_layer_the_weights_are_those_of_cam_times_the_means(space, generator):
    activations = torch.rand(2, 3, *space, generator=generator, dtype=torch.float64)
    head = torch.randn(3, generator=generator, dtype=torch.float64)
    contributions = torch.stack([head[k] * activations[:, k] / torch.Size(space).numel() for k in range(3)], 1)
    weights = head * activations.flatten(2).mean(2)
    expected = sum(weights[:, k].reshape(-1, *[1] * len(space)) * activations[:, k] for k in range(3))
    torch.testing.assert_close(lift_cam(activations, contributions), expected.relu())


def test_a_channel_that_speaks_for_and_against_cancels():
    activations = torch.tensor([[[2.0, 2.0]]])
    assert not lift_cam(activations, torch.tensor([[[1.0, -1.0]]])).any()


def test_a_batch_is_its_samples(generator):
    activations, contributions = torch.randn(2, 3, 4, 5, 7, generator=generator, dtype=torch.float64)
    together = lift_cam(activations, contributions)
    for n in range(3):
        one = slice(n, n + 1)
        torch.testing.assert_close(together[one], lift_cam(activations[one], contributions[one]))


def test_nothing_contributed_or_all_of_it_against_gives_no_map():
    activations = torch.ones(1, 2, 3, 3)
    assert not lift_cam(activations, torch.zeros_like(activations)).any()
    assert not lift_cam(activations, -activations).any()
