"""IS-CAM against its mean over growing masks in numpy, and against Score-CAM where they must agree."""

import masks_by_hand as by_hand
import numpy as np
import pytest
import torch

from whycam.methods.is_cam import is_cam
from whycam.methods.score_cam import score_cam

every_rank = pytest.mark.parametrize(
    ("space", "size"), [((4,), (9,)), ((2, 3), (5, 7)), ((2, 1, 2), (3, 4, 2))], ids=["1d", "2d", "3d"]
)


def by_loops(activations, inputs, net, steps, *, probability=False):
    maps = []
    for n in range(len(inputs)):
        kept = [channel for channel in activations[n].numpy() if channel.max() > channel.min()]
        gains = []
        for channel in kept:
            mask = by_hand.unit(by_hand.resized(channel, inputs.shape[2:]))
            pictures = [inputs[n].numpy() * mask * i / steps for i in range(1, steps + 1)]
            gains.append(np.mean([by_hand.of_one(net, picture, probability=probability) for picture in pictures]))
        weights = gains if probability else by_hand.softmax(gains)
        maps.append(np.maximum(sum(w * channel for w, channel in zip(weights, kept, strict=True)), 0))
    return torch.from_numpy(np.stack(maps))


def case(generator, space=(2, 3), size=(5, 7)):
    activations = torch.randn(3, 4, *space, generator=generator, dtype=torch.float64)
    inputs = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64)
    return activations, inputs, by_hand.network(generator, (2, *size), strength=0.1)


def test_worked_example():
    # half and whole, the first pixel scores 0.1 and 0.4, the second 0.4 and 1.6: means of 0.25 and 1
    activations, inputs = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[2.0, 4.0]]])
    score = by_hand.Scored(lambda x: x.square().sum((1, 2)) / 10)
    found = is_cam(activations, inputs, score, steps=2)
    torch.testing.assert_close(found.maps, torch.tensor([[0.25, 1.0]]).softmax(1))
    assert score.runs == 4


@every_rank
@pytest.mark.parametrize("probability", [False, True])
@pytest.mark.parametrize("steps", [1, 4])
def test_is_the_mean_over_growing_masks(space, size, probability, steps, generator):
    activations, inputs, net = case(generator, space, size)
    activations[0, 1] = 0.3
    found = is_cam(activations, inputs, by_hand.Scored(net), steps=steps, probability=probability)
    expected = by_loops(activations, inputs, net, steps, probability=probability)
    torch.testing.assert_close(found.maps, expected)


def test_one_step_is_score_cam(generator):
    activations, inputs, net = case(generator)
    one = is_cam(activations, inputs, by_hand.Scored(net), steps=1, baseline=0.5)
    other = score_cam(activations, inputs, by_hand.Scored(net), baseline=0.5)
    torch.testing.assert_close(one.maps, other.maps)


@pytest.mark.parametrize("steps", [2, 10])
def test_of_scores_that_grow_with_the_input_it_is_a_flatter_score_cam(steps, generator):
    activations, inputs, _ = case(generator)
    grows = lambda x: x.relu().sum((1, 2, 3))  # noqa: E731
    found = is_cam(activations, inputs, by_hand.Scored(grows), steps=steps)
    scale = (steps + 1) / (2 * steps)
    flatter = score_cam(activations, inputs, by_hand.Scored(lambda x: scale * grows(x)))
    torch.testing.assert_close(found.maps, flatter.maps)


def test_trap_s8_no_input_is_brighter_than_the_picture(generator):
    activations, inputs, _ = case(generator)
    seen = []
    is_cam(activations, inputs, by_hand.Scored(lambda x: seen.append(x) or x.sum((1, 2, 3))), steps=10)
    assert len(seen) == 40
    assert all((each.abs() <= inputs.abs() + 1e-12).all() for each in seen)


def test_what_is_hidden_is_what_was_asked_for(generator):
    activations, inputs, net = case(generator)
    black = is_cam(activations, inputs, by_hand.Scored(net), steps=3, baseline=-2.0)
    lifted = is_cam(activations, inputs + 2, by_hand.Scored(lambda x: net(x - 2)), steps=3)
    torch.testing.assert_close(black.maps, lifted.maps)
    assert not torch.allclose(black.maps, is_cam(activations, inputs, by_hand.Scored(net), steps=3).maps)


@pytest.mark.parametrize("probability", [False, True])
def test_a_batch_is_its_samples(probability, generator):
    activations, inputs, net = case(generator)
    activations[1, 2] = 4.0
    together = is_cam(activations, inputs, by_hand.Scored(net), steps=3, probability=probability)
    for n in range(3):
        each = slice(n, n + 1)
        alone = is_cam(activations[each], inputs[each], by_hand.Scored(net), steps=3, probability=probability)
        torch.testing.assert_close(together.maps[each], alone.maps, rtol=1e-14, atol=1e-14)
        assert together.status[n] == alone.status[0]


@pytest.mark.parametrize("space", [(3, 3), (1, 1)], ids=["flat", "one location"])
def test_where_every_channel_is_flat_there_is_no_map(space):
    found = is_cam(torch.ones(2, 4, *space), torch.ones(2, 1, 6, 6), by_hand.Scored(lambda x: x.sum((1, 2, 3))))
    assert not found.maps.any()


def test_flat_channels_are_not_run(generator):
    activations, inputs, net = case(generator)
    activations[:, 1] = 3.0
    score = by_hand.Scored(net)
    is_cam(activations, inputs, score, steps=5)
    assert score.runs == 15


def test_small_scores_are_told(generator):
    activations, inputs, net = case(generator)
    found = is_cam(activations, inputs, by_hand.Scored(lambda x: 1e-9 * net(x)), steps=2)
    assert [status.kind for status in found.status] == ["uniform weights"] * 3
