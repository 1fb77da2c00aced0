"""KPCA-CAM against kernel PCA from its definition in numpy: pair by pair, then centered by the matrix I - 1/n."""

import math

import numpy as np
import pytest
import torch

from whycam.errors import WhycamError
from whycam.methods.kpca_cam import kpca_cam

every_rank = pytest.mark.parametrize("space", [(7,), (3, 4), (2, 2, 3)], ids=["1d", "2d", "3d"])
every_kernel = pytest.mark.parametrize("kernel", ["sigmoid", "rbf", "poly", "cosine", "linear"])


def of_pair(x, y, kernel, gamma, degree, coef0):
    dot = math.fsum(a * b for a, b in zip(x, y, strict=True))
    match kernel:
        case "linear":
            return dot
        case "sigmoid":
            return math.tanh(gamma * dot + coef0)
        case "poly":
            return (gamma * dot + coef0) ** degree
        case "rbf":
            return math.exp(-gamma * math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)))
        case "cosine":
            return dot / (math.hypot(*x) * math.hypot(*y)) if any(x) and any(y) else 0.0


def by_definition(activations, kernel, gamma=None, degree=3, coef0=1.0):
    maps = []
    for sample in activations.double().numpy():
        points = np.stack([sample[(slice(None), *at)] for at in np.ndindex(*sample.shape[1:])])
        mean_channel = points.mean(axis=1)
        points = points - points.mean(axis=0)
        count, channels = points.shape
        gamma_here = 1 / channels if gamma is None else gamma
        matrix = np.array([[of_pair(x, y, kernel, gamma_here, degree, coef0) for y in points] for x in points])
        away = np.eye(count) - np.ones((count, count)) / count
        values, vectors = np.linalg.eigh(away @ matrix @ away)
        component = math.sqrt(max(values[-1], 0)) * vectors[:, -1]
        if np.corrcoef(component, mean_channel)[0, 1] < 0:
            component = -component
        maps.append(component.reshape(sample.shape[1:]))
    return torch.from_numpy(np.stack(maps))


def test_worked_example():
    # Two locations at distance 2 with one channel: the centered kernel of "rbf" has entries (1 - e) / 2 of either sign
    # with e = exp(-4), hence one eigenvector (-1, 1) / sqrt(2) of eigenvalue 1 - e.
    maps = kpca_cam(torch.tensor([[[1.0, 3.0]]]), kernel="rbf")
    height = math.sqrt((1 - math.exp(-4)) / 2)
    torch.testing.assert_close(maps, torch.tensor([[-height, height]]))


@every_rank
@every_kernel
@pytest.mark.parametrize("signed", [False, True], ids=["after a ReLU", "signed"])
def test_is_kernel_pca(space, kernel, signed, generator):
    activations = 2 * torch.randn(2, 5, *space, generator=generator, dtype=torch.float64)
    activations = activations if signed else activations.relu()
    torch.testing.assert_close(kpca_cam(activations, kernel=kernel), by_definition(activations, kernel))


@pytest.mark.parametrize(
    ("kernel", "options"),
    [("sigmoid", {"gamma": 0.03, "coef0": -0.5}), ("rbf", {"gamma": 1.3}), ("poly", {"degree": 2, "coef0": 0.25})],
)
def test_options_are_those_of_the_kernel(kernel, options, generator):
    activations = torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64).relu()
    maps = kpca_cam(activations, kernel=kernel, **options)
    torch.testing.assert_close(maps, by_definition(activations, kernel, **options))
    assert not torch.allclose(maps, kpca_cam(activations, kernel=kernel))


def test_the_default_is_the_sigmoid_kernel(generator):
    activations = torch.randn(1, 5, 3, 4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(kpca_cam(activations), by_definition(activations, "sigmoid"))


def test_linear_is_plain_pca(generator):
    activations = torch.randn(1, 5, 3, 4, generator=generator, dtype=torch.float64)
    points = activations[0].flatten(1).T
    points = points - points.mean(0)
    component = points @ torch.linalg.svd(points).Vh[0]
    maps = kpca_cam(activations, kernel="linear").flatten()
    torch.testing.assert_close(maps.abs(), component.abs())


def test_poly_of_degree_two_is_pca_of_all_products_of_two_channels(generator):
    activations = torch.randn(1, 3, 3, 4, generator=generator, dtype=torch.float64)
    points = activations[0].flatten(1).T
    points = points - points.mean(0)
    pairs = torch.stack([points[:, i] * points[:, j] for i in range(3) for j in range(3)], 1)
    pairs = pairs - pairs.mean(0)
    component = pairs @ torch.linalg.svd(pairs).Vh[0]
    maps = kpca_cam(activations, kernel="poly", gamma=1.0, degree=2, coef0=0.0).flatten()
    torch.testing.assert_close(maps.abs(), component.abs())


@every_kernel
def test_trap_r9_the_object_is_bright_not_dark(kernel, generator):
    activations = torch.randn(30, 16, 6, 6, generator=generator)
    activations[:, :8, :2, :2] += 6
    maps = kpca_cam(activations.relu(), kernel=kernel)
    assert (maps[:, :2, :2].mean((1, 2)) > maps[:, 3:, 3:].mean((1, 2))).all()


@every_kernel
def test_faint_activations_are_not_lost_to_rounding(kernel, generator):
    activations = (1e-4 * torch.randn(2, 5, 3, 4, generator=generator)).relu()
    maps = kpca_cam(activations, kernel=kernel)
    torch.testing.assert_close(maps.double(), by_definition(activations, kernel), rtol=1e-4, atol=1e-9)


@every_kernel
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_trap_n2_activations_flat_over_space_give_no_map(kernel, value):
    assert kpca_cam(torch.full((2, 4, 5, 5), value), kernel=kernel).eq(0).all()


def test_without_a_positive_eigenvalue_there_is_no_map(generator):
    # With a negative gamma the sigmoid kernel of nearby points is minus an inner product.
    activations = 0.01 * torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64)
    assert kpca_cam(activations, gamma=-1.0, coef0=0.0).abs().max() < 1e-4
    assert kpca_cam(activations[:, :1, :2, 0], gamma=-1.0, coef0=0.0).eq(0).all()


def test_a_sample_that_is_not_finite_is_nan_and_leaves_the_others_alone(generator):
    activations = torch.randn(3, 6, 3, 4, generator=generator, dtype=torch.float64)
    activations[1, 0, 0, 0] = torch.nan
    maps = kpca_cam(activations)
    assert maps[1].isnan().all()
    torch.testing.assert_close(maps[[0, 2]], by_definition(activations[[0, 2]], "sigmoid"))


def test_a_layer_with_too_many_pairs_of_locations_is_refused():
    with pytest.raises(WhycamError, match="has 4225; choose a later layer, with at most 4096"):
        kpca_cam(torch.zeros(1, 2, 65, 65))
