"""FEM against its k-sigma rule, channel by channel, with Python's own population deviation."""

import statistics

import numpy as np
import pytest
import torch

from whycam.methods.fem import fem

every_rank = pytest.mark.parametrize("space", [(9,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])


def by_loops(activations, k=2.0):
    batch, channels, *space = activations.shape
    places = list(np.ndindex(*space))
    maps = np.zeros((batch, *space))
    for n in range(batch):
        for channel in range(channels):
            values = [activations[(n, channel, *at)].item() for at in places]
            mean, deviation = statistics.fmean(values), statistics.pstdev(values)
            for at, value in zip(places, values, strict=True):
                if value > mean + k * deviation:
                    maps[(n, *at)] += mean
    return torch.from_numpy(maps)


def test_worked_example():
    # means 1 and 2. The first deviates by sqrt(7), so 8 stands out; the second by 2, and nothing exceeds 6
    activations = torch.tensor([[[8.0, 0, 0, 0, 0, 0, 0, 0], [4.0, 0, 4, 0, 4, 0, 4, 0]]])
    torch.testing.assert_close(fem(activations), torch.tensor([[1.0, 0, 0, 0, 0, 0, 0, 0]]))


@every_rank
@pytest.mark.parametrize("k", [0.5, 1.0, 2.0])
def test_is_the_k_sigma_rule(space, k, generator):
    activations = torch.randn(2, 6, *space, generator=generator, dtype=torch.float64).relu() ** 3
    expected = by_loops(activations, k)
    torch.testing.assert_close(fem(activations, k=k), expected)
    assert expected.any()


def test_the_default_is_two_deviations(generator):
    activations = torch.randn(2, 6, 5, 7, generator=generator, dtype=torch.float64).relu()
    torch.testing.assert_close(fem(activations), by_loops(activations, 2.0))


def test_trap_r10_the_binary_map_is_weighed_by_the_mean_not_the_activation_by_the_marked_fraction():
    activations = torch.tensor([[[0.0] * 8 + [90.0]]])
    # the swapped form would give 90 x 1/9 and follow the height of the peak from place to place
    torch.testing.assert_close(fem(activations), torch.tensor([[0.0] * 8 + [10.0]]))
    two_heights = torch.tensor([[[0.0] * 18 + [90.0, 100.0]]])
    assert fem(two_heights)[0, -1] == fem(two_heights)[0, -2] == 9.5


def test_the_deviation_is_that_of_the_population():
    # 6 values: the peak lies sqrt(5) = 2.236 population deviations above the mean, sample deviations only 2.04
    activations = torch.tensor([[[0.0, 0, 0, 0, 0, 6]]])
    assert fem(activations, k=2.1)[0, -1] == 1


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1e-3, 7.7])
@pytest.mark.parametrize("k", [0.0, 2.0])
def test_a_constant_channel_marks_nothing(value, k):
    # in float64, whose mean over 49 equal values may round below them
    assert not fem(torch.full((2, 3, 7, 7), value, dtype=torch.float64), k=k).any()


def test_a_value_at_the_threshold_does_not_count():
    # mean 1, deviation 2, threshold exactly 5
    activations = torch.tensor([[[0.0, 0, 0, 0, 5]]])
    assert not fem(activations).any()
    assert fem(activations, k=1.99)[0, -1] == 1


def test_a_layer_of_two_by_two_gives_no_map(generator):
    assert not fem(torch.rand(4, 20, 2, 2, generator=generator)).any()


def test_lies_between_zero_and_the_sum_of_the_means(generator):
    activations = torch.rand(2, 20, 5, 7, generator=generator)
    maps = fem(activations, k=1.0)
    assert maps.min() >= 0
    assert (maps <= activations.mean((2, 3)).sum(1)[:, None, None]).all()


def test_negative_means_are_added_as_they_are():
    activations = torch.tensor([[[-2.0] * 9 + [-1.0]]])
    torch.testing.assert_close(fem(activations), torch.tensor([[0.0] * 9 + [-1.9]]))
