"""PxAP against precision and recall counted threshold by threshold, and exact average precision of ranked pixels."""

from itertools import chain

import pytest
import torch
from metrics_by_hand import drawn
from torch import Tensor

import whycam

precision_of = whycam.metrics.pixel_average_precision


def scaled(map_: Tensor) -> list[float]:
    low, high = map_.min().item(), map_.max().item()
    return [(value - low) / (high - low) if high > low else 0.0 for value in map_.flatten().tolist()]


def average_precision(values: list[float], target: list[bool], thresholds: int) -> float:
    """Section 4.2: sum over thresholds of precision times the gain in recall, from the highest down."""
    area = recall = 0.0
    for step in range(thresholds, -1, -1):
        above = [here for value, here in zip(values, target, strict=True) if value * thresholds >= step]
        now = sum(above) / sum(target)
        area += sum(above) / len(above) * (now - recall) if above else 0
        recall = now
    return area


@pytest.mark.parametrize("thresholds", [1, 7, 50])
@pytest.mark.parametrize("space", [(30,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])
def test_of_a_sample_and_of_all_pixels_together(space, thresholds):
    maps, masks = drawn(5, *space), drawn(5, *space, seed=1) > 0.5
    values, targets = [scaled(each) for each in maps], [each.flatten().tolist() for each in masks]
    measured = precision_of(maps, masks=masks, thresholds=thresholds, curves=True)
    expected = [average_precision(*each, thresholds) for each in zip(values, targets, strict=True)]
    assert measured.values.tolist() == pytest.approx(expected, rel=1e-12)
    account = precision_of.accumulator()
    account.update(list("abcde"), measured)
    pooled = average_precision([*chain(*values)], [*chain(*targets)], thresholds)
    assert account.compute() == pytest.approx(pooled, rel=1e-12)
    assert thresholds == 1 or account.compute() != pytest.approx(sum(expected) / 5, rel=1e-6)


def test_many_thresholds_are_the_exact_average_precision_of_ranked_pixels():
    map_, mask = drawn(1, 6, 6), drawn(1, 6, 6, seed=1) > 0.3
    ranked = mask.flatten()[map_.flatten().argsort(descending=True)].tolist()
    right = [sum(ranked[: i + 1]) for i in range(36)]
    exact = sum(right[i] / (i + 1) for i in range(36) if ranked[i]) / sum(ranked)
    assert precision_of(map_, masks=mask, thresholds=10**5).item() == pytest.approx(exact)


def test_four_pixels_by_hand():
    maps, masks = torch.tensor([[[4.0, 3.0], [2.0, 0.0]]]), torch.tensor([[[True, False], [True, False]]])
    assert precision_of(maps, masks=masks).item() == pytest.approx((1 + 2 / 3) / 2)


def test_a_flat_map_has_the_targets_share():
    masks = torch.zeros(1, 2, 5, dtype=torch.bool)
    masks[0, 0, :3] = True
    assert precision_of(torch.full((1, 2, 5), 7.0), masks=masks).item() == pytest.approx(0.3)


def test_an_empty_mask_has_no_recall_and_no_part_in_the_sets():
    maps, masks = drawn(2, 5, 5), torch.zeros(2, 5, 5, dtype=torch.bool)
    masks[0, 2, 2] = True
    measured = precision_of(maps, masks=masks, curves=True)
    assert measured.values.isnan().tolist() == [False, True]
    account = precision_of.accumulator()
    account.update(["a", "b"], measured)
    assert account.compute() == measured.values[0]
