"""Group-CAM against the authors' steps, group by group in numpy."""

import math

import masks_by_hand as by_hand
import numpy as np
import pytest
import torch

from whycam.kit.masks import blur
from whycam.methods.group_cam import group_cam

every_rank = pytest.mark.parametrize(
    ("space", "size"), [((4,), (9,)), ((2, 3), (5, 7)), ((2, 1, 2), (3, 4, 2))], ids=["1d", "2d", "3d"]
)


def by_loops(activations, gradients, inputs, net, groups, *, behind, denoise=0.0, probability=True):
    channels = activations.shape[1]
    length = math.ceil(channels / groups)
    maps = []
    for n in range(len(inputs)):
        hidden = by_hand.of_one(net, behind[n].numpy(), probability=probability)
        total = np.zeros(activations.shape[2:])
        for start in range(0, channels, length):
            one = np.zeros(activations.shape[2:])
            for k in range(start, min(start + length, channels)):
                one += gradients[n, k].numpy().mean() * activations[n, k].numpy()
            one = np.maximum(one, 0)
            if denoise:
                one = np.where(one > np.percentile(one, 100 * denoise), one, 0)
            mask = by_hand.unit(by_hand.resized(one, inputs.shape[2:]))
            picture = np.stack(
                [mask * x + (1 - mask) * b for x, b in zip(inputs[n].numpy(), behind[n].numpy(), strict=True)]
            )
            gain = by_hand.of_one(net, picture, probability=probability) - hidden
            total += max(gain, 0) * one if one.max() > one.min() else 0
        maps.append(total)
    return torch.from_numpy(np.stack(maps))


def case(generator, space=(2, 3), size=(5, 7)):
    activations, gradients = torch.randn(2, 3, 7, *space, generator=generator, dtype=torch.float64)
    inputs = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64)
    return activations, gradients, inputs, by_hand.network(generator, (2, *size), strength=0.1)


def test_worked_example():
    # two groups of two channels. Maps relu(1 [4, 0] - 2 [1, 1]) = [2, 0] and relu(1 [0, 3] + 0 [9, 9]) = [0, 3]; they
    # show [6, 0] and [0, 8] on a background of 0, and the scores 6 and 8 beat its 0
    activations = torch.tensor([[[4.0, 0.0], [1.0, 1.0], [0.0, 3.0], [9.0, 9.0]]])
    gradients = torch.tensor([[[0.0, 2.0], [-2.0, -2.0], [1.0, 1.0], [-5.0, 5.0]]])
    score = by_hand.Scored(lambda x: x.sum((1, 2)))
    inputs = torch.tensor([[[6.0, 8.0]]])
    maps = group_cam(activations, gradients, inputs, score, groups=2, probability=False, baseline="zero")
    torch.testing.assert_close(maps, torch.tensor([[12.0, 24.0]]))
    assert score.runs == 3


@every_rank
@pytest.mark.parametrize("probability", [True, False])
@pytest.mark.parametrize("groups", [1, 3, 7, 32])
def test_is_the_sum_over_groups(space, size, probability, groups, generator):
    activations, gradients, inputs, net = case(generator, space, size)
    maps = group_cam(activations, gradients, inputs, by_hand.Scored(net), groups=groups, probability=probability)
    expected = by_loops(activations, gradients, inputs, net, groups, behind=blur(inputs), probability=probability)
    torch.testing.assert_close(maps, expected)


def test_the_cases_above_show_something(generator):
    activations, gradients, inputs, net = case(generator)
    assert group_cam(activations, gradients, inputs, by_hand.Scored(net), groups=3).flatten(1).any(1).sum() >= 2


@every_rank
@pytest.mark.parametrize("denoise", [0.3, 0.7])
def test_the_lowest_locations_of_a_group_can_be_dropped(space, size, denoise, generator):
    activations, gradients, inputs, net = case(generator, space, size)
    maps = group_cam(
        activations.abs(), gradients.abs(), inputs, by_hand.Scored(net), groups=3, denoise=denoise, baseline=0.2
    )
    behind = torch.full_like(inputs, 0.2)
    expected = by_loops(activations.abs(), gradients.abs(), inputs, net, 3, behind=behind, denoise=denoise)
    torch.testing.assert_close(maps, expected)
    assert expected.any()
    assert not torch.allclose(maps, by_loops(activations.abs(), gradients.abs(), inputs, net, 3, behind=behind))


def test_a_location_at_the_quantile_is_dropped():
    activations = torch.tensor([[[3.0, 1.0, 5.0, 4.0, 2.0]]])
    score = by_hand.Scored(lambda x: x[:, 0, 2])
    maps = group_cam(activations, torch.ones(1, 1, 5), torch.ones(1, 1, 5), score, denoise=0.5, baseline="zero",
                     probability=False)  # fmt: skip
    assert maps.tolist() == [[0, 0, 5, 4, 0]]


def test_trap_s2_what_the_background_scores_is_subtracted(generator):
    activations, gradients, inputs, net = case(generator)
    one = group_cam(activations, gradients, inputs, by_hand.Scored(net), probability=False)
    other = group_cam(activations, gradients, inputs, by_hand.Scored(lambda x: net(x) + 100), probability=False)
    torch.testing.assert_close(one, other)


def test_a_group_that_loses_against_the_background_has_no_weight(generator):
    activations, gradients, inputs, _ = case(generator)
    worse = by_hand.Scored(lambda x: -x.sum((1, 2, 3)))
    assert not group_cam(activations, gradients, inputs.abs() + 9, worse, baseline="zero").any()
    better = by_hand.Scored(lambda x: x.sum((1, 2, 3)))
    assert group_cam(activations, gradients, inputs.abs() + 9, better, baseline="zero").any()


@pytest.mark.parametrize("what", ["activations", "gradients"])
def test_trap_s12_groups_that_are_zero_give_no_map_and_no_nan(what, generator):
    activations, gradients, inputs, net = case(generator)
    given = {"activations": activations, "gradients": gradients}
    given[what] = 0 * given[what]
    maps = group_cam(**given, inputs=inputs, score=by_hand.Scored(net))
    assert torch.equal(maps, torch.zeros_like(maps))


def test_trap_s12_a_flat_group_does_not_disturb_the_others(generator):
    activations, gradients, inputs, net = case(generator)
    activations[1, 3:5] = 1.0
    gradients[1, 3:5] = 2.0
    maps = group_cam(activations, gradients, inputs, by_hand.Scored(net), groups=7)
    torch.testing.assert_close(maps, by_loops(activations, gradients, inputs, net, 7, behind=blur(inputs)))
    assert maps[1].any()


def test_one_location_gives_no_map():
    ones = torch.ones(2, 4, 1, 1)
    assert not group_cam(ones, ones, torch.rand(2, 1, 6, 6), by_hand.Scored(lambda x: x.sum((1, 2, 3)))).any()


@pytest.mark.parametrize("denoise", [0.0, 0.7])
def test_a_batch_is_its_samples(denoise, generator):
    activations, gradients, inputs, net = case(generator)
    score = by_hand.Scored(net)
    together = group_cam(activations, gradients, inputs, score, groups=3, denoise=denoise)
    for n in range(3):
        each = slice(n, n + 1)
        alone = group_cam(activations[each], gradients[each], inputs[each], score, groups=3, denoise=denoise)
        torch.testing.assert_close(together[each], alone, rtol=1e-13, atol=1e-14)
