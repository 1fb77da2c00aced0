"""Faster Score-CAM: Score-CAM, whose own oracle is elsewhere, of the channels that vary most."""

import masks_by_hand as by_hand
import numpy as np
import pytest
import torch

from whycam.methods.faster_score_cam import faster_score_cam

every_rank = pytest.mark.parametrize(
    ("space", "size"), [((4,), (9,)), ((2, 3), (5, 7)), ((2, 1, 2), (3, 4, 2))], ids=["1d", "2d", "3d"]
)


def by_loops(activations, inputs, net, channels, *, probability=False):
    maps = []
    for n in range(len(inputs)):
        order = sorted(range(activations.shape[1]), key=lambda k: -np.std(activations[n, k].numpy()))
        kept = [activations[n, k].numpy() for k in order[:channels]]
        masks = [by_hand.unit(by_hand.resized(channel, inputs.shape[2:])) for channel in kept]
        scores = [by_hand.of_one(net, inputs[n].numpy() * mask, probability=probability) for mask in masks]
        weights = scores if probability else by_hand.softmax(scores)
        maps.append(np.maximum(sum(w * channel for w, channel in zip(weights, kept, strict=True)), 0))
    return torch.from_numpy(np.stack(maps))


def case(generator, space=(2, 3), size=(5, 7)):
    activations = torch.randn(3, 6, *space, generator=generator, dtype=torch.float64)
    activations *= torch.rand(3, 6, *[1] * len(space), generator=generator, dtype=torch.float64) + 0.1
    inputs = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64)
    return activations, inputs, by_hand.network(generator, (2, *size), strength=0.1)


def test_worked_example():
    # deviations 1, 3 and 2: the second and the third are run, show [3, 0] and [0, 5] and score log 1 and log 3
    activations = torch.tensor([[[0.0, 2.0], [6.0, 0.0], [0.0, 4.0]]])
    score = by_hand.Scored(lambda x: (x[:, 0, 0] / 3 + x[:, 0, 1] * 3 / 5).log())
    found = faster_score_cam(activations, torch.tensor([[[3.0, 5.0]]]), score, channels=2)
    torch.testing.assert_close(found.maps, torch.tensor([[1.5, 3.0]]))
    assert score.runs == 2


@every_rank
@pytest.mark.parametrize("probability", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 6, 100])
def test_is_score_cam_of_the_channels_that_vary_most(space, size, probability, channels, generator):
    activations, inputs, net = case(generator, space, size)
    score = by_hand.Scored(net)
    found = faster_score_cam(activations, inputs, score, channels=channels, probability=probability)
    torch.testing.assert_close(found.maps, by_loops(activations, inputs, net, channels, probability=probability))
    assert score.runs == min(channels, 6)


def test_what_varies_is_not_what_is_large():
    activations = torch.tensor([[[100.0, 101.0], [0.0, 3.0]]])
    found = faster_score_cam(activations, torch.ones(1, 1, 2), by_hand.Scored(lambda x: x.sum((1, 2))), channels=1)
    torch.testing.assert_close(found.maps, activations[:, 1])


def test_trap_s9_each_sample_has_its_own_channels(generator):
    activations, inputs, net = case(generator)
    activations[0, 3] *= 100
    activations[1, 5] *= 100
    score = by_hand.Scored(net)
    together = faster_score_cam(activations, inputs, score, channels=1)
    torch.testing.assert_close(together.maps[0], activations[0, 3].relu())
    torch.testing.assert_close(together.maps[1], activations[1, 5].relu())
    assert score.runs == 1


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_batch_is_its_samples(channels, generator):
    activations, inputs, net = case(generator)
    activations[1, 2:] = 4.0
    together = faster_score_cam(activations, inputs, by_hand.Scored(net), channels=channels)
    for n in range(3):
        each = slice(n, n + 1)
        alone = faster_score_cam(activations[each], inputs[each], by_hand.Scored(net), channels=channels)
        torch.testing.assert_close(together.maps[each], alone.maps, rtol=1e-14, atol=1e-14)
        assert together.status[n] == alone.status[0]


def test_channels_that_vary_equally_are_taken_in_order():
    activations = torch.eye(4).reshape(1, 4, 4)
    found = faster_score_cam(activations, torch.ones(1, 1, 4), by_hand.Scored(lambda x: x.sum((1, 2))), channels=2)
    torch.testing.assert_close(found.maps, torch.tensor([[0.5, 0.5, 0.0, 0.0]]))


@pytest.mark.parametrize("space", [(3, 3), (1, 1)], ids=["flat", "one location"])
def test_where_every_channel_is_flat_there_is_no_map(space):
    found = faster_score_cam(
        torch.ones(2, 4, *space), torch.ones(2, 1, 6, 6), by_hand.Scored(lambda x: x.sum((1, 2, 3))), channels=3
    )
    assert not found.maps.any()


def test_what_is_hidden_is_what_was_asked_for(generator):
    activations, inputs, net = case(generator)
    black = faster_score_cam(activations, inputs, by_hand.Scored(net), baseline=-2.0)
    lifted = faster_score_cam(activations, inputs + 2, by_hand.Scored(lambda x: net(x - 2)))
    torch.testing.assert_close(black.maps, lifted.maps)
    assert not torch.allclose(black.maps, faster_score_cam(activations, inputs, by_hand.Scored(net)).maps)
