"""Ablation-CAM against the paper's formula channel by channel, and against what linear networks must give."""

import numpy as np
import pytest
import torch

from whycam.methods.ablation_cam import ablation_cam

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])


def scoring(net):
    """What a network is to a method: variants of the activations -> scores; `asked` holds their number."""

    def score_from(variants, *, probability=False):
        assert not probability
        score_from.asked = len(variants)
        return torch.stack([net(variant) for variant in variants])

    return score_from


def explain(net, activations):
    return ablation_cam(activations, net(activations), scoring(net))


def bent(generator, offset=0.0):
    """A score that is neither linear nor separable, of a class that only some channels speak for."""
    inner = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    outer = torch.randn(9, generator=generator, dtype=torch.float64)
    return lambda maps: 5 * (maps.square().flatten(2).mean(2) @ inner + 0.2).relu() @ outer + offset


def by_loops(net, activations):
    maps = np.zeros((len(activations), *activations.shape[2:]))
    for n in range(len(activations)):
        one = activations[n : n + 1]
        whole = net(one).item()
        for k in range(activations.shape[1]):
            keep = torch.ones(activations.shape[1], dtype=torch.float64)
            keep[k] = 0
            part = net(torch.einsum("nk...,k->nk...", one, keep)).item()
            maps[n] += (whole - part) / abs(whole) * one[0, k].numpy()
    return torch.from_numpy(np.maximum(maps, 0))


def test_worked_example():
    activations = torch.tensor([[[1.0, 3.0], [2.0, 0.0]]])
    net = lambda maps: maps[:, 0].sum(1) * 2 - maps[:, 1].sum(1) * 3  # noqa: E731
    # S = 8 - 6 = 2; without the first -6, without the second 8: weights 8 / 2 and -6 / 2
    torch.testing.assert_close(explain(net, activations), torch.tensor([[0.0, 12.0]]))


@every_rank
@pytest.mark.parametrize("offset", [0.0, 20.0, -20.0])
def test_is_the_weighted_sum_of_the_paper(space, offset, generator):
    activations = torch.rand(3, 4, *space, generator=generator, dtype=torch.float64)
    net = bent(generator, offset)
    maps = explain(net, activations)
    torch.testing.assert_close(maps, by_loops(net, activations))
    assert maps.any()


def test_trap_r11_a_negative_score_does_not_turn_the_signs_round(generator):
    activations = torch.rand(2, 4, 5, 7, generator=generator, dtype=torch.float64)
    above, below = (
        lambda maps, side=side: maps[:, 0].mean((1, 2)) - maps[:, 1].mean((1, 2)) + side for side in (9, -9)
    )
    assert (below(activations) < 0).all()
    for net in (above, below):
        found = explain(net, activations)
        speaking = activations[:, 0] * activations[:, 0].mean((1, 2), keepdim=True)
        against = activations[:, 1] * activations[:, 1].mean((1, 2), keepdim=True)
        expected = (speaking - against).relu() / net(activations).abs()[:, None, None]
        torch.testing.assert_close(found, expected)


def test_trap_r12_what_is_ablated_is_zero_also_below_zero():
    activations = torch.tensor([[[-1.0, 3.0], [-2.0, -4.0]]], dtype=torch.float64)
    seen = []

    def net(maps):
        seen.append(maps.clone())
        return maps.sum((1, 2))

    explain(net, activations)
    for k, variant in enumerate(seen[1:]):
        assert not variant[:, k].any()
        assert torch.equal(variant[:, 1 - k], activations[:, 1 - k])


def test_a_score_of_zero_is_not_divided_by():
    activations = torch.tensor([[[1.0, 3.0], [4.0, 0.0]]])
    net = lambda maps: maps[:, 0].sum(1) - maps[:, 1].sum(1)  # noqa: E731
    assert net(activations) == 0
    # weights 4 and -4
    torch.testing.assert_close(explain(net, activations), torch.tensor([[0.0, 12.0]]))


@every_rank
def test_under_pooling_and_a_linear_layer_the_drop_is_the_weight_times_the_mean(space, generator):
    activations = torch.rand(2, 5, *space, generator=generator, dtype=torch.float64)
    head = torch.randn(5, generator=generator, dtype=torch.float64)
    net = lambda maps: maps.flatten(2).mean(2) @ head + 3  # noqa: E731
    weights = head * activations.flatten(2).mean(2) / net(activations).abs()[:, None]
    expected = torch.einsum("nk,nk...->n...", weights, activations).relu()
    torch.testing.assert_close(explain(net, activations), expected)


def test_a_constant_on_the_score_changes_the_scale_alone(generator):
    activations = torch.rand(2, 4, 5, 7, generator=generator, dtype=torch.float64)
    net = bent(generator)
    one, other = explain(net, activations), explain(lambda maps: net(maps) + 5, activations)
    sizes = net(activations).abs() / (net(activations) + 5).abs()
    torch.testing.assert_close(other, one * sizes[:, None, None])


def test_a_batch_is_its_samples(generator):
    activations = torch.rand(3, 4, 5, 7, generator=generator, dtype=torch.float64)
    net = bent(generator)
    together = explain(net, activations)
    for n in range(3):
        torch.testing.assert_close(together[n : n + 1], explain(net, activations[n : n + 1]))


def test_runs_once_for_every_channel_and_leaves_the_activations_alone(generator):
    activations = torch.rand(2, 6, 3, generator=generator)
    before, score_from = activations.clone(), scoring(lambda maps: maps.sum((1, 2)))
    ablation_cam(activations, activations.sum((1, 2)), score_from)
    assert score_from.asked == 6
    assert torch.equal(activations, before)


def test_channels_that_can_stand_in_for_each_other_get_no_weight():
    activations = torch.ones(1, 2, 3, 3)
    assert not explain(lambda maps: maps.mean((2, 3)).amax(1), activations).any()


def test_one_location_and_no_positive_evidence():
    activations = torch.tensor([[[2.0], [1.0]]])
    assert explain(lambda maps: maps[:, 0, 0], activations).item() == 2
    assert not explain(lambda maps: -maps.sum((1, 2)), activations).any()
