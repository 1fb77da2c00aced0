"""Bootstrap intervals against every draw there is, against Student's, and against themselves in pairs."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

from whycam.kit.metric import Accumulator, Measurement, Metric
from whycam.kit.statistics import FEWEST, Bootstrap, Interval, band


def of_values(maps):
    return maps.flatten(1).sum(1)


def best_point(values, curves):
    """The best threshold of all samples, as MaxBoxAcc has it: no mean of the values."""
    return float(curves.mean(0).amax())


MEAN = Metric("sum", "Sum", "here", of_values, frozenset({"maps"}), {})
BEST = replace(MEAN, over=best_point)


def account(values, curves=None, *, names=None, metric=MEAN):
    made = Accumulator(metric)
    values = torch.as_tensor(values, dtype=torch.float64)
    made.update(names or [f"{i:03d}" for i in range(len(values))], Measurement(values, curves))
    return made


def interval(*given, **how):
    return Bootstrap({"": account(*given, **how)}).interval("")


def expanded(count):
    """How far out the percentiles lie, by scipy's Student."""
    return stats.norm.cdf(stats.t.ppf(0.025, count - 1) * math.sqrt(count / (count - 1)))


def every_draw(count, measure):
    """The statistic of each of the `count ** count` draws, in ascending order."""
    return sorted(measure(list(draw)) for draw in itertools.product(range(count), repeat=count))


def share_below(draws, value):
    return sum(each < value - 1e-12 for each in draws) / len(draws)


def share_up_to(draws, value):
    return sum(each <= value + 1e-12 for each in draws) / len(draws)


def holds(draws, end, share, slack=0.012):
    """Whether an end is the quantile of that share, but for the chance of 2000 draws."""
    return share_below(draws, end) - slack <= share <= share_up_to(draws, end) + slack


def test_against_every_draw_of_a_mean():
    values = [0.1, 0.5, 0.2, 0.9, -0.3, 0.4]
    draws = every_draw(6, lambda draw: sum(values[i] for i in draw) / 6)
    found = interval(values)
    assert found.value == pytest.approx(sum(values) / 6)
    assert holds(draws, found.low, expanded(6), 0.003)
    assert holds(draws, found.high, 1 - expanded(6), 0.003)


def test_against_every_draw_of_what_is_no_mean():
    generator = torch.Generator().manual_seed(3)
    curves = torch.rand(5, 4, generator=generator, dtype=torch.float64)

    def measure(draw):
        return max(sum(float(curves[i, point]) for i in draw) / 5 for point in range(4))

    draws = every_draw(5, measure)
    found = interval(torch.zeros(5), curves, metric=BEST)
    assert found.value == pytest.approx(measure(range(5)))
    assert holds(draws, found.low, expanded(5), 0.004)
    assert holds(draws, found.high, 1 - expanded(5), 0.004)


def test_of_normal_values_it_is_students():
    for count in (10, 40, 400):
        values = torch.randn(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
        low, high = stats.t.interval(0.95, count - 1, float(values.mean()), float(values.std()) / count**0.5)
        found = interval(values)
        assert found.low == pytest.approx(low, abs=0.12 * (high - low))
        assert found.high == pytest.approx(high, abs=0.12 * (high - low))


@pytest.mark.parametrize("count", [6, 10])
def test_it_holds_the_truth_in_95_of_100_cases(count):
    cases = torch.randn(500, count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = Bootstrap({number: account(values) for number, values in enumerate(cases)})
    held = [each.low <= 0 <= each.high for each in map(found.interval, range(500))]
    assert 0.92 <= sum(held) / 500 <= 0.975


def test_differences_are_of_the_same_samples():
    spread = 100 * torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = Bootstrap({"one": account(spread + 0.25), "other": account(spread)})
    assert found.interval("one").high - found.interval("one").low > 50
    pair = found.difference("one", "other")
    for each in (pair.value, pair.low, pair.high):
        assert each == pytest.approx(0.25, abs=1e-10)
    assert pair.is_positive
    assert not pair.is_negative
    assert found.difference("other", "one").is_negative


def test_differences_are_the_mean_difference_of_each_draw():
    one, other = torch.rand(2, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64).tolist()
    draws = every_draw(5, lambda draw: sum(one[i] - other[i] for i in draw) / 5)
    found = Bootstrap({"one": account(one), "other": account(other)}).difference("one", "other")
    assert found.value == pytest.approx(sum(one) / 5 - sum(other) / 5)
    assert holds(draws, found.low, expanded(5), 0.004)
    assert holds(draws, found.high, 1 - expanded(5), 0.004)


def test_differences_of_what_is_no_mean_are_of_the_same_samples():
    curves = torch.rand(9, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zeros = torch.zeros(9)
    accounts = {"one": account(zeros, curves + 0.5, metric=BEST), "other": account(zeros, curves, metric=BEST)}
    pair = Bootstrap(accounts).difference("one", "other")
    assert (pair.low, pair.high) == (pytest.approx(0.5, abs=1e-12), pytest.approx(0.5, abs=1e-12))


def test_what_has_no_value_at_one_place_is_left_out_at_both():
    nan = math.nan
    one = account([1.0, nan, 3.0, 4.0, 100.0, 6.0, 7.0, 8.0, 9.0, 1.0])
    other = account([0.0, 1.0, 1.0, 2.0, nan, 4.0, 5.0, 6.0, 7.0], names=[f"{i:03d}" for i in range(9)])
    found = Bootstrap({"one": one, "other": other}).difference("one", "other")
    assert (found.count, found.undefined) == (7, 3)  # one NaN each, and a sample that the other does not know
    assert found.value == pytest.approx((1 + 2 + 2 + 2 + 2 + 2 + 2) / 7)
    alone = Bootstrap({"": one}).interval("")
    assert (alone.count, alone.undefined) == (9, 1)
    assert alone.value == pytest.approx((1 + 3 + 4 + 100 + 6 + 7 + 8 + 9 + 1) / 9)


def test_the_order_of_samples_does_not_matter():
    values = [0.3, 0.1, 0.7, 0.2, 0.25, 0.6, 0.9]
    names = list("abcdefg")
    assert interval(values, names=names) == interval(values[::-1], names=names[::-1])


def test_one_sample_says_nothing_and_few_prove_nothing():
    alone = interval([0.4])
    assert alone.value == 0.4
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    assert not alone.is_positive
    nothing = interval([math.nan, math.nan])
    assert math.isnan(nothing.value)
    assert (nothing.count, nothing.undefined) == (0, 2)
    assert math.isnan(nothing.low)
    few, enough = interval([1.0] * (FEWEST - 1)), interval([1.0] * FEWEST)
    assert (few.low, few.is_positive, enough.is_positive) == (1.0, False, True)
    # a sign in all of them, by chance on either side
    assert 2 * 0.5 ** (FEWEST - 1) > 0.05 > 2 * 0.5**FEWEST


def test_an_interval_that_holds_zero_is_neither():
    found = Interval(0.1, 0.0, 0.2, 50, 0)
    assert not found.is_positive
    assert not found.is_negative


def test_says_the_same_every_time_and_another_seed_another():
    values = torch.rand(20, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    first = interval(values)
    torch.manual_seed(2)
    assert first == interval(values)
    assert first != Bootstrap({"": account(values)}, seed=1).interval("")


def test_more_samples_than_are_drawn_at_once(monkeypatch):
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))
    whole = interval(values)
    monkeypatch.setattr("whycam.kit.statistics._AT_ONCE", 120)
    assert interval(values) == whole


def test_a_band_is_the_interval_at_each_point():
    curves = torch.rand(15, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    low, high = band(curves)
    for point in range(4):
        found = interval(curves[:, point])
        assert (found.low, found.high) == (pytest.approx(float(low[point])), pytest.approx(float(high[point])))
