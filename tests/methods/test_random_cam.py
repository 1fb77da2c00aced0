"""Random-CAM: the weights are read back by lighting one channel at a time."""

import pytest
import torch

from whycam.methods.random_cam import random_cam


def weights(channels, seed, dtype=torch.float64):
    """Each sample lights one channel, once with 1 and once with -1, as the positive part hides half of the signs."""
    lit = torch.eye(channels, dtype=dtype)[..., None]
    return (random_cam(lit, seed=seed) - random_cam(-lit, seed=seed))[:, 0]


def test_weights_are_spread_evenly_from_minus_one_to_one():
    drawn = weights(1000, 0)
    assert -1 <= drawn.min() < -0.99
    assert 0.99 < drawn.max() <= 1
    assert drawn.mean().abs() < 0.06  # three standard errors: 3 / sqrt(3 * 1000)
    for quarter in (-0.5, 0.0, 0.5):
        assert (drawn < quarter).double().mean() == pytest.approx((quarter + 1) / 2, abs=0.05)


@pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])
def test_is_the_positive_part_of_the_weighted_sum(space, generator):
    activations = torch.randn(2, 4, *space, generator=generator, dtype=torch.float64)
    drawn = weights(4, 5)
    expected = torch.zeros(2, *space, dtype=torch.float64)
    for k in range(4):
        expected += drawn[k] * activations[:, k]
    expected[expected < 0] = 0
    torch.testing.assert_close(random_cam(activations, seed=5), expected)


def test_a_seed_repeats_and_another_differs(generator):
    activations = torch.randn(2, 4, 3, 3, generator=generator)
    assert random_cam(activations, seed=1).equal(random_cam(activations, seed=1))
    assert random_cam(activations).equal(random_cam(activations, seed=0))
    assert not random_cam(activations, seed=1).equal(random_cam(activations, seed=2))


def test_weights_do_not_depend_on_the_place_in_the_batch(generator):
    sample = torch.randn(1, 6, 3, 3, generator=generator)
    maps = random_cam(sample.expand(3, -1, -1, -1))
    assert maps[0].equal(maps[1])
    assert maps[0].equal(maps[2])


def test_weights_are_the_same_in_every_precision():
    torch.testing.assert_close(weights(50, 0, torch.float32).double(), weights(50, 0), atol=1e-7, rtol=0)


def test_channels_have_weights_of_their_own():
    assert len(weights(50, 0).unique()) == 50


def test_torchs_own_random_state_is_left_alone():
    before = torch.get_rng_state()
    random_cam(torch.ones(1, 2, 3, 3))
    assert torch.get_rng_state().equal(before)


def test_activations_of_zero_give_no_map():
    assert not random_cam(torch.zeros(1, 2, 3, 3)).any()
