"""RISE: masks are read back from what the network is shown, and counted against every mask that there could be."""

import collections
import itertools
import math

import numpy as np
import pytest
import torch

from whycam.errors import WhycamError
from whycam.methods.rise import rise

SPACES = [(7,), (3, 5), (3, 2, 4)]
every_rank = pytest.mark.parametrize("space", SPACES, ids=["1d", "2d", "3d"])


def fake(net, seen=None):
    """A `score` that runs a function on each variant, and keeps the variants that it was shown."""

    def score(variants, *, probability=False):
        rows = []
        for variant in variants:
            if seen is not None:
                seen.append(variant.clone())
            rows.append(net(variant))
        return torch.stack(rows)

    return score


def masks_of(space, **options):
    """What is left of an input of ones."""
    seen = []
    rise(torch.ones(1, 1, *space, dtype=torch.float64), fake(lambda x: x.flatten(1).sum(1), seen), **options)
    return torch.stack(seen)[:, 0, 0].numpy()


def pixel(image, *at):
    """A score that reads all colors of one pixel."""
    return image[(slice(None), slice(None), *at)].sum(1)


def interpolation(small, large):
    """The matrix that resizes one axis: pixel centers are at (i + 1/2) / length, the border is held."""
    matrix = np.zeros((large, small))
    for i in range(large):
        at = min(max((i + 0.5) * small / large - 0.5, 0), small - 1)
        low = math.floor(at)
        matrix[i, low] += 1 - (at - low)
        matrix[i, min(low + 1, small - 1)] += at - low
    return matrix


def every_mask(space, grid):
    """Every choice of cells, enlarged by one cell too many and cropped at every place, with the number of cells."""
    grids = grid if isinstance(grid, tuple) else (grid,) * len(space)
    cells = [math.ceil(side / count) for side, count in zip(space, grids, strict=True)]
    for chosen in itertools.product([0.0, 1.0], repeat=math.prod(grids)):
        large = np.array(chosen).reshape(grids)
        for axis, (cell, count) in enumerate(zip(cells, grids, strict=True)):
            large = np.moveaxis(np.tensordot(interpolation(count, (count + 1) * cell), large, (1, axis)), 0, axis)
        for starts in itertools.product(*(range(cell) for cell in cells)):
            cut = tuple(slice(start, start + side) for start, side in zip(starts, space, strict=True))
            yield sum(chosen), large[cut]


def key(mask):
    return (np.asarray(mask) + 1).round(9).tobytes()


@every_rank
@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_masks_are_random_grids_enlarged_and_cropped_at_random(space, keep):
    grid, count = (3 if len(space) == 1 else 2), 800
    cells, places = grid ** len(space), math.prod(math.ceil(side / grid) for side in space)
    chances = collections.Counter()
    for number, mask in every_mask(space, grid):
        chances[key(mask)] += keep**number * (1 - keep) ** (cells - number) / places
    drawn = collections.Counter(map(key, masks_of(space, samples=count, grid=grid, keep=keep)))
    assert drawn.keys() <= chances.keys()
    for mask, chance in chances.items():
        assert drawn[mask] == pytest.approx(count * chance, abs=5 * math.sqrt(count * chance) + 2)
    assert len(drawn) > min(len(chances), count) / 3


@every_rank
@pytest.mark.parametrize("divide", ["expected", "coverage"])
@pytest.mark.parametrize("center", [False, True])
def test_is_the_mean_of_masks_times_scores(space, divide, center, generator):
    inputs = torch.randn(3, 2, *space, generator=generator, dtype=torch.float64)
    behind = torch.randn(2, *space, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, *space, generator=generator, dtype=torch.float64)
    net = lambda image: (weights * image).flatten(1).sum(1).tanh()  # noqa: E731
    options = {"samples": 9, "grid": 2, "keep": 0.4, "seed": 3}
    found = rise(inputs, fake(net), baseline=behind, divide=divide, center=center, **options)
    masks = masks_of(space, **options)
    expected = np.zeros((3, *space))
    for n in range(3):
        given = [
            float(net(torch.from_numpy(m) * inputs[n : n + 1] + torch.from_numpy(1 - m) * behind[None])) for m in masks
        ]
        mean = sum(given) / 9 if center else 0
        for at in np.ndindex(*space):
            total = sum((score - mean) * mask[at] for score, mask in zip(given, masks, strict=True))
            expected[(n, *at)] = total / (9 * 0.4 if divide == "expected" else sum(mask[at] for mask in masks))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-14)


def test_worked_example():
    # one cell: each mask shows all of the input or nothing of it, and the score is 3 where all is shown
    inputs = torch.ones(1, 1, 3)
    net = lambda image: image.flatten(1).sum(1)  # noqa: E731
    found = rise(inputs, fake(net), samples=4, grid=1, keep=0.5, seed=0)
    shown = int(masks_of((3,), samples=4, grid=1, keep=0.5, seed=0)[:, 0].sum())
    assert 0 < shown < 4
    torch.testing.assert_close(found, torch.full((1, 3), 3 * shown / (4 * 0.5)))
    assert rise(inputs, fake(net), samples=9, grid=1, divide="coverage").tolist() == [[3.0, 3.0, 3.0]]


def test_the_pixel_that_is_read_stands_out():
    inputs = torch.ones(2, 3, 16, 16, dtype=torch.float64)
    net = lambda image: pixel(image, 4, 11)  # noqa: E731
    for options in ({}, {"divide": "coverage"}, {"center": True}):
        maps = rise(inputs, fake(net), samples=800, **options)
        at = maps[0].argmax().item()
        assert abs(at // 16 - 4) <= 1
        assert abs(at % 16 - 11) <= 1


def test_a_score_that_never_changes_is_the_value_everywhere_or_nothing_once_centered():
    inputs = torch.zeros(1, 1, 8, 9, dtype=torch.float64)
    count = 1500
    net = lambda image: torch.full((len(image),), 0.7, dtype=torch.float64)  # noqa: E731
    maps = rise(inputs, fake(net), samples=count)
    assert maps.mean() == pytest.approx(0.7, abs=0.03)
    assert (maps - 0.7).abs().max() < 0.7 * 5 / math.sqrt(count)  # how often each pixel was shown is left to chance
    torch.testing.assert_close(rise(inputs, fake(net), samples=50, divide="coverage"), torch.full_like(maps, 0.7))
    assert rise(inputs, fake(net), samples=50, center=True).abs().max() < 1e-12


def test_centered_and_uncentered_masks_agree_on_what_matters(generator):
    # the covariance of the score with what is shown of each pixel, over its mean: the same ranking, without the offset
    inputs = torch.rand(1, 1, 6, generator=generator, dtype=torch.float64)
    net = lambda image: 5 + pixel(image, 1)  # noqa: E731
    options = {"samples": 20, "grid": 3}
    masks = torch.from_numpy(masks_of((6,), **options))
    scores = torch.stack([net(mask * inputs) for mask in masks])[:, 0]
    expected = ((scores - scores.mean())[:, None] * (masks - masks.mean(0))).mean(0) / 0.5
    torch.testing.assert_close(rise(inputs, fake(net), center=True, **options)[0], expected)


def test_pixels_that_no_mask_shows_get_nothing():
    inputs = torch.ones(1, 1, 5)
    # one mask that hides everything
    seed = next(s for s in range(50) if not masks_of((5,), samples=1, grid=1, keep=0.1, seed=s).any())
    found = rise(inputs, fake(lambda image: image.sum((1, 2)) + 1), samples=1, grid=1, keep=0.1, seed=seed)
    assert found.tolist() == [[0.0] * 5]
    found = rise(inputs, fake(lambda x: x.sum((1, 2)) + 1), samples=1, grid=1, keep=0.1, seed=seed, divide="coverage")
    assert found.tolist() == [[0.0] * 5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_its_samples(dtype, generator):
    inputs = torch.randn(3, 2, 5, 6, generator=generator).to(dtype)
    score = fake(lambda image: image.square().flatten(1).sum(1))
    together = rise(inputs, score, samples=20)
    assert together.dtype == dtype
    for n in range(3):
        torch.testing.assert_close(together[n : n + 1], rise(inputs[n : n + 1], score, samples=20))


def test_masks_depend_on_seed_and_number_alone():
    few, many = masks_of((5, 6), samples=3), masks_of((5, 6), samples=6)
    np.testing.assert_array_equal(few, many[:3])
    assert not np.array_equal(few, masks_of((5, 6), samples=3, seed=1))
    assert len({mask.tobytes() for mask in many}) == 6
    before = torch.get_rng_state()
    masks_of((5, 6), samples=3)
    assert torch.get_rng_state().equal(before)


def test_a_sample_that_is_not_finite_stays_alone(generator):
    inputs = torch.randn(3, 1, 6, generator=generator)
    score = fake(lambda image: image.flatten(1).sum(1))
    expected = rise(inputs, score, samples=9)
    inputs[1, 0, 2] = torch.nan
    maps = rise(inputs, score, samples=9)
    assert maps[1].isnan().any()
    assert torch.equal(maps[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("space", [(1,), (2, 1), (1, 1, 3)])
def test_inputs_smaller_than_the_grid_are_masked_all_the_same(space):
    masks = masks_of(space, samples=40)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert 0.1 < masks.mean() < 0.9
    inputs = torch.ones(1, 1, *space)
    assert rise(inputs, fake(lambda image: image.flatten(1).sum(1)), samples=40).isfinite().all()


def test_the_number_of_runs_is_known_and_the_probability_asked_for():
    asked = []

    def score(variants, *, probability=False):
        asked.append((len(variants), probability))
        return torch.stack([each.flatten(1).sum(1) for each in variants])

    rise(torch.ones(1, 1, 4), score, samples=7)
    rise(torch.ones(1, 1, 4), score, samples=5, probability=False)
    assert asked == [(7, True), (5, False)]


@pytest.mark.parametrize("grid", [(2, 3), (4, 1)])
def test_a_grid_may_have_another_number_of_cells_along_each_axis(grid):
    space = (4, 6)
    known = {key(mask) for _, mask in every_mask(space, grid)}
    shown = masks_of(space, samples=60, grid=grid)
    assert len({key(mask) for mask in shown}) > 8
    assert all(key(mask) in known for mask in shown)


def test_a_grid_of_other_axes_is_refused():
    with pytest.raises(WhycamError, match="grid has 3 numbers for inputs with 2 spatial axes"):
        masks_of((4, 6), samples=2, grid=(2, 2, 2))
