"""Grad-CAM++ against eq. 19 as it is printed: powers of the gradient, two independent indices, exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from whycam.methods.grad_cam_plus_plus import grad_cam_plus_plus

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])


def eq_19(activations, gradients, normalize_alpha=False):
    """The paper's double loop in exact arithmetic: no rounding, hence no epsilon to hide behind."""
    batch, channels, *space = activations.shape
    maps = np.zeros((batch, *space))
    places = list(np.ndindex(*space))
    for n in range(batch):
        weights = []
        for k in range(channels):
            a = {at: Fraction(activations[(n, k, *at)].item()) for at in places}
            g = {at: Fraction(gradients[(n, k, *at)].item()) for at in places}
            alphas = {}
            for i in places:
                if g[i] == 0:
                    alphas[i] = Fraction(0)
                    continue
                denominator = 2 * g[i] ** 2
                for j in places:
                    denominator += a[j] * g[i] ** 3
                alphas[i] = g[i] ** 2 / denominator if denominator > 0 else Fraction(0)
            if normalize_alpha:
                total = sum((alphas[i] for i in places if g[i] > 0), Fraction(0))
                alphas = {i: alphas[i] / total if total else Fraction(0) for i in places}
            weights.append(sum((alphas[i] * max(g[i], Fraction(0)) for i in places), Fraction(0)))
        for at in places:
            value = sum(weights[k] * Fraction(activations[(n, k, *at)].item()) for k in range(channels))
            maps[(n, *at)] = float(max(value, Fraction(0)))
    return torch.from_numpy(maps)


def features(space, generator, scale=1.0):
    activations = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64).relu()
    return activations, scale * torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)


def test_worked_example():
    activations = torch.tensor([[[1.0, 3.0], [2.0, 0.0]]])
    gradients = torch.tensor([[[1.0, -1.0], [2.0, 0.5]]])
    # channel totals 4 and 2; weights 1 / (2 + 4) and 2 / (2 + 4) + 0.5 / (2 + 1)
    first, second = 1 / 6, 1 / 3 + 1 / 6
    expected = torch.tensor([[first * 1 + second * 2, first * 3 + second * 0]])
    torch.testing.assert_close(grad_cam_plus_plus(activations, gradients), expected)


@every_rank
def test_is_eq_19(space, generator):
    activations, gradients = features(space, generator)
    torch.testing.assert_close(grad_cam_plus_plus(activations, gradients), eq_19(activations, gradients))


def test_trap_g1_the_denominator_is_applied(generator):
    activations, gradients = features((5, 7), generator)
    cubes = (gradients.relu() ** 3).sum((-1, -2), keepdim=True)
    without = (cubes * activations).sum(1).relu()
    ratio = grad_cam_plus_plus(activations, gradients) / without
    assert ratio[without > 0].std() > 0.01  # no constant makes the two maps equal


def test_trap_g2_the_indices_of_the_denominator_are_independent():
    # One location alone carries gradient, another alone activation. Eq. 19 still divides by their product's total.
    activations = torch.tensor([[[0.0, 8.0]]], dtype=torch.float64)
    gradients = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 8.0 / (2 + 8)]], dtype=torch.float64)
    torch.testing.assert_close(grad_cam_plus_plus(activations, gradients), expected)


@every_rank
def test_trap_g3_alphas_are_not_normalized_unless_asked(space, generator):
    activations, gradients = features(space, generator)
    plain = grad_cam_plus_plus(activations, gradients)
    asked = grad_cam_plus_plus(activations, gradients, normalize_alpha=True)
    torch.testing.assert_close(plain, eq_19(activations, gradients))
    torch.testing.assert_close(asked, eq_19(activations, gradients, normalize_alpha=True))
    assert not torch.allclose(plain / plain.max(), asked / asked.max())


def test_trap_g3_normalized_alphas_count_positive_gradients_only():
    activations = torch.ones(1, 1, 4, dtype=torch.float64)
    gradients = torch.tensor([[[3.0, 3.0, -1.0, -0.1]]], dtype=torch.float64)
    # two equal alphas of one half each: the weight is the mean positive gradient
    maps = grad_cam_plus_plus(activations, gradients, normalize_alpha=True)
    torch.testing.assert_close(maps, torch.full((1, 4), 3.0, dtype=torch.float64))


def test_normalizing_no_alpha_at_all_gives_no_weight():
    activations = torch.ones(1, 2, 3, 3)
    assert not grad_cam_plus_plus(activations, -activations, normalize_alpha=True).any()


@pytest.mark.parametrize("scale", [1e-4, 1e-6, 1e-8, 1e-20])
def test_trap_g4_no_epsilon_drowns_small_gradients(scale, generator):
    activations, gradients = features((5, 7), generator, scale)
    torch.testing.assert_close(
        grad_cam_plus_plus(activations, gradients), eq_19(activations, gradients), rtol=1e-10, atol=0
    )


@pytest.mark.parametrize("scale", [1e-4, 1e-8])
def test_trap_g4_holds_in_float32(scale, generator):
    activations, gradients = features((5, 7), generator, scale)
    maps = grad_cam_plus_plus(activations.float(), gradients.float())
    torch.testing.assert_close(maps.double(), eq_19(activations, gradients), rtol=1e-4, atol=0)


def test_trap_g5_the_denominator_has_the_sum_of_the_activations_not_their_mean():
    activations = torch.full((1, 1, 7, 7), 2.0, dtype=torch.float64)
    gradients = torch.full((1, 1, 7, 7), 0.5, dtype=torch.float64)
    weight = 49 * 0.5 / (2 + 0.5 * 98)
    torch.testing.assert_close(grad_cam_plus_plus(activations, gradients), weight * activations[:, 0])


def test_trap_g6_no_factor_of_exp_score_overflows(generator):
    activations, _ = features((5, 7), generator)
    leaf = activations.float().requires_grad_()
    (gradients,) = torch.autograd.grad((leaf.mean((-1, -2)).sum() * 100 + 1000), leaf)
    maps = grad_cam_plus_plus(leaf.detach(), gradients)
    assert maps.isfinite().all()
    torch.testing.assert_close(maps.double(), eq_19(leaf.detach(), gradients), rtol=1e-5, atol=1e-6)


def test_trap_g8_volumes_are_summed_over_all_their_axes(generator):
    activations, gradients = features((2, 3, 4), generator)
    flat = grad_cam_plus_plus(activations.flatten(2), gradients.flatten(2))
    torch.testing.assert_close(grad_cam_plus_plus(activations, gradients).flatten(1), flat)


def test_alpha_is_zero_where_a_signed_layer_makes_the_denominator_zero_or_negative():
    # totals -4: denominators 2 - 4g are 1, 0 and -2, of which only the first counts
    activations = torch.tensor([[[-6.0, 1.0, 1.0]]], dtype=torch.float64)
    gradients = torch.tensor([[[0.25, 0.5, 1.0]]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 0.25, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(grad_cam_plus_plus(activations, gradients), expected)


@every_rank
def test_a_signed_layer_is_finite_and_as_declared(space, generator):
    activations, gradients = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(grad_cam_plus_plus(activations, gradients), eq_19(activations, gradients))


def test_weights_stay_within_the_bounds_its_text_states(generator):
    activations, gradients = features((5, 7), generator)
    for k in range(3):
        alone = torch.zeros_like(activations)
        alone[:, k] = activations[:, k]
        brightest = activations[:, k].amax((-1, -2))
        weight = grad_cam_plus_plus(alone, gradients).amax((-1, -2)) / brightest
        assert (weight <= gradients[:, k].relu().sum((-1, -2)) / 2).all()
        assert (weight <= (gradients[:, k] > 0).sum((-1, -2)) / activations[:, k].sum((-1, -2))).all()


def test_is_not_invariant_to_the_scores_scale(generator):
    activations, gradients = features((5, 7), generator)
    once, tenfold = (grad_cam_plus_plus(activations, factor * gradients) for factor in (1, 10))
    assert not torch.allclose(once / once.max(), tenfold / tenfold.max(), rtol=1e-3)


def test_gradients_of_zero_give_no_map():
    activations = torch.ones(1, 2, 3, 3)
    assert not grad_cam_plus_plus(activations, torch.zeros_like(activations)).any()
