"""Eigen-CAM against numpy's singular value decomposition, sample by sample."""

import numpy as np
import pytest
import torch

from whycam.methods.eigen_cam import eigen_cam

#: Fewer locations than channels, and more: the two are worked out from different Gram matrices.
every_rank = pytest.mark.parametrize(
    ("channels", "space"),
    [(20, (7,)), (3, (7,)), (40, (5, 7)), (6, (5, 7)), (30, (2, 3, 4)), (5, (2, 3, 4))],
    ids=["1d wide", "1d tall", "2d wide", "2d tall", "3d wide", "3d tall"],
)


def by_svd(activations, center=False):
    maps = []
    for sample in activations.numpy().astype(np.float64):
        matrix = np.stack([sample[(slice(None), *at)] for at in np.ndindex(*sample.shape[1:])])
        if center:
            matrix = matrix - matrix.mean(axis=0)
        component = matrix @ np.linalg.svd(matrix)[2][0]
        agreement = np.corrcoef(component, matrix.mean(axis=1))[0, 1] if center else component.sum()
        maps.append((-component if agreement < 0 else component).reshape(sample.shape[1:]))
    return torch.from_numpy(np.stack(maps))


def test_worked_example():
    # one pattern in two channels of strength 3 and 4, so a channel vector of length 5
    pattern = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    activations = torch.stack([3 * pattern, 4 * pattern])[None]
    torch.testing.assert_close(eigen_cam(activations), 5 * pattern[None])


@every_rank
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("signed", [False, True], ids=["after a ReLU", "signed"])
def test_is_the_first_singular_direction(channels, space, center, signed, generator):
    activations = torch.randn(3, channels, *space, generator=generator, dtype=torch.float64)
    activations = activations if signed else activations.relu()
    torch.testing.assert_close(eigen_cam(activations, center=center), by_svd(activations, center))


@every_rank
def test_its_squares_add_up_to_the_largest_squared_singular_value(channels, space, generator):
    activations = torch.randn(2, channels, *space, generator=generator, dtype=torch.float64)
    largest = torch.linalg.matrix_norm(activations.flatten(2), ord=2)
    torch.testing.assert_close(eigen_cam(activations).flatten(1).square().sum(1), largest.square())


def test_is_nowhere_negative_after_a_relu(generator):
    activations = torch.randn(20, 8, 5, 7, generator=generator, dtype=torch.float64).relu()
    assert eigen_cam(activations).min() > -1e-12


@pytest.mark.parametrize("center", [False, True])
def test_trap_r9_the_object_is_bright_not_dark(center, generator):
    # 60 layers after a ReLU: an object in one corner excites half the channels over a noisy background
    activations = torch.randn(60, 16, 6, 6, generator=generator)
    activations[:, :8, :2, :2] += 6
    maps = eigen_cam(activations.relu(), center=center)
    inside = maps[:, :2, :2].mean((1, 2))
    assert (inside > 0).all()
    assert (inside > maps[:, 3:, 3:].mean((1, 2))).all()


def test_trap_r9_columns_are_not_centered_unless_asked(generator):
    activations = torch.rand(1, 4, 5, 5, generator=generator, dtype=torch.float64) + 10
    assert eigen_cam(activations).min() > 0
    assert eigen_cam(activations, center=True).sum().abs() < 1e-9


def test_center_ignores_what_every_location_shares(generator):
    activations = torch.randn(2, 4, 5, 5, generator=generator, dtype=torch.float64)
    shared = torch.randn(2, 4, 1, 1, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(eigen_cam(activations + shared, center=True), eigen_cam(activations, center=True))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("center", [False, True])
def test_very_small_and_very_large_activations_keep_their_map(scale, center, generator):
    activations = torch.randn(2, 9, 2, 3, generator=generator).relu()
    scaled = eigen_cam(activations * scale, center=center) / scale
    torch.testing.assert_close(scaled, by_svd(activations, center).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("channels", [2, 30])
def test_trap_n2_activations_of_zero_give_no_map(channels, center):
    assert eigen_cam(torch.zeros(2, channels, 3, 3), center=center).eq(0).all()


@pytest.mark.parametrize("channels", [2, 30])
def test_center_of_activations_flat_over_space_is_zero_not_magnified_rounding(channels):
    # in float64, whose mean over 49 equal values is not exact, unlike that of float32 worked out in float64
    values = torch.linspace(0.1, 0.7, channels, dtype=torch.float64)[None, :, None, None]
    flat = values.expand(1, channels, 7, 7).contiguous()
    assert eigen_cam(flat, center=True).eq(0).all()
    torch.testing.assert_close(eigen_cam(flat), values.square().sum(1).sqrt().expand(1, 7, 7))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("channels", [4, 40])
def test_a_sample_that_is_not_finite_is_nan_and_leaves_the_others_alone(bad, center, channels, generator):
    activations = torch.randn(3, channels, 4, 5, generator=generator, dtype=torch.float64)
    activations[1, 2, 3, 1] = bad
    maps = eigen_cam(activations, center=center)
    assert maps[1].isnan().all()
    torch.testing.assert_close(maps[[0, 2]], by_svd(activations[[0, 2]], center))
