"""Deletion, pixel by pixel in loops, and on a linear model of four pixels."""

import math

import numpy as np
import pytest
import torch
from metrics_by_hand import (
    FourPixels,
    Seen,
    Small,
    by_evidence,
    drawn,
    imputed,
    probability_of,
    replaced,
    trapezoids,
)

import whycam
from whycam.errors import OptionError
from whycam.metrics import deletion

#: Two classes whose difference is the sum of the pixels times these: no softmax to be worked by hand but a sigmoid.
LINEAR = FourPixels([[4.0, 3.0, 2.0, 1.0], [0.0] * 4])


def blurred(picture):
    """Every axis by a Gaussian of deviation 5 in a window of 11, or what fits; edges are reflected."""
    for axis in range(1, picture.ndim):
        rows = np.moveaxis(picture, axis, 0)
        length = len(rows)
        reach = min(5, length - 1)
        made = []
        for i in range(length):
            places, weights = [], []
            for step in range(-reach, reach + 1):
                at = abs(i + step)
                places.append(at if at < length else 2 * (length - 1) - at)
                weights.append(math.exp(-((step / 5) ** 2) / 2))
            made.append(sum(w * rows[at] for w, at in zip(weights, places, strict=True)) / sum(weights))
        picture = np.moveaxis(np.stack(made), 0, axis)
    return picture


BEHIND = {
    "zero": np.zeros_like,
    "mean": lambda picture: np.stack([np.full_like(color, color.mean()) for color in picture]),
    "blur": blurred,
    0.5: lambda picture: np.full_like(picture, 0.5),
}
#: What a black pixel becomes by this.
PREPARE = whycam.Preprocess((5, 4), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
BLACK = np.array([-0.5 / 0.2, -0.4 / 0.3, -0.3 / 0.4])


def curve_by_hand(net, picture, values, index, steps, behind):
    places = by_evidence(values)
    counts = [round(step * len(places) / steps) for step in range(steps + 1)]
    heights = [probability_of(net, replaced(picture, places[:count], behind), index) for count in counts]
    return heights, [count / len(places) for count in counts]


@pytest.mark.parametrize("baseline", BEHIND)
@pytest.mark.parametrize("space", [(7,), (5, 4), (3, 2, 4)], ids=["1d", "2d", "3d"])
def test_is_the_area_under_the_curve_of_pictures_without_the_first_pixels(space, baseline):
    net, inputs, maps = Small(axes=len(space)), drawn(3, 3, *space), drawn(3, *space, seed=3)
    found = deletion(maps, net, inputs, [0, 1, 2], steps=6, baseline=baseline, curves=True)
    for n in range(3):
        picture = inputs[n].numpy()
        heights, places = curve_by_hand(net, picture, maps[n].numpy(), n, 6, BEHIND[baseline](picture))
        np.testing.assert_allclose(found.curve[n], heights, rtol=1e-12)
        np.testing.assert_allclose(found.at, places, rtol=1e-15)
        assert float(found.values[n]) == pytest.approx(trapezoids(heights, places), rel=1e-12)


def test_black_is_what_the_preprocessing_makes_of_it():
    net, inputs, maps = Small(), drawn(2, 3, 5, 4), drawn(2, 5, 4, seed=3)
    found = deletion(maps, net, inputs, 1, steps=5, baseline="black", curves=True, preprocess=PREPARE)
    for n in range(2):
        behind = np.broadcast_to(BLACK[:, None, None], (3, 5, 4))
        heights, _ = curve_by_hand(net, inputs[n].numpy(), maps[n].numpy(), 1, 5, behind)
        np.testing.assert_allclose(found.curve[n], heights, rtol=1e-6)  # black is known in float32
    with pytest.raises(whycam.WhycamError, match="what a black pixel is in these inputs is not known"):
        deletion(maps, net, inputs, 1, baseline="black")
    with pytest.raises(OptionError, match="only explain knows what black is"):
        deletion.function(maps, inputs, torch.zeros(2), Seen(lambda x: x.flatten(1).sum(1)), baseline="black")


def test_a_linear_model_of_four_pixels():
    inputs = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    found = deletion(torch.tensor([[[4.0, 3.0], [2.0, 1.0]]]), LINEAR, inputs, 0, steps=4, curves=True)
    left = [1 / (1 + math.exp(-logit)) for logit in (10, 6, 3, 1, 0)]
    assert found.curve[0].tolist() == pytest.approx(left, rel=1e-12)
    assert found.at == (0, 0.25, 0.5, 0.75, 1)
    assert float(found.values) == pytest.approx(((left[0] + left[4]) / 2 + sum(left[1:4])) / 4, rel=1e-12)
    # the other way round the same model loses least at first: the map is worse
    worse = deletion(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), LINEAR, inputs, 0, steps=4, curves=True)
    assert worse.curve[0].tolist() == pytest.approx([1 / (1 + math.exp(-y)) for y in (10, 9, 7, 4, 0)], rel=1e-12)
    assert float(worse.values) > float(found.values)


def test_what_speaks_against_the_target_goes_last():
    inputs = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    against = FourPixels([[-1.0, 0.0, 0.0, 2.0], [0.0] * 4], [9.0, 9.0])
    found = deletion(torch.tensor([[[-1.0, 0.1], [0.0, 2.0]]]), against, inputs, 0, steps=4, curves=True)
    assert found.curve[0].tolist() == pytest.approx([1 / (1 + math.exp(-y)) for y in (1, -1, -1, -1, 0)], rel=1e-12)


def test_a_map_that_is_nearly_all_zero_removes_exact_counts():
    # pytorch-grad-cam selects by value < percentile, and so removes all of a map that is 98% zero at every share
    maps = torch.zeros(2, 20, 10, dtype=torch.float64)
    maps[:, 3, :4] = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    seen = Seen(lambda pictures: pictures.flatten(1).sum(1))
    deletion.function(maps, torch.ones(2, 3, 20, 10), torch.zeros(2), seen, steps=8)
    gone = [int((variant[0, 0] == 0).sum()) for variant in seen.variants]
    assert gone == [25, 50, 75, 100, 125, 150, 175, 200]
    first = seen.variants[0][:, 0] == 0
    assert first[:, 3, :4].all()
    assert torch.equal(first[0], first[1])  # ties come in one order, whatever the sample
    others = first[0].flatten().nonzero().flatten()
    assert others.max() > 150  # not in the order of memory, from the top left down
    assert all((one[0, 0] == 0)[other[0, 0] == 0].all() for one, other in zip(seen.variants[1:], seen.variants[:-1]))  # noqa: B905
    again = Seen(seen.function)
    deletion.function(maps, torch.ones(2, 3, 20, 10), torch.zeros(2), again, steps=8, seed=1)
    assert not torch.equal(again.variants[0], seen.variants[0])


def test_what_is_removed_may_be_imputed_from_the_rest():
    inputs, maps = drawn(2, 3, 5, 4), drawn(2, 5, 4, seed=3)
    seen = Seen(lambda pictures: pictures.flatten(1).sum(1))
    deletion.function(maps, inputs, torch.zeros(2), seen, steps=4, baseline="inpaint")
    for n in range(2):
        places = by_evidence(maps[n].numpy())
        for variant, count in zip(seen.variants, (5, 10, 15, 20), strict=True):
            removed = np.zeros((5, 4), dtype=bool)
            removed[tuple(zip(*places[:count], strict=True))] = True
            everything = BEHIND["mean"](inputs[n].numpy())
            expected = everything if removed.all() else imputed(inputs[n].numpy(), removed)
            np.testing.assert_allclose(variant[n], expected, rtol=0, atol=0.05)  # five deviations of the noise
            assert np.array_equal(variant[n].numpy()[:, ~removed], inputs[n].numpy()[:, ~removed])


def test_it_takes_its_steps_and_no_more():
    maps, inputs = drawn(2, 5, 4, seed=3), drawn(2, 3, 5, 4)
    rows = {}
    for steps in (5, 15):
        net = Small()
        deletion(maps, net, inputs, 0, steps=steps)
        rows[steps] = net.rows
    assert rows[15] - rows[5] == 10 * 2
    assert rows[5] - 5 * 2 <= 2 + 2 + 2 * 2  # the record, a pair on trial, and two variants seen by themselves


def test_the_score_is_the_probability_or_the_targets_own_where_it_has_none():
    inputs, maps = torch.ones(1, 1, 2, 2, dtype=torch.float64), torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    own = deletion(maps, LINEAR, inputs, lambda output: output[:, 0], steps=2, curves=True)
    assert own.curve.tolist() == [[10.0, 3.0, 0.0]]


def test_an_unknown_baseline_is_refused():
    with pytest.raises(OptionError, match="takes 'zero' or 'black' or 'blur' or 'mean' or 'inpaint'"):
        deletion(torch.ones(1, 2, 2), LINEAR, torch.ones(1, 1, 2, 2), 0, baseline="white")
