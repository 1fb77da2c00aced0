"""Correlations of maps against sums over pixels, with ranks counted pixel by pixel."""

import math

import pytest
import torch
from torch import Tensor

from whycam.kit.likeness import likeness, pearson, spearman, ssim


def by_hand(one: list[float], other: list[float]) -> float:
    means = sum(one) / len(one), sum(other) / len(other)
    off = [(a - means[0], b - means[1]) for a, b in zip(one, other, strict=True)]
    below = math.sqrt(sum(a * a for a, _ in off) * sum(b * b for _, b in off))
    return sum(a * b for a, b in off) / below if below else math.nan


def ranks(values: list[float]) -> list[float]:
    """From 1 on; the mean of their places for values that tie."""
    places = sorted(values)
    return [sum(i + 1 for i, each in enumerate(places) if each == value) / places.count(value) for value in values]


def flat(maps: Tensor) -> list[list[float]]:
    return maps.flatten(1).tolist()


@pytest.mark.parametrize("space", [(9,), (5, 4), (2, 3, 4)], ids=["1d", "2d", "3d"])
def test_maps_that_are_mostly_0(space, generator):
    """Class activation maps tie: half their pixels are 0, and a quarter of the values are rounded here."""
    one, other = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64).clamp(min=0)
    other[0] = other[0].round()
    expected = [by_hand(a, b) for a, b in zip(flat(one), flat(other), strict=True)]
    assert pearson(one, other).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-14)
    expected = [by_hand(ranks(a), ranks(b)) for a, b in zip(flat(one), flat(other), strict=True)]
    assert spearman(one, other).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_rank_correlation_of_what_grows_together_is_1(generator):
    one = torch.randn(4, 50, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(spearman(one, one.exp()), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-14)
    torch.testing.assert_close(spearman(one, -(one**3)), -torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-14)
    assert (pearson(one, one.exp()) < 0.95).all()


def test_a_flat_map_is_like_nothing(generator):
    """Rounding noise would make 1 or -1 of a map that is 0.1 everywhere."""
    one = torch.randn(1, 5, 7, generator=generator, dtype=torch.float64)
    for other in (torch.zeros_like(one), torch.full_like(one, 0.1)):
        assert pearson(one, other).isnan().all()
        assert pearson(other, other).isnan().all()
        assert spearman(one, other).isnan().all()


def test_is_never_beyond_1(generator):
    one = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    assert pearson(one, 3 * one).amax() <= 1
    assert pearson(one, -3 * one).amin() >= -1


def window(at: int, side: int) -> list[tuple[int, float]]:
    """The places that Wang's window reaches along an axis, those beyond the edge mirrored, and their weights."""
    reach = min(5, side - 1)
    weights = [math.exp(-((step / 1.5) ** 2) / 2) for step in range(-reach, reach + 1)]
    places = [abs(at + step) for step in range(-reach, reach + 1)]
    places = [2 * (side - 1) - place if place >= side else place for place in places]
    return [(place, weight / sum(weights)) for place, weight in zip(places, weights, strict=True)]


def ssim_by_hand(one: Tensor, other: Tensor) -> float:
    one, other = ((each - each.min()) / (each.max() - each.min()) for each in (one, other))
    total = 0.0
    for row in range(one.shape[0]):
        for column in range(one.shape[1]):
            pairs = [
                (a * b, float(one[i, j]), float(other[i, j]))
                for i, a in window(row, one.shape[0])
                for j, b in window(column, one.shape[1])
            ]
            x, y = sum(w * a for w, a, _ in pairs), sum(w * b for w, _, b in pairs)
            xx, yy = sum(w * (a - x) ** 2 for w, a, _ in pairs), sum(w * (b - y) ** 2 for w, _, b in pairs)
            xy = sum(w * (a - x) * (b - y) for w, a, b in pairs)
            total += (2 * x * y + 0.01**2) * (2 * xy + 0.03**2) / (x * x + y * y + 0.01**2) / (xx + yy + 0.03**2)
    return total / one.numel()


def test_structural_similarity_is_the_sum_over_windows(generator):
    one, other = torch.randn(2, 3, 13, 7, generator=generator, dtype=torch.float64)
    expected = [ssim_by_hand(*each) for each in zip(one, other, strict=True)]
    assert ssim(one, other).tolist() == pytest.approx(expected, rel=1e-10)
    assert ssim(one, 3 * one + 5).tolist() == pytest.approx([1] * 3)


def test_likeness_of_flat_and_broken_maps(generator):
    one = torch.randn(4, 6, 6, generator=generator, dtype=torch.float64)
    other = -one
    one[0], other[1], other[2, 0, 0] = 2.0, 0.0, math.nan
    assert list(likeness(one, other, structure=False)) == ["spearman", "magnitudes"]
    found = likeness(one, other, structure=True)
    assert list(found) == ["spearman", "magnitudes", "ssim"]
    assert found["ssim"][3] == ssim(one, other)[3]
    for each in found.values():
        assert each.isnan().tolist() == [True, False, True, False]
        assert each[1] == 0
    assert found["spearman"][3].item() == pytest.approx(-1)
    assert found["magnitudes"][3].item() == pytest.approx(1)
