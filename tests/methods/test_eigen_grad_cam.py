"""Eigen-Grad-CAM against numpy's singular value decomposition, and its sign against the evidence."""

import numpy as np
import pytest
import torch

from whycam.methods.eigen_grad_cam import eigen_grad_cam

every_rank = pytest.mark.parametrize(
    ("channels", "space"),
    [(20, (7,)), (3, (7,)), (40, (5, 7)), (6, (5, 7)), (30, (2, 3, 4)), (5, (2, 3, 4))],
    ids=["1d wide", "1d tall", "2d wide", "2d tall", "3d wide", "3d tall"],
)


def by_svd(activations, gradients, center=True):
    maps = []
    for a, g in zip(activations.numpy(), gradients.numpy(), strict=True):
        products = np.stack([a[(slice(None), *at)] * g[(slice(None), *at)] for at in np.ndindex(*a.shape[1:])])
        if center:
            products = products - products.mean(axis=0)
        component = products @ np.linalg.svd(products)[2][0]
        agreement = sum(component[i] * products[i].sum() for i in range(len(products)))
        maps.append((np.sign(agreement) * component).reshape(a.shape[1:]))
    return torch.from_numpy(np.stack(maps))


def test_worked_example():
    # products: one pattern times 3 and times 4
    pattern = torch.tensor([[0.0, 1.0], [-2.0, 0.0]])
    activations = torch.stack([pattern, 2 * pattern])[None]
    gradients = torch.stack([torch.full((2, 2), 3.0), torch.full((2, 2), 2.0)])[None]
    torch.testing.assert_close(eigen_grad_cam(activations, gradients, center=False), 5 * pattern[None])
    # less their mean over space, -1/4 of the factor; the map still agrees with HiResCAM's, 7 times the pattern
    torch.testing.assert_close(eigen_grad_cam(activations, gradients), 5 * (pattern[None] + 0.25))


@every_rank
@pytest.mark.parametrize("center", [False, True])
def test_is_the_first_singular_direction_of_the_products(channels, space, center, generator):
    activations, gradients = torch.randn(2, 3, channels, *space, generator=generator, dtype=torch.float64)
    activations = activations.relu()
    expected = by_svd(activations, gradients, center)
    torch.testing.assert_close(eigen_grad_cam(activations, gradients, center=center), expected)


@pytest.mark.parametrize("center", [False, True])
def test_trap_r9_the_sign_follows_the_evidence_not_the_sum(center, generator):
    # The evidence lies in one place and speaks for the target, or against it.
    activations = torch.rand(20, 6, 5, 5, generator=generator, dtype=torch.float64)
    gradients = torch.full_like(activations, 0.01)
    gradients[:, :, 1, 1] = 5
    assert (eigen_grad_cam(activations, gradients, center=center)[:, 1, 1] > 1).all()
    assert (eigen_grad_cam(activations, -gradients, center=center)[:, 1, 1] < -1).all()


@pytest.mark.parametrize("center", [False, True])
def test_a_score_of_opposite_sign_gives_the_opposite_map(center, generator):
    activations, gradients = torch.randn(2, 4, 6, 5, 5, generator=generator, dtype=torch.float64)
    there = eigen_grad_cam(activations, gradients, center=center)
    torch.testing.assert_close(eigen_grad_cam(activations, -gradients, center=center), -there)


def test_scales_with_the_score_however_small(generator):
    activations, gradients = torch.randn(2, 2, 6, 5, 5, generator=generator)
    expected = by_svd(activations.double(), gradients.double()).float()
    tiny = eigen_grad_cam(activations * 1e-15, gradients * 1e-20)
    torch.testing.assert_close(tiny * 1e25 * 1e10, expected, rtol=1e-4, atol=1e-5)


def test_products_too_small_for_half_precision_still_count():
    # each product of 2e-8 is 0 in float16, the length of 400 of them is not
    activations = torch.full((1, 400, 3, 3), 1e-4, dtype=torch.float16)
    maps = eigen_grad_cam(activations, 2 * activations, center=False)
    torch.testing.assert_close(maps.double(), torch.full((1, 3, 3), 4e-7, dtype=torch.float64), rtol=0.2, atol=0)


@pytest.mark.parametrize("center", [False, True])
def test_gradients_of_zero_give_no_map(center):
    activations = torch.ones(1, 2, 3, 3)
    assert not eigen_grad_cam(activations, torch.zeros_like(activations), center=center).any()


def test_a_sample_that_is_not_finite_is_nan_and_leaves_the_others_alone(generator):
    activations, gradients = torch.randn(2, 3, 6, 4, 5, generator=generator, dtype=torch.float64)
    gradients[1, 0, 0, 0] = torch.inf
    maps = eigen_grad_cam(activations, gradients)
    assert maps[1].isnan().all()
    torch.testing.assert_close(maps[[0, 2]], by_svd(activations[[0, 2]], gradients[[0, 2]]))
