"""gScoreCAM: the channels of largest mean gradient, run and weighed one by one in numpy."""

import masks_by_hand as by_hand
import numpy as np
import pytest
import torch

from whycam.methods.gscore_cam import gscore_cam

every_rank = pytest.mark.parametrize(
    ("space", "size"), [((4,), (9,)), ((2, 3), (5, 7)), ((2, 1, 2), (3, 4, 2))], ids=["1d", "2d", "3d"]
)


def by_loops(activations, gradients, inputs, net, channels):
    maps = []
    for n in range(len(inputs)):
        order = sorted(range(activations.shape[1]), key=lambda k: -gradients[n, k].numpy().mean())
        kept = [activations[n, k].numpy() for k in order[:channels]]
        masks = [by_hand.unit(by_hand.resized(channel, inputs.shape[2:])) for channel in kept]
        weights = by_hand.softmax([by_hand.of_one(net, inputs[n].numpy() * mask) for mask in masks])
        maps.append(np.maximum(sum(w * channel for w, channel in zip(weights, kept, strict=True)), 0))
    return torch.from_numpy(np.stack(maps))


def as_the_authors(activations, gradients, inputs, net, channels):
    """All channels are weighed, those left out by a score of 0; masks go from corner to corner."""
    maps = []
    for n in range(len(inputs)):
        order = sorted(range(activations.shape[1]), key=lambda k: -gradients[n, k].numpy().mean())
        scores = np.zeros(activations.shape[1])
        for k in order[:channels]:
            mask = by_hand.unit(by_hand.resized(activations[n, k].numpy(), inputs.shape[2:], corners=True))
            scores[k] = by_hand.of_one(net, inputs[n].numpy() * mask)
        weights = np.exp(scores) / np.exp(scores).sum()
        maps.append(np.maximum(sum(w * channel.numpy() for w, channel in zip(weights, activations[n], strict=True)), 0))
    return torch.from_numpy(np.stack(maps))


def case(generator, space=(2, 3), size=(5, 7)):
    activations, gradients = torch.randn(2, 3, 6, *space, generator=generator, dtype=torch.float64)
    inputs = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64)
    return activations, gradients, inputs, by_hand.network(generator, (2, *size), strength=0.1)


def test_worked_example():
    # mean gradients -9, 1 and 2: the last two are run, show [3, 0] and [0, 5] and score log 1 and log 3
    activations = torch.tensor([[[0.0, 2.0], [8.0, 0.0], [0.0, 4.0]]])
    gradients = torch.tensor([[[-9.0, -9.0], [-3.0, 5.0], [2.0, 2.0]]])
    score = by_hand.Scored(lambda x: (x[:, 0, 0] / 3 + x[:, 0, 1] * 3 / 5).log())
    found = gscore_cam(activations, gradients, torch.tensor([[[3.0, 5.0]]]), score, channels=2)
    torch.testing.assert_close(found.maps, torch.tensor([[2.0, 3.0]]))
    assert score.runs == 2


@every_rank
@pytest.mark.parametrize("channels", [1, 3, 6, 300])
def test_is_score_cam_of_the_channels_of_largest_gradient(space, size, channels, generator):
    activations, gradients, inputs, net = case(generator, space, size)
    score = by_hand.Scored(net)
    found = gscore_cam(activations, gradients, inputs, score, channels=channels)
    torch.testing.assert_close(found.maps, by_loops(activations, gradients, inputs, net, channels))
    assert score.runs == min(channels, 6)


def test_trap_s10_what_was_not_chosen_has_no_part_in_the_softmax():
    activations = torch.eye(300).reshape(1, 300, 300)
    gradients = torch.zeros(1, 300, 300)
    gradients[:, :2] = 1
    # small scores: beside 298 scores of 0 the two would have weights of 1/300
    score = by_hand.Scored(lambda x: 0.01 * x[:, 0, 0])
    found = gscore_cam(activations, gradients, torch.ones(1, 1, 300), score, channels=2)
    torch.testing.assert_close(found.maps[0, :2], torch.tensor([0.01, 0.0]).softmax(0))
    assert not found.maps[0, 2:].any()


@every_rank
@pytest.mark.parametrize("channels", [1, 4, 300])
def test_the_authors_softmax_and_masks(space, size, channels, generator):
    activations, gradients, inputs, net = case(generator, space, size)
    score, given = by_hand.Scored(net), (activations, gradients, inputs)
    found = gscore_cam(*given, score, channels=channels, softmax="all", align_corners=True)
    torch.testing.assert_close(found.maps, as_the_authors(*given, net, channels))
    assert score.runs == min(channels, 6)


@pytest.mark.parametrize("one", [{"softmax": "all"}, {"align_corners": True}], ids=str)
def test_each_of_the_two_changes_the_map(one, generator):
    activations, gradients, inputs, net = case(generator)
    found = gscore_cam(activations, gradients, inputs, by_hand.Scored(net), channels=4, **one)
    assert not torch.allclose(found.maps, by_loops(activations, gradients, inputs, net, 4))
    assert not torch.allclose(found.maps, as_the_authors(activations, gradients, inputs, net, 4))


def test_the_gradient_chooses_and_does_not_weigh(generator):
    activations, gradients, inputs, net = case(generator)
    one = gscore_cam(activations, gradients, inputs, by_hand.Scored(net), channels=2)
    other = gscore_cam(activations, 1000 * gradients, inputs, by_hand.Scored(net), channels=2)
    torch.testing.assert_close(one.maps, other.maps)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_batch_is_its_samples(channels, generator):
    activations, gradients, inputs, net = case(generator)
    activations[1, 2:] = 4.0
    together = gscore_cam(activations, gradients, inputs, by_hand.Scored(net), channels=channels)
    for n in range(3):
        each = slice(n, n + 1)
        alone = gscore_cam(activations[each], gradients[each], inputs[each], by_hand.Scored(net), channels=channels)
        torch.testing.assert_close(together.maps[each], alone.maps, rtol=1e-14, atol=1e-14)
        assert together.status[n] == alone.status[0]


def test_without_gradients_the_first_channels_are_taken(generator):
    activations, gradients, inputs, net = case(generator)
    found = gscore_cam(activations, 0 * gradients, inputs, by_hand.Scored(net), channels=2)
    first = gscore_cam(activations[:, :2], gradients[:, :2], inputs, by_hand.Scored(net))
    torch.testing.assert_close(found.maps, first.maps)


def test_a_flat_channel_that_is_chosen_has_no_weight(generator):
    activations, gradients, inputs, net = case(generator)
    activations[:, 0], gradients[:, 0] = 7.0, 99.0
    found = gscore_cam(activations, gradients, inputs, by_hand.Scored(net), channels=3)
    without = gscore_cam(activations[:, 1:], gradients[:, 1:], inputs, by_hand.Scored(net), channels=2)
    torch.testing.assert_close(found.maps, without.maps)


@pytest.mark.parametrize("space", [(3, 3), (1, 1)], ids=["flat", "one location"])
def test_where_every_channel_is_flat_there_is_no_map(space):
    flat = torch.ones(2, 4, *space)
    found = gscore_cam(flat, flat, torch.ones(2, 1, 6, 6), by_hand.Scored(lambda x: x.sum((1, 2, 3))), channels=3)
    assert not found.maps.any()


def test_what_is_hidden_is_what_was_asked_for(generator):
    activations, gradients, inputs, net = case(generator)
    black = gscore_cam(activations, gradients, inputs, by_hand.Scored(net), baseline=-2.0)
    lifted = gscore_cam(activations, gradients, inputs + 2, by_hand.Scored(lambda x: net(x - 2)))
    torch.testing.assert_close(black.maps, lifted.maps)
    assert not torch.allclose(black.maps, gscore_cam(activations, gradients, inputs, by_hand.Scored(net)).maps)


def test_small_scores_are_told(generator):
    activations, gradients, inputs, net = case(generator)
    found = gscore_cam(activations, gradients, inputs, by_hand.Scored(lambda x: 1e-9 * net(x)), channels=3)
    assert [status.kind for status in found.status] == ["uniform weights"] * 3
