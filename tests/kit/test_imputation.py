"""Noisy linear imputation against a dense system in float64, written out pixel by pixel."""

import sys
import threading
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from metrics_by_hand import drawn, imputed

from whycam.errors import MissingExtraError
from whycam.kit import imputation
from whycam.kit.imputation import impute


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1])
@pytest.mark.parametrize("space", [(9,), (6, 7), (3, 4, 3)], ids=["1d", "2d", "3d"])
def test_solves_the_papers_system(space, share, generator):
    inputs = drawn(3, 2, *space)
    removed = torch.rand(3, *space, generator=generator) < share
    removed.flatten(1)[:, 0] = False  # something is left
    before = inputs.clone()
    found = impute(inputs, removed, deviation=0)
    assert torch.equal(inputs, before)
    for n in range(3):
        np.testing.assert_allclose(found[n], imputed(inputs[n].numpy(), removed[n].numpy()), rtol=1e-9, atol=1e-12)


def test_pictures_are_solved_by_as_many_threads_as_torch_may_use(monkeypatch, generator):
    inputs, removed = drawn(5, 3, 12, 9), torch.rand(5, 12, 9, generator=generator) < 0.7
    alone, solved, seen = impute(inputs, removed), imputation._solved, set()

    def solving(*given: torch.Tensor) -> torch.Tensor:
        seen.add(threading.get_ident())
        together.wait()  # until all are at work
        return solved(*given)

    together = threading.Barrier(5, timeout=30)
    monkeypatch.setattr(imputation, "_solved", solving)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    assert torch.equal(impute(inputs, removed), alone)
    assert len(seen) == 5


def test_the_order_of_the_pixels_keeps_what_is_solved_sparse(monkeypatch):
    """In the order of memory each pixel fills in a whole row: 60 entries for each of 3,599."""
    entries, solver = [], scipy.sparse.linalg.splu

    def watched(*given: Any, **options: Any) -> Any:
        made = solver(*given, **options)
        entries.append(made.L.nnz)
        return made

    monkeypatch.setattr(scipy.sparse.linalg, "splu", watched)
    removed = torch.ones(1, 60, 60, dtype=torch.bool)
    removed[0, 0, 0] = False
    assert impute(drawn(1, 1, 60, 60), removed).isfinite().all()
    assert 3_599 < entries[0] < 30 * 3_599


def test_three_pixels_in_a_row_by_hand():
    # the middle one is the mean of its two neighbors, the last one is its only neighbor
    inputs = torch.tensor([[[1.0, 9.0, 3.0]], [[1.0, 3.0, 9.0]]], dtype=torch.float64)
    removed = torch.tensor([[False, True, False], [False, False, True]])
    assert impute(inputs, removed, deviation=0).tolist() == [[[1.0, 2.0, 3.0]], [[1.0, 3.0, 3.0]]]


def test_a_plane_comes_back_inside_and_a_constant_everywhere():
    rows, columns = torch.arange(8.0).double(), torch.arange(9.0).double()
    plane = (2 * rows[:, None] - columns)[None, None]
    inner = torch.zeros(1, 8, 9, dtype=torch.bool)
    inner[:, 2:6, 3:7] = True
    torch.testing.assert_close(impute(plane, inner, deviation=0), plane, rtol=1e-12, atol=1e-12)
    flat = torch.full((1, 3, 8, 9), 0.7, dtype=torch.float64)
    some = torch.rand(1, 8, 9, generator=torch.Generator().manual_seed(1)) < 0.8
    torch.testing.assert_close(impute(flat, some, deviation=0), flat, rtol=1e-12, atol=0)


def test_where_all_is_removed_each_color_is_its_mean():
    """M4: the system has no unique solution then."""
    inputs, everything = drawn(2, 3, 5, 4), torch.ones(2, 5, 4, dtype=torch.bool)
    expected = inputs.mean((2, 3), keepdim=True).expand_as(inputs)
    torch.testing.assert_close(impute(inputs, everything, deviation=0), expected)
    torch.testing.assert_close(impute(inputs, everything), expected, rtol=0, atol=0.05)


def test_what_is_not_removed_stays_to_the_last_bit():
    inputs = drawn(2, 3, 5, 4).float()
    assert torch.equal(impute(inputs, torch.zeros(2, 5, 4, dtype=torch.bool)), inputs)
    half = torch.zeros(2, 5, 4, dtype=torch.bool)
    half[:, :2] = True
    found = impute(inputs, half)
    assert torch.equal(found[:, :, 2:], inputs[:, :, 2:])
    assert found.dtype == torch.float32


def test_noise_is_of_deviation_one_hundredth_in_units_of_the_inputs_and_seeded():
    """M5: it is absolute, and in peers unseeded."""
    inputs, removed = 50 * drawn(2, 3, 40, 30), torch.zeros(2, 40, 30, dtype=torch.bool)
    removed[:, 3:] = True
    smooth = impute(inputs, removed, deviation=0)
    torch.manual_seed(1)
    added = (impute(inputs, removed, seed=4) - smooth)[:, :, 3:]
    state = torch.get_rng_state()
    assert float(added.std()) == pytest.approx(0.01, rel=0.05)
    assert abs(float(added.mean())) < 0.001
    torch.testing.assert_close(added[0], added[1], rtol=0, atol=1e-12)  # the same for each sample
    assert torch.equal(impute(inputs, removed, seed=4), impute(inputs, removed, seed=4))
    assert not torch.equal(impute(inputs, removed, seed=4), impute(inputs, removed, seed=5))
    assert torch.equal(torch.get_rng_state(), state)


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(MissingExtraError, match=r"needs scipy.*pip install 'whycam\[evaluate\]'"):
        impute(torch.ones(1, 1, 3, 3), torch.ones(1, 3, 3, dtype=torch.bool))
