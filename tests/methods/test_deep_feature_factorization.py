"""Deep feature factorization against scipy's non-negative least squares, and against tables whose factors are known."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from whycam.methods.deep_feature_factorization import deep_feature_factorization as dff
from whycam.methods.eigen_cam import eigen_cam

SPACES = [(7,), (3, 4), (2, 3, 2)]
every_rank = pytest.mark.parametrize("space", SPACES, ids=["1d", "2d", "3d"])
THOROUGH = {"steps": 3000, "tolerance": 0.0}


def table_of(maps):
    """One row for each location of each sample."""
    return np.stack([sample[(slice(None), *at)] for sample in maps.numpy() for at in np.ndindex(*sample.shape[1:])])


def context(space, generator, concepts=3, samples=2, channels=8):
    """Activations made of concepts, each with a channel and a location of its own, which makes them unique."""
    strengths = torch.rand(samples, concepts, *space, generator=generator, dtype=torch.float64)
    for k in range(concepts):
        strengths[:, k].flatten(1)[:, k] = 0
        for other in range(concepts):
            strengths.flatten(2)[0, k, other] = 2.0 * (k == other)
    mixtures = torch.rand(concepts, channels, generator=generator, dtype=torch.float64)
    mixtures[:, :concepts] = torch.eye(concepts, dtype=torch.float64)
    return strengths, mixtures, torch.einsum("nk...,kc->nc...", strengths, mixtures)


@every_rank
def test_the_parts_are_a_best_non_negative_fit(space, generator):
    activations = torch.randn(3, 6, *space, generator=generator, dtype=torch.float64).relu()
    found = dff(activations, concepts=3, **THOROUGH)
    table, strengths = table_of(activations), table_of(found.parts)
    assert strengths.min() >= 0
    mixtures = np.stack([nnls(strengths, column)[0] for column in table.T], 1)
    # the mixtures that belong to these strengths have length 1, and the strengths that belong to those are these
    np.testing.assert_allclose(np.linalg.norm(mixtures, axis=1), 1, atol=2e-3)
    again = np.stack([nnls(mixtures.T, row)[0] for row in table])
    np.testing.assert_allclose(again, strengths, atol=2e-2)
    for n, (sample, part) in enumerate(zip(activations, found.parts, strict=True)):
        rows, fit = table_of(sample[None]), table_of(part[None]) @ mixtures
        gap = np.linalg.norm(rows - fit) / np.linalg.norm(rows)
        assert float(found.values["residual"][n]) == pytest.approx(gap, abs=1e-3)


@every_rank
def test_concepts_that_are_there_are_found(space, generator):
    strengths, mixtures, activations = context(space, generator)
    found = dff(activations, concepts=3, **THOROUGH)
    expected = strengths * mixtures.norm(dim=1).reshape(-1, *[1] * len(space))
    orders = [expected[:, list(order)] for order in itertools.permutations(range(3))]
    distances = [float((found.parts - each).abs().max()) for each in orders]
    assert min(distances) < 0.05
    assert sorted(distances)[1] > 0.5
    assert (found.values["residual"] < 0.01).all()
    # strongest first
    norms = found.parts.movedim(1, 0).flatten(1).norm(dim=1)
    assert torch.equal(norms, norms.sort(descending=True).values)


def test_worked_example():
    # two samples of two locations; channels 3 and 4 times what is at one, channel 2 alone at another: lengths 5 and 2
    activations = torch.tensor([[[3.0, 0.0], [4.0, 0.0], [0.0, 0.0]], [[0.0, 6.0], [0.0, 8.0], [2.0, 0.0]]])
    found = dff(activations, concepts=2)
    near = {"atol": 1e-3, "rtol": 0}
    torch.testing.assert_close(found.parts, torch.tensor([[[5.0, 0.0], [0.0, 0.0]], [[0.0, 10.0], [2.0, 0.0]]]), **near)
    torch.testing.assert_close(found.maps, torch.tensor([[5.0, 0.0], [2.0, 10.0]]), **near)
    torch.testing.assert_close(found.values["residual"], torch.zeros(2), **near)
    assert not found.status
    # one concept can hold the stronger alone: nothing of the first sample is left, of the second 2 of sqrt(104)
    one = dff(activations, concepts=1)
    torch.testing.assert_close(one.parts[:, 0], torch.tensor([[5.0, 0.0], [0.0, 10.0]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(one.values["residual"], torch.tensor([0.0, 2 / 104**0.5]), atol=1e-5, rtol=1e-5)


@every_rank
@pytest.mark.parametrize("channels", [4, 60], ids=["tall", "wide"])
def test_one_concept_is_eigen_cam(space, channels, generator):
    activations = torch.randn(1, channels, *space, generator=generator, dtype=torch.float64).relu()
    found = dff(activations, concepts=1, **THOROUGH)
    torch.testing.assert_close(found.maps, eigen_cam(activations), atol=1e-6, rtol=1e-6)
    assert torch.equal(found.maps, found.parts[:, 0])
    largest = torch.linalg.matrix_norm(activations.flatten(2), ord=2)
    left = (1 - (largest / activations.flatten(1).norm(dim=1)) ** 2).sqrt()
    torch.testing.assert_close(found.values["residual"], left, atol=1e-6, rtol=1e-6)


def test_a_concept_of_several_samples_has_one_number(generator):
    strengths, _, activations = context((3, 4), generator, samples=3)
    parts = dff(activations, concepts=3, **THOROUGH).parts
    for k in range(3):
        rows = torch.stack([torch.corrcoef(torch.stack([strengths[:, k].flatten(), p.flatten()]))[0, 1]
                            for p in parts.movedim(1, 0)])  # fmt: skip
        assert float(rows.max()) > 0.99


def test_order_of_samples_and_locations_changes_order_alone(generator):
    activations = torch.randn(3, 20, 8, generator=generator, dtype=torch.float64).relu()
    found = dff(activations)
    places, samples = torch.randperm(8, generator=generator), [2, 0, 1]
    torch.testing.assert_close(dff(activations[..., places]).parts, found.parts[..., places])
    turned = dff(activations[samples])
    torch.testing.assert_close(turned.parts, found.parts[samples])
    torch.testing.assert_close(turned.values["residual"], found.values["residual"][samples])
    torch.testing.assert_close(dff(activations[:, torch.randperm(20, generator=generator)]).parts, found.parts)


def test_more_steps_and_more_concepts_leave_less(generator):
    activations = torch.randn(2, 20, 5, 5, generator=generator, dtype=torch.float64).relu()
    left = [float(dff(activations, steps=n, tolerance=0.0).values["residual"].max()) for n in (1, 2, 5, 20, 100)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < left[0] - 1e-3
    left = [float(dff(activations, concepts=n).values["residual"].max()) for n in (1, 2, 4, 8)]
    assert left == sorted(left, reverse=True)


def test_the_fit_is_no_worse_than_from_random_starts(generator):
    activations = torch.randn(2, 30, 5, 5, generator=generator, dtype=torch.float64).relu()
    table = torch.from_numpy(table_of(activations))
    fits = []
    for _ in range(5):
        left, right = torch.rand(50, 4, generator=generator).double(), torch.rand(4, 30, generator=generator).double()
        for _ in range(300):
            left *= (table @ right.T) / (left @ right @ right.T)
            right *= (left.T @ table) / (left.T @ left @ right)
        fits.append(float((table - left @ right).norm() / table.norm()))
    found = dff(activations, steps=300, tolerance=0.0)
    whole = activations.flatten(1).norm(dim=1)
    mine = float((found.values["residual"] * whole).norm() / whole.norm())
    assert mine < sorted(fits)[2] + 5e-3


def test_it_stops_where_it_settles_and_says_so_where_it_does_not(generator):
    activations = torch.randn(2, 20, 5, 5, generator=generator, dtype=torch.float64).relu()
    early = dff(activations, steps=11, tolerance=1e-9)
    assert [status.kind for status in early.status] == ["not converged"] * 2
    assert "after 11 steps" in early.status[0].message
    enough = dff(activations, steps=11, tolerance=1.0)
    assert not enough.status
    assert torch.equal(enough.parts, early.parts)  # looked at after steps 1 and 11
    assert not torch.equal(dff(activations, steps=500).parts, early.parts)
    assert not dff(activations, steps=500).status


def test_what_is_below_zero_counts_as_zero(generator):
    activations = torch.randn(2, 6, 4, 4, generator=generator)
    assert torch.equal(dff(activations).parts, dff(activations.relu()).parts)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_a_scale_of_the_layer_is_a_scale_of_the_parts(scale, generator):
    activations = torch.randn(2, 6, 4, 4, generator=generator).relu()
    plain, scaled = dff(activations), dff(activations * scale)
    torch.testing.assert_close(scaled.parts / scale, plain.parts, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(scaled.values["residual"], plain.values["residual"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 30])
def test_nothing_gives_nothing(channels):
    found = dff(torch.zeros(2, channels, 3, 3))
    assert not found.parts.any()
    assert not found.maps.any()
    assert not found.values["residual"].any()
    assert not found.status


def test_a_sample_of_zeros_among_others_has_no_part(generator):
    activations = torch.rand(3, 6, 4, 4, generator=generator)
    activations[1] = 0
    found = dff(activations)
    assert not found.parts[1].any()
    assert found.values["residual"][1] == 0
    torch.testing.assert_close(found.parts[[0, 2]], dff(activations[[0, 2]]).parts)


@pytest.mark.parametrize("channels", [6, 60], ids=["tall", "wide"])
def test_concepts_beyond_those_that_there_are_stay_zero(channels, generator):
    _, _, activations = context((3, 4), generator, concepts=2, channels=channels)
    found = dff(activations, concepts=5)
    assert found.parts[:, :2].flatten(2).any(2).all()
    assert not found.parts[:, 2:].any()


@pytest.mark.parametrize("space", [(1,), (2, 1)])
def test_concepts_that_cannot_be_stay_zero(space):
    activations = torch.ones(1, 3, *space)
    found = dff(activations, concepts=5)
    assert found.parts.shape == (1, 5, *space)
    torch.testing.assert_close(found.parts[:, 0], torch.full((1, *space), 3**0.5))
    assert not found.parts[:, 1:].any()
    torch.testing.assert_close(found.values["residual"], torch.zeros(1), atol=1e-6, rtol=0)


def test_samples_that_are_not_finite_stay_alone(generator):
    activations = torch.rand(3, 6, 4, 4, generator=generator)
    expected = dff(activations[[0, 2]])
    activations[1, 2, 3, 3] = torch.nan
    found = dff(activations)
    assert found.parts[1].isnan().all()
    assert found.maps[1].isnan().all()
    assert found.values["residual"][1].isnan()
    assert torch.equal(found.parts[[0, 2]], expected.parts)
    assert dff(activations[1:2]).maps.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_precision_is_that_of_the_layer(dtype, generator):
    activations = torch.rand(2, 6, 4, 4, generator=generator).to(dtype)
    before = activations.clone()
    found = dff(activations)
    assert torch.equal(activations, before)
    assert found.maps.dtype == found.parts.dtype == found.values["residual"].dtype == dtype
    exact = dff(activations.double())
    torch.testing.assert_close(found.parts.double(), exact.parts, rtol=2e-3, atol=2e-3)
