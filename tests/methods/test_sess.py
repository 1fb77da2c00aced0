"""SESS against its windows cut out, explained and put back one by one in numpy."""

import inspect
import itertools

import numpy as np
import pytest
import torch
from masks_by_hand import resized, unit
from small import Small, pictures

from whycam.kit.arrays import normalize, resize
from whycam.kit.quantities import Traced
from whycam.methods.grad_cam import grad_cam
from whycam.methods.sess import sess

every_rank = pytest.mark.parametrize("space", [(6,), (5, 7), (3, 4, 4)], ids=["1d", "2d", "3d"])


def windows_of(space, steps, growth):
    """(size, first corner), rows and columns: side by side, the last one moved back inside."""
    found = []
    for step in range(steps):
        size = [round(side * (1 + growth * step)) for side in space]
        starts = []
        for side, whole in zip(space, size, strict=True):
            row, at = [], 0
            while True:
                row.append(min(at, whole - side))
                if at + side >= whole:
                    break
                at += side
            starts.append(row)
        found += [(size, corner) for corner in itertools.product(*starts)]
    return found


def by_loops(net, inputs, steps, growth, *, drop=0.0, threshold=0.0, merge="mean", smooth=False, probability=True):
    space = tuple(inputs.shape[2:])
    maps = []
    for image in inputs.numpy():
        made = []
        for size, corner in windows_of(space, steps, growth):
            whole = np.stack([resized(color, size) for color in image])
            inside = tuple(slice(start, start + side) for start, side in zip(corner, space, strict=True))
            run = net.run(torch.from_numpy(whole[(slice(None), *inside)].copy())[None])
            score = run.output.softmax(1)[0, 0].item() if probability else run.scores.item()
            a, g = run.activations[0].numpy(), run.gradients[0].numpy()
            cam = np.maximum(sum(g[k].mean() * a[k] for k in range(len(a))), 0)
            made.append((score, size, inside, unit(resized(cam, space))))
        best = max(score for score, *_ in made)
        order = sorted(range(len(made)), key=lambda number: made[number][0])[int(len(made) * drop) :]
        placed = []
        for number in order:
            score, size, inside, cam = made[number]
            canvas = np.zeros(size)
            canvas[inside] = cam * (score / best if best > 0 else 0)
            placed.append(resized(canvas, space))
        stack = np.stack(placed)
        if merge == "max":
            pooled = stack.max(0)
        else:
            count = (stack > threshold).sum(0)
            pooled = np.where(count > 0, np.where(stack > threshold, stack, 0).sum(0) / np.maximum(count, 1), 0)
        maps.append(blurred(pooled) if smooth else pooled)
    return torch.from_numpy(np.stack(maps))


def blurred(values):
    """A Gaussian of deviation 5 over 11 pixels, or as many as the reflected edge allows, along every axis."""
    for axis in range(values.ndim):
        length = values.shape[axis]
        reach = min(5, length - 1)
        weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / 50)
        rows = np.moveaxis(values, axis, 0)
        period = max(1, 2 * (length - 1))
        made = []
        for at in range(length):
            total = 0
            for offset, weight in zip(range(-reach, reach + 1), weights, strict=True):
                place = abs(at + offset) % period
                total = total + weight * rows[min(place, period - place)]
            made.append(total / weights.sum())
        values = np.moveaxis(np.stack(made), 0, axis)
    return values


@every_rank
@pytest.mark.parametrize(("steps", "growth"), [(1, 0.5), (3, 2 / 7), (2, 1.5)])
def test_is_the_weighted_mean_of_the_windows(space, steps, growth, generator):
    net, inputs = Small(len(space), generator), pictures(space, generator)
    found = sess(inputs, net.score, net.trace, steps=steps, growth=growth, smooth=False)
    torch.testing.assert_close(found, by_loops(net, inputs, steps, growth))
    assert found.any()
    assert len(net.traced) == net.scored == len(windows_of(space, steps, growth))
    assert set(net.traced) == {tuple(inputs.shape)}


OPTIONS = {
    "drop": {"drop": 0.6},
    "drop nearly all": {"drop": 0.99},
    "threshold": {"threshold": 0.3},
    "max": {"merge": "max"},
    "smooth": {"smooth": True},
    "scores": {"probability": False},
    "scores, max": {"probability": False, "merge": "max"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("space", [(9,), (6, 7)])
def test_its_options_are_the_authors(space, options, generator):
    net, inputs = Small(len(space), generator), pictures(space, generator, 3)
    expected = by_loops(net, inputs, 3, 0.5, **options)
    found = sess(inputs, net.score, net.trace, steps=3, growth=0.5, **{"smooth": False} | options)
    torch.testing.assert_close(found, expected)
    assert found.any()


def test_the_default_windows_are_those_of_the_authors_code():
    seen = []

    def score(variants, *, probability=False):
        assert probability
        seen.append(len(variants))
        return torch.ones(len(variants), 1)

    def trace(variants):
        for _ in variants:
            yield Traced(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), torch.ones(1), torch.ones(1, 2))

    sess(torch.zeros(1, 1, 14, 14), score, trace)  # 2/7 of 14 is 4, as 64 of 224
    assert seen == [122]


def test_windows_that_are_dropped_are_each_samples_own(generator):
    net, inputs = Small(2, generator), pictures((6, 7), generator, 3)
    count = len(windows_of((6, 7), 3, 0.5))
    sess(inputs, net.score, net.trace, steps=3, growth=0.5, drop=0.6)
    assert len(net.traced) == count - int(count * 0.6) < count == net.scored


@every_rank
def test_one_size_is_grad_cam_scaled(space, generator):
    net, inputs = Small(len(space), generator), pictures(space, generator)
    run = net.run(inputs)
    plain = normalize(resize(grad_cam(run.activations, run.gradients), space), "minmax")
    torch.testing.assert_close(sess(inputs, net.score, net.trace, steps=1, smooth=False), plain)


def test_worked_example():
    # one axis of 2, enlarged to 4, cut into halves of scores 0.4 and 0.8 after a whole of 0.2
    cams = [[1.0, 3.0], [0.0, 2.0], [5.0, 4.0]]

    def trace(variants):
        for _, cam in zip(variants, cams, strict=True):
            yield Traced(torch.tensor([[cam]]), torch.ones(1, 1, 2), torch.ones(1), torch.ones(1, 2))

    found = sess(
        torch.zeros(1, 3, 2), lambda variants, probability: torch.tensor([[0.2], [0.4], [0.8]]), trace,
        steps=2, growth=1.0, smooth=False,
    )  # fmt: skip
    # (0, 0.25) of the whole; (0, 0.5) in the left half of four, which makes 0.25 of two; (1, 0) in the right, 0.5
    torch.testing.assert_close(found, torch.tensor([[0.25, (0.25 + 0.5) / 2]]))


@pytest.mark.parametrize("drop", [0.0, 0.7])
@every_rank
def test_a_batch_is_its_samples(space, drop, generator):
    net, inputs = Small(len(space), generator), pictures(space, generator, 3)
    together = sess(inputs, net.score, net.trace, steps=3, drop=drop)
    for n in range(3):
        alone = sess(inputs[n : n + 1], net.score, net.trace, steps=3, drop=drop)
        torch.testing.assert_close(together[n : n + 1], alone, rtol=1e-12, atol=1e-14)


def test_no_window_above_zero_gives_no_map(generator):
    net, inputs = Small(2, generator), pictures((5, 6), generator)
    for value in (0.0, -1.0):
        found = sess(
            inputs, lambda variants, probability, v=value: torch.full((len(variants), 2), v), net.trace, steps=2
        )
        assert found.eq(0).all()


def test_windows_without_positive_evidence_show_nothing(generator):
    inputs = pictures((5, 6), generator)
    flat = Traced(torch.ones(2, 2, 3, 3).double(), -torch.ones(2, 2, 3, 3).double(), torch.ones(2).double(),
                  torch.ones(2, 2).double())  # fmt: skip
    found = sess(inputs, lambda v, probability: torch.ones(len(v), 2), lambda v: iter([flat] * len(v)), steps=2)
    assert found.eq(0).all()


@pytest.mark.parametrize("merge", ["mean", "max"])
def test_a_sample_that_is_not_finite_shows_and_stays_alone(merge, generator):
    net, inputs = Small(2, generator), pictures((5, 6), generator)
    expected = sess(inputs, net.score, net.trace, steps=2, merge=merge)

    def trace(variants):
        for number, run in enumerate(net.trace(variants)):
            if number == 2:
                run.gradients[1, 0, 0, 0] = torch.nan
            yield run

    def score(variants, *, probability=False):
        scores = net.score(variants, probability=probability)
        scores[1, 1] = torch.nan
        return scores

    for some in ((net.score, trace), (score, net.trace)):
        found = sess(inputs, *some, steps=2, merge=merge)
        assert found[1].isnan().any()
        torch.testing.assert_close(found[0], expected[0])


sess_unchecked = inspect.unwrap(sess)
