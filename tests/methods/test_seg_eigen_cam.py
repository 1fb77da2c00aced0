"""Seg-Eigen-CAM against numpy's singular value decomposition, and its sign, which is never left to chance."""

import numpy as np
import pytest
import torch

from whycam.methods.seg_eigen_cam import seg_eigen_cam

every_rank = pytest.mark.parametrize(
    ("channels", "space"),
    [(20, (7,)), (3, (7,)), (40, (5, 7)), (6, (5, 7)), (5, (2, 3, 4))],
    ids=["1d wide", "1d tall", "2d wide", "2d tall", "3d"],
)


def by_svd(activations, gradients, center=True):
    maps = []
    for a, g in zip(activations.numpy(), gradients.numpy(), strict=True):
        rows = np.stack([a[(slice(None), *at)] * np.abs(g[(slice(None), *at)]) for at in np.ndindex(*a.shape[1:])])
        if center:
            rows = rows - rows.mean(axis=0)
        component = rows @ np.linalg.svd(rows)[2][0]
        if abs(component.min()) > abs(component.max()):  # eq. 13
            component = -component
        maps.append(component.reshape(a.shape[1:]))
    return torch.from_numpy(np.stack(maps))


@every_rank
@pytest.mark.parametrize("center", [True, False])
def test_is_the_first_singular_direction_turned_to_its_larger_extreme(channels, space, center, generator):
    activations, gradients = torch.randn(2, 4, channels, *space, generator=generator, dtype=torch.float64)
    for a in (activations, activations.relu()):
        torch.testing.assert_close(seg_eigen_cam(a, gradients, center=center), by_svd(a, gradients, center))


def test_worked_example():
    # products: one pattern times 3 and times 4, whatever the gradients' signs
    pattern = torch.tensor([[0.0, 1.0], [-3.0, 0.0]])
    activations = torch.stack([pattern, 2 * pattern])[None]
    gradients = torch.stack([torch.full((2, 2), -3.0), torch.full((2, 2), 2.0)])[None]
    torch.testing.assert_close(seg_eigen_cam(activations, gradients, center=False), -5 * pattern[None])
    # less its mean, -1/2 of the factor: 2.5 against 1.5
    torch.testing.assert_close(seg_eigen_cam(activations, gradients), -5 * (pattern[None] + 0.5))


def test_the_gradients_sign_does_not_matter(generator):
    activations, gradients = torch.randn(2, 3, 6, 5, 5, generator=generator, dtype=torch.float64)
    assert torch.equal(seg_eigen_cam(activations, -gradients), seg_eigen_cam(activations, gradients))


def test_trap_r9_an_object_on_a_quiet_ground_is_positive(generator):
    activations = 0.1 * torch.rand(20, 6, 8, 8, generator=generator, dtype=torch.float64)
    activations[:, :, 2:4, 2:4] += 3
    assert (seg_eigen_cam(activations, torch.ones_like(activations))[:, 2:4, 2:4] > 1).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_equal_extremes_are_turned_by_what_the_layer_holds(sign, generator):
    # two locations less their mean are one value and its opposite
    activations = torch.tensor([[[2.0, 5.0], [1.0, 9.0]]], dtype=torch.float64)
    found = seg_eigen_cam(activations, torch.full_like(activations, sign))
    assert found[0, 1] > 1 > -1 > found[0, 0]
    flipped = seg_eigen_cam(activations.flip(2), torch.full_like(activations, sign))
    torch.testing.assert_close(flipped, found.flip(1))


def test_where_nothing_else_tells_the_first_value_is_positive():
    activations = torch.tensor([[[-1.0, 1.0], [1.0, -1.0]], [[1.0, -1.0], [-1.0, 1.0]]], dtype=torch.float64)
    found = seg_eigen_cam(activations, torch.ones_like(activations))
    torch.testing.assert_close(found, torch.tensor([[2.0, -2.0]] * 2, dtype=torch.float64) / 2**0.5)


@every_rank
def test_a_batch_is_its_samples(channels, space, generator):
    activations, gradients = torch.randn(2, 5, channels, *space, generator=generator, dtype=torch.float64)
    together = seg_eigen_cam(activations, gradients)
    for n in range(5):
        alone = seg_eigen_cam(activations[n : n + 1], gradients[n : n + 1])
        torch.testing.assert_close(together[n : n + 1], alone, rtol=1e-10, atol=1e-12)


def test_scales_with_the_score_however_small(generator):
    activations, gradients = torch.randn(2, 2, 6, 5, 5, generator=generator)
    tiny = seg_eigen_cam(activations * 1e-15, gradients * 1e-20)
    torch.testing.assert_close(tiny * 1e25 * 1e10, seg_eigen_cam(activations, gradients), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("center", [True, False])
def test_gradients_of_zero_give_no_map(center):
    activations = torch.ones(1, 2, 3, 3)
    assert seg_eigen_cam(activations, torch.zeros_like(activations), center=center).eq(0).all()


def test_one_location_has_no_direction_when_centered():
    assert seg_eigen_cam(torch.ones(1, 2, 1), torch.ones(1, 2, 1)).eq(0).all()
    torch.testing.assert_close(
        seg_eigen_cam(torch.ones(1, 2, 1), torch.ones(1, 2, 1), center=False), torch.full((1, 1), 2**0.5)
    )


def test_a_sample_that_is_not_finite_is_nan_and_leaves_the_others_alone(generator):
    activations, gradients = torch.randn(2, 3, 6, 4, 5, generator=generator, dtype=torch.float64)
    gradients[1, 0, 0, 0] = torch.inf
    maps = seg_eigen_cam(activations, gradients)
    assert maps[1].isnan().all()
    torch.testing.assert_close(maps[[0, 2]], by_svd(activations[[0, 2]], gradients[[0, 2]]))


@pytest.mark.parametrize(("more", "turned"), [(2e-9, True), (0.5e-9, False)])
def test_extremes_are_equal_up_to_rounding(more, turned):
    pattern = torch.tensor([[[-1 - more, 1.0, 0.5]]], dtype=torch.float64)
    found = seg_eigen_cam(pattern, torch.ones_like(pattern), center=False)
    torch.testing.assert_close(found, -pattern[:, 0] if turned else pattern[:, 0])
