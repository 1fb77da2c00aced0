"""Smooth Grad-CAM++ against its double loop in exact fractions, with gradients that are written down."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from small import Small, pictures

from whycam.kit.arrays import noise
from whycam.kit.quantities import Traced
from whycam.methods.grad_cam_plus_plus import grad_cam_plus_plus
from whycam.methods.smooth_grad_cam_plus_plus import smooth_grad_cam_plus_plus

every_rank = pytest.mark.parametrize("space", [(7,), (4, 5), (2, 3, 4)], ids=["1d", "2d", "3d"])


def by_fractions(activations, draws, numerator="second"):
    """Means of powers over the draws, `(draw, batch, channel, *spatial)`; two independent indices; no rounding."""
    batch, channels, *space = activations.shape
    places = list(np.ndindex(*space))
    maps = np.zeros((batch, *space))
    for n in range(batch):
        weights = []
        for k in range(channels):
            whole = sum((Fraction(activations[(n, k, *at)].item()) for at in places), Fraction(0))
            weight = Fraction(0)
            for at in places:
                values = [Fraction(draw[(n, k, *at)].item()) for draw in draws]
                d1, d2, d3 = (sum(v**p for v in values) / len(values) for p in (1, 2, 3))
                below = 2 * d2 + whole * d3
                if below > 0:
                    weight += (d2 if numerator == "second" else d1) / below * max(d1, Fraction(0))
            weights.append(weight)
        for at in places:
            value = sum(weights[k] * Fraction(activations[(n, k, *at)].item()) for k in range(channels))
            maps[(n, *at)] = float(max(value, Fraction(0)))
    return torch.from_numpy(maps)


def replay(draws, seen=None):
    """`trace` that gives the gradients written down, whatever it is asked; keeps what it was asked."""

    def trace(variants):
        for variant, draw in zip(variants, draws, strict=True):
            if seen is not None:
                seen.append(variant)
            yield Traced(torch.zeros_like(draw), draw, draw.new_zeros(len(draw)), draw.new_zeros(len(draw), 2))

    return trace


def features(space, generator, signed=False):
    activations = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    draws = torch.randn(4, 2, 3, *space, generator=generator, dtype=torch.float64)
    return activations if signed else activations.relu(), draws


@every_rank
@pytest.mark.parametrize("numerator", ["second", "first"])
@pytest.mark.parametrize("signed", [False, True])
def test_is_the_formula_with_means_of_powers(space, numerator, signed, generator):
    activations, draws = features(space, generator, signed)
    made = smooth_grad_cam_plus_plus(
        activations, pictures(space, generator), replay(draws), samples=4, numerator=numerator
    )
    torch.testing.assert_close(made, by_fractions(activations, draws, numerator))
    assert made.any()


def test_worked_example():
    activations = torch.tensor([[[1.0, 3.0]]], dtype=torch.float64)
    draws = torch.tensor([[[[2.0, -1.0]]], [[[0.0, -3.0]]]], dtype=torch.float64)
    # at the first location means of powers are 1, 2 and 4, so 1 * 2 / (2 * 2 + 4 * 4); the second has D1 below 0
    made = smooth_grad_cam_plus_plus(activations, torch.ones(1, 3, 2).double(), replay(draws), samples=2)
    torch.testing.assert_close(made, torch.tensor([[0.1, 0.3]], dtype=torch.float64))
    # as printed: 1 * 1 / 20
    made = smooth_grad_cam_plus_plus(
        activations, torch.ones(1, 3, 2).double(), replay(draws), samples=2, numerator="first"
    )
    torch.testing.assert_close(made, torch.tensor([[0.05, 0.15]], dtype=torch.float64))


@every_rank
def test_without_noise_it_is_grad_cam_plus_plus(space, generator):
    net, inputs = Small(len(space), generator), pictures(tuple(side + 3 for side in space), generator)
    run = net.run(inputs)
    made = smooth_grad_cam_plus_plus(run.activations, inputs, net.trace, samples=3, deviation=0.0)
    torch.testing.assert_close(made, grad_cam_plus_plus(run.activations, run.gradients))
    assert made.any()


def test_trap_g7_every_draw_counts_and_none_more_than_another(generator):
    activations, draws = features((4, 5), generator)
    inputs = pictures((4, 5), generator)
    made = smooth_grad_cam_plus_plus(activations, inputs, replay(draws), samples=4)
    torch.testing.assert_close(smooth_grad_cam_plus_plus(activations, inputs, replay(draws.flip(0)), samples=4), made)
    for number in range(4):
        other = draws.clone()
        other[number] += 1
        assert not torch.allclose(smooth_grad_cam_plus_plus(activations, inputs, replay(other), samples=4), made)


def test_trap_g7b_noise_is_a_share_of_each_images_own_range():
    inputs = torch.zeros(2, 3, 5, dtype=torch.float64)
    inputs[0, 1, 2], inputs[1, 0, 0], inputs[1, 2, 4] = 4.0, -100.0, 100.0
    seen, draws = [], torch.ones(2, 2, 1, 5, dtype=torch.float64)
    smooth_grad_cam_plus_plus(torch.ones(2, 1, 5).double(), inputs, replay(draws, seen), samples=2, deviation=0.5)
    for number, variant in enumerate(seen):
        drawn = noise((3, 5), 0, number)
        torch.testing.assert_close(variant[0], inputs[0] + 0.5 * 4 * drawn)
        torch.testing.assert_close(variant[1], inputs[1] + 0.5 * 200 * drawn)
    assert not torch.equal(seen[0], seen[1])


def test_a_flat_image_stays_as_it_is():
    seen, draws = [], torch.ones(1, 1, 1, 5, dtype=torch.float64)
    smooth_grad_cam_plus_plus(
        torch.ones(1, 1, 5).double(), torch.ones(1, 3, 5).double(), replay(draws, seen), samples=1
    )
    assert seen[0].eq(1).all()


@every_rank
def test_a_batch_is_its_samples(space, generator):
    inputs = pictures(tuple(side + 3 for side in space), generator, 3)
    net = Small(len(space), generator)

    def made(inputs):
        return smooth_grad_cam_plus_plus(net.features(inputs), inputs, net.trace, samples=3)

    together = made(inputs)
    for n in range(3):
        torch.testing.assert_close(together[n : n + 1], made(inputs[n : n + 1]), rtol=1e-12, atol=0)
    assert len(net.traced) == 4 * 3


def test_the_seed_decides_the_draws(generator):
    net, inputs = Small(2, generator), pictures((6, 7), generator)
    first, again, other = (
        smooth_grad_cam_plus_plus(net.features(inputs), inputs, net.trace, samples=3, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("scale", [1e-4, 1e-8, 1e-24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("numerator", ["second", "first"])
def test_trap_g4_no_epsilon_drowns_small_gradients(scale, dtype, numerator, generator):
    activations, draws = features((4, 5), generator)
    activations, draws = activations.to(dtype), (scale * draws).to(dtype)
    inputs = pictures((4, 5), generator).to(dtype)
    made = smooth_grad_cam_plus_plus(activations, inputs, replay(draws), samples=4, numerator=numerator)
    assert made.dtype == dtype
    torch.testing.assert_close(made.double(), by_fractions(activations, draws, numerator), rtol=1e-5, atol=0)


def test_locations_without_gradient_add_nothing():
    activations, draws = torch.ones(1, 2, 3).double(), torch.zeros(2, 1, 2, 3).double()
    for numerator in ("second", "first"):
        made = smooth_grad_cam_plus_plus(
            activations, torch.ones(1, 3, 3).double(), replay(draws), samples=2, numerator=numerator
        )
        assert made.eq(0).all()


def test_a_sample_that_is_not_finite_shows_and_stays_alone(generator):
    activations, draws = features((4, 5), generator)
    inputs = pictures((4, 5), generator)
    expected = smooth_grad_cam_plus_plus(activations, inputs, replay(draws), samples=4)
    draws[2, 1, 0, 0, 0] = torch.nan
    made = smooth_grad_cam_plus_plus(activations, inputs, replay(draws), samples=4)
    assert made[1].isnan().any()
    torch.testing.assert_close(made[0], expected[0])
