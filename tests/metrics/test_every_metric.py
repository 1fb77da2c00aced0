"""Rules that hold for every metric: whatever the batches and the order, and nothing of the caller's is changed."""

import math

import nets
import pytest
import torch
from few import few
from metrics_by_hand import by_gradient
from torch import Tensor, nn

import whycam
from whycam.kit.metric import EXPLAINING, SCORING, Measurement, Metric

#: 64 pictures, maps of which half the pixels are 0, as class activation maps are, and where the target is.
PICTURES = nets.images(64, seed=5)
MAPS = nets.images(64, seed=6)[:, 0].clamp(min=0)
MASKS = nets.images(64, seed=7)[:, 0] > 0.5

every_metric = pytest.mark.parametrize("metric", whycam.list_metrics(), ids=lambda each: each.name)


def measured(metric: Metric, rows: slice, maps: Tensor = MAPS, model: nn.Module | None = None) -> Measurement:
    made = metric(
        maps[rows],
        model or nets.plain(),
        PICTURES[rows],
        masks=MASKS[rows],
        explain=by_gradient,
        curves=True,
        **dict.fromkeys(few(metric), 12),  # so many that random sets of pixels say something
    )
    assert isinstance(made, Measurement)
    return made


def names(rows: slice) -> list[str]:
    return [f"{number:02d}" for number in range(64)[rows]]


@every_metric
def test_batches_and_merged_shards_say_the_same(metric):
    whole, model = metric.accumulator(), nets.plain()
    full = measured(metric, slice(0, 64), model=model)
    whole.update(names(slice(0, 64)), full)
    assert whole.count, "nothing was measured"
    runs_the_model = bool(metric.takes & (SCORING | EXPLAINING))
    near = {"rtol": 1e-9, "atol": 1e-11} if runs_the_model else {"rtol": 0, "atol": 0}
    for size in (1, 7):
        shards = [metric.accumulator(), metric.accumulator()]
        batches = [slice(start, min(start + size, 64)) for start in range(0, 64, size)]
        for number, rows in enumerate(reversed(batches)):
            part = measured(metric, rows, model=model)
            torch.testing.assert_close(part.values, full.values[rows], equal_nan=True, **near)
            if full.curve is not None:
                torch.testing.assert_close(part.curve, full.curve[rows], equal_nan=True, **near)
            shards[number % 2].update(names(rows), part)
        shards[1].merge(shards[0])
        assert shards[1].count == whole.count
        assert shards[1].compute() == pytest.approx(whole.compute(), rel=1e-9 * runs_the_model, abs=1e-300)


@every_metric
def test_a_map_of_nan_has_no_value_and_leaves_the_others_alone(metric):
    spoiled = MAPS.clone()
    spoiled[2, 4, 4] = math.nan
    found = measured(metric, slice(0, 5), spoiled)
    expected = measured(metric, slice(0, 5)).values
    expected[2] = math.nan
    torch.testing.assert_close(found.values, expected, equal_nan=True, rtol=1e-9, atol=1e-11)
    account = metric.accumulator()
    account.update(list("abcde"), found)
    assert account.count == 4
    assert math.isfinite(account.compute())


@every_metric
def test_changes_nothing_of_the_callers(metric):
    model, maps, pictures = nets.plain(), MAPS[:3].clone(), PICTURES[:3].clone()
    masks, before = MASKS[:3].clone(), nets.state(model)
    metric(maps, model, pictures, masks=masks, explain=by_gradient)
    assert nets.differences(before, nets.state(model)) == []
    assert torch.equal(maps, MAPS[:3])
    assert torch.equal(pictures, PICTURES[:3])
    assert torch.equal(masks, MASKS[:3])


@every_metric
def test_values_lie_in_the_range_that_is_declared(metric):
    values = measured(metric, slice(0, 64)).values
    values = values[values.isfinite()]
    assert ((values >= metric.low) & (values <= metric.high)).all()


@every_metric
def test_says_the_same_every_time(metric):
    torch.manual_seed(1)
    first = measured(metric, slice(0, 4)).values
    torch.manual_seed(2)
    assert torch.equal(first, measured(metric, slice(0, 4)).values)
