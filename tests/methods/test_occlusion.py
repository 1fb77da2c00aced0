"""Occlusion against loops over windows and pixels, and numbers done by hand."""

import itertools
import math

import numpy as np
import pytest
import torch

from whycam.errors import WhycamError
from whycam.methods.occlusion import occlusion

every_case = pytest.mark.parametrize(
    ("space", "window", "stride"),
    [((7,), 3, 2), ((9,), (4,), (4,)), ((5, 6), 2, 1), ((6, 5), (3, 2), (2, 2)), ((3, 4, 5), (2, 3, 2), 2)],
    ids=str,
)


def fake(net):
    return lambda variants, probability=False: torch.stack([net(each) for each in variants])


def by_loops(inputs, net, windows, strides, behind):
    """Windows one after the other from each axis' first pixel until its last is covered; means over windows."""
    space = inputs.shape[2:]
    starts = []
    for length, window, stride in zip(space, windows, strides, strict=True):
        along = [0]
        while along[-1] + window < length:
            along.append(along[-1] + stride)
        starts.append(along)
    drops, counts = np.zeros((len(inputs), *space)), np.zeros(space)
    whole = net(inputs)
    for corner in itertools.product(*starts):
        inside = [
            at for at in np.ndindex(*space) if all(c <= a < c + w for a, c, w in zip(at, corner, windows, strict=True))
        ]
        variant = inputs.clone()
        for at in inside:
            variant[(slice(None), slice(None), *at)] = behind[(slice(None), slice(None), *at)]
        drop = (whole - net(variant)).numpy()
        for at in inside:
            drops[(slice(None), *at)] += drop
            counts[at] += 1
    return drops / counts


def each_axis(extent, space):
    return extent if isinstance(extent, tuple) else (extent,) * len(space)


@every_case
@pytest.mark.parametrize("baseline", ["zero", 0.3])
def test_is_the_mean_drop_over_the_windows_on_each_pixel(space, window, stride, baseline, generator):
    inputs = torch.randn(3, 2, *space, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, *space, generator=generator, dtype=torch.float64)
    net = lambda image: (weights * image).flatten(1).sum(1).tanh() + image.flatten(1).amax(1)  # noqa: E731
    behind = torch.full_like(inputs, 0.0 if baseline == "zero" else baseline)
    found = occlusion(inputs, fake(net), window=window, stride=stride, baseline=baseline)
    expected = by_loops(inputs, net, each_axis(window, space), each_axis(stride, space), behind)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-13)


def test_worked_example():
    # five pixels, windows of two at 0, 2 and 4: the last is cut off
    inputs = torch.tensor([[[1.0, 2.0, 4.0, 8.0, 16.0]]])
    net = lambda image: image.flatten(1).sum(1)  # noqa: E731
    assert occlusion(inputs, fake(net), window=2, stride=2).tolist() == [[3.0, 3.0, 12.0, 12.0, 16.0]]
    # windows at 0, 1, 2, 3: the pixels inside are covered twice
    assert occlusion(inputs, fake(net), window=2, stride=1).tolist() == [[3.0, 4.5, 9.0, 18.0, 24.0]]


def test_what_speaks_against_is_negative():
    inputs = torch.ones(1, 1, 4)
    net = lambda image: image[:, 0, 0] - 2 * image[:, 0, 3]  # noqa: E731
    assert occlusion(inputs, fake(net), window=1).tolist() == [[1.0, 0.0, 0.0, -2.0]]


@pytest.mark.parametrize("space", [(6,), (4, 5), (2, 3, 4)], ids=["1d", "2d", "3d"])
def test_single_pixels_of_a_linear_score_are_its_terms(space, generator):
    inputs, weights, behind = torch.randn(3, 2, 2, *space, generator=generator, dtype=torch.float64)
    net = lambda image: (weights[0] * image).flatten(1).sum(1)  # noqa: E731
    maps = occlusion(inputs, fake(net), window=1, stride=1, baseline=behind)
    torch.testing.assert_close(maps, (weights[0] * (inputs - behind)).sum(1))
    # and they add up to the whole score less the baseline's
    torch.testing.assert_close(maps.flatten(1).sum(1), net(inputs) - net(behind))


def test_the_default_is_a_fifth_of_each_axis_and_half_of_that():
    for side, runs in ((224, 81), (256, 81), (100, 81), (32, 100)):
        numbers = []

        def score(variants, *, probability=False, numbers=numbers):
            numbers.append((len(variants), probability))
            return torch.zeros(len(variants), 1)

        occlusion(torch.zeros(1, 1, side, side), score)
        assert numbers == [(1 + runs, True)], side
    hidden = []
    inputs = torch.ones(1, 1, 10, 20)
    occlusion(inputs, fake(lambda image: hidden.append(image == 0) or image.sum((1, 2, 3))))
    assert [int(each.sum()) for each in hidden[:3]] == [0, 2 * 4, 2 * 4]
    assert hidden[2][0, 0, 0].nonzero().flatten().tolist() == [2, 3, 4, 5]


def test_shares_are_of_each_axis_and_at_least_a_pixel():
    inputs = torch.randn(1, 1, 4, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = fake(lambda image: image.square().sum((1, 2, 3)))
    shares = occlusion(inputs, net, window=0.5, stride=0.2)
    assert torch.equal(shares, occlusion(inputs, net, window=(2, 5), stride=(1, 2)))
    assert torch.equal(occlusion(inputs, net, window=0.01), occlusion(inputs, net, window=1, stride=1))
    assert torch.equal(occlusion(inputs, net, window=(1.0, 3)), occlusion(inputs, net, window=(4, 3), stride=(2, 2)))


def test_a_window_over_everything_gives_the_score_everywhere():
    inputs = torch.full((2, 1, 3, 4), 2.0)
    maps = occlusion(inputs, fake(lambda image: image.sum((1, 2, 3))), window=1.0)
    assert torch.equal(maps, torch.full((2, 3, 4), 24.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_its_samples_and_its_inputs_stay(dtype, generator):
    inputs = torch.randn(3, 2, 5, 6, generator=generator).to(dtype)
    before = inputs.clone()
    score = fake(lambda image: image.square().flatten(1).sum(1))
    together = occlusion(inputs, score)
    assert torch.equal(inputs, before)
    assert together.dtype == dtype
    for n in range(3):
        torch.testing.assert_close(together[n : n + 1], occlusion(inputs[n : n + 1], score))


def test_a_sample_that_is_not_finite_stays_alone(generator):
    inputs = torch.randn(3, 1, 6, generator=generator)
    score = fake(lambda image: image.flatten(1).sum(1))
    expected = occlusion(inputs, score, window=2)
    inputs[1, 0, 2] = torch.nan
    maps = occlusion(inputs, score, window=2)
    assert maps[1].isnan().any()
    assert torch.equal(maps[[0, 2]], expected[[0, 2]])


def test_a_score_that_ignores_the_input_gives_no_map():
    assert not occlusion(torch.ones(2, 3, 8, 8), fake(lambda image: torch.ones(len(image)))).any()


def test_the_probability_is_asked_for_unless_it_is_not():
    asked = []

    def score(variants, *, probability=False):
        asked.append(probability)
        return torch.stack([each.flatten(1).sum(1) for each in variants])

    occlusion(torch.ones(1, 1, 4), score)
    occlusion(torch.ones(1, 1, 4), score, probability=False)
    assert asked == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window is a number of pixels, at most 4 here, or a share above 0 and up to 1, not 0"),
        ({"window": 5}, "window is a number of pixels, at most 4 here, .* not 5"),
        ({"window": 1.5}, "window is .* not 1.5"),
        ({"window": -0.5}, "window is .* not -0.5"),
        ({"window": math.nan}, "window is .* not nan"),
        ({"window": (2, 2, 2)}, "window has 3 numbers for inputs with 2 spatial axes"),
        ({"stride": 0}, "stride is .* not 0"),
        ({"window": 2, "stride": 3}, "a stride of 3 pixels leaves gaps between windows of 2"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(WhycamError, match=message):
        occlusion(torch.ones(1, 1, 4, 6), fake(lambda image: image.flatten(1).sum(1)), **options)
