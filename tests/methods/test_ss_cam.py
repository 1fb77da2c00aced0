"""SS-CAM against its mean over draws in numpy, and against Score-CAM where the noise is nothing."""

import math

import masks_by_hand as by_hand
import numpy as np
import pytest
import torch

from whycam.kit.arrays import noise
from whycam.methods.score_cam import score_cam
from whycam.methods.ss_cam import ss_cam

every_rank = pytest.mark.parametrize(
    ("space", "size"), [((4,), (9,)), ((2, 3), (5, 7)), ((2, 1, 2), (3, 4, 2))], ids=["1d", "2d", "3d"]
)
every_kind = pytest.mark.parametrize("noisy", ["mask", "input"])


def by_loops(activations, inputs, net, *, noisy, samples, deviation, seed, probability=False, behind=0.0):
    maps = []
    for n in range(len(inputs)):
        kept = [channel for channel in activations[n].numpy() if channel.max() > channel.min()]
        gains = []
        for channel in kept:
            mask = by_hand.unit(by_hand.resized(channel, inputs.shape[2:]))
            picture, scores = inputs[n].numpy(), []
            for number in range(samples):
                if noisy == "mask":
                    drawn = mask + deviation * noise(inputs.shape[2:], seed, number).numpy()
                    edited = picture * drawn + behind * (1 - drawn)
                else:
                    drawn = deviation * noise(inputs.shape[1:], seed, number).numpy()
                    edited = picture * mask + behind * (1 - mask) + drawn
                scores.append(by_hand.of_one(net, edited, probability=probability))
            gains.append(math.fsum(scores) / samples)
        weights = gains if probability else by_hand.softmax(gains)
        maps.append(np.maximum(sum(w * channel for w, channel in zip(weights, kept, strict=True)), 0))
    return torch.from_numpy(np.stack(maps))


def case(generator, space=(2, 3), size=(5, 7)):
    activations = torch.randn(3, 4, *space, generator=generator, dtype=torch.float64)
    inputs = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64)
    return activations, inputs, by_hand.network(generator, (2, *size), strength=0.03)


def test_worked_example():
    # one draw e of noise on masks [0, 1] and [1, 0] of the inputs [3, 5]: the sums 3 e0 + 5 (1 + e1), 3 (1 + e0) + 5 e1
    first, second = 0.5 * noise((2,), 7, 0)
    score = by_hand.Scored(lambda x: x.sum((1, 2)) / 10)
    found = ss_cam(
        torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), torch.tensor([[[3.0, 5.0]]]), score, samples=1, deviation=0.5, seed=7
    )
    one, other = math.exp(0.3 * first + 0.5 * (1 + second)), math.exp(0.3 * (1 + first) + 0.5 * second)
    torch.testing.assert_close(found.maps, torch.tensor([[other, one]]) / (one + other))


@every_rank
@every_kind
@pytest.mark.parametrize("probability", [False, True])
def test_is_the_mean_over_draws(space, size, noisy, probability, generator):
    activations, inputs, net = case(generator, space, size)
    activations[0, 1] = 0.3
    options = {"noisy": noisy, "samples": 3, "deviation": 0.8, "seed": 5, "probability": probability}
    found = ss_cam(activations, inputs, by_hand.Scored(net), **options, baseline=0.4)
    torch.testing.assert_close(found.maps, by_loops(activations, inputs, net, **options, behind=0.4))


@every_kind
@pytest.mark.parametrize("samples", [1, 4])
def test_without_noise_it_is_score_cam(noisy, samples, generator):
    activations, inputs, net = case(generator)
    found = ss_cam(activations, inputs, by_hand.Scored(net), noisy=noisy, samples=samples, deviation=0.0)
    torch.testing.assert_close(found.maps, score_cam(activations, inputs, by_hand.Scored(net)).maps)


@every_kind
def test_of_a_linear_score_noise_leaves_the_differences_and_so_the_map(noisy, generator):
    activations, inputs, _ = case(generator)
    adds_up = by_hand.Scored(lambda x: x.sum((1, 2, 3)) / 10)
    found = ss_cam(activations, inputs, adds_up, noisy=noisy, samples=2, deviation=2.0)
    torch.testing.assert_close(found.maps, score_cam(activations, inputs, adds_up).maps)


def test_the_two_kinds_differ_and_so_do_seeds_and_defaults_are_the_published_ones(generator):
    activations, inputs, net = case(generator)
    score = by_hand.Scored(net)
    found = ss_cam(activations, inputs, score)
    assert score.runs == 35 * 4
    torch.testing.assert_close(
        found.maps, by_loops(activations, inputs, net, noisy="mask", samples=35, deviation=2.0, seed=0)
    )
    for other in ({"noisy": "input"}, {"seed": 1}, {"deviation": 1.0}, {"samples": 34}):
        assert not torch.allclose(found.maps, ss_cam(activations, inputs, score, **other).maps)
    assert torch.equal(found.maps, ss_cam(activations, inputs, score).maps)


@every_kind
def test_samples_and_channels_share_their_draws_and_draws_differ(noisy, generator):
    activations, inputs, _ = case(generator)
    seen = []
    ss_cam(
        activations, torch.ones_like(inputs), by_hand.Scored(lambda x: seen.append(x) or x[:, 0, 0, 0]),
        noisy=noisy, samples=2, deviation=1.0,
    )  # fmt: skip
    clean = []
    score_cam(activations, torch.ones_like(inputs), by_hand.Scored(lambda x: clean.append(x) or x[:, 0, 0, 0]))
    first, second = (torch.stack(seen[4 * i : 4 * i + 4]) - torch.stack(clean) for i in range(2))
    torch.testing.assert_close(first, first[:1, :1].expand_as(first))
    torch.testing.assert_close(second, second[:1, :1].expand_as(second))
    assert (first - second).abs().amax() > 0.1
    colors_alike = torch.allclose(first[0, 0, 0], first[0, 0, 1])
    assert colors_alike == (noisy == "mask")


@every_kind
def test_a_batch_is_its_samples(noisy, generator):
    activations, inputs, net = case(generator)
    activations[1, 2] = 4.0
    together = ss_cam(activations, inputs, by_hand.Scored(net), noisy=noisy, samples=3)
    for n in range(3):
        each = slice(n, n + 1)
        alone = ss_cam(activations[each], inputs[each], by_hand.Scored(net), noisy=noisy, samples=3)
        torch.testing.assert_close(together.maps[each], alone.maps, rtol=1e-14, atol=1e-14)
        assert together.status[n] == alone.status[0]


@pytest.mark.parametrize("space", [(3, 3), (1, 1)], ids=["flat", "one location"])
def test_where_every_channel_is_flat_there_is_no_map(space):
    found = ss_cam(torch.ones(2, 4, *space), torch.ones(2, 1, 6, 6), by_hand.Scored(lambda x: x.sum((1, 2, 3))))
    assert not found.maps.any()


def test_flat_channels_are_not_run(generator):
    activations, inputs, net = case(generator)
    activations[:, 1] = 3.0
    score = by_hand.Scored(net)
    ss_cam(activations, inputs, score, samples=5)
    assert score.runs == 15


def test_torchs_own_random_state_is_left_alone(generator):
    activations, inputs, net = case(generator)
    before = torch.get_rng_state()
    ss_cam(activations, inputs, by_hand.Scored(net), samples=2)
    assert torch.equal(before, torch.get_rng_state())
