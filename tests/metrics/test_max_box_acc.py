"""MaxBoxAcc against parts that are filled pixel by pixel, and boxes compared one by one."""

import sys

import pytest
import torch
from metrics_by_hand import drawn
from torch import Tensor

import whycam

max_box_acc = whycam.metrics.max_box_acc


def parts_above(map_: Tensor, threshold: int) -> list[set[tuple[int, int]]]:
    """The connected parts of what is above a threshold of the map in 8 bits, in reading order."""
    low, high = map_.min(), map_.max()
    levels = ((map_ - low) / (high - low) * 255).floor() if high > low else torch.zeros_like(map_)
    left = {tuple(at) for at in (levels > threshold).nonzero().tolist()}
    found = []
    while left:
        part, edge = set(), [min(left)]
        left.discard(edge[0])
        while edge:
            row, column = edge.pop()
            part.add((row, column))
            around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= around
            edge += around
        found.append(part)
    return found


def box(part: set[tuple[int, int]]) -> tuple[float, ...]:
    rows, columns = zip(*part, strict=True)
    return min(columns), min(rows), max(columns) + 1, max(rows) + 1


def iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    wide = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    high = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    both = sum((each[2] - each[0]) * (each[3] - each[1]) for each in (one, other))
    return wide * high / (both - wide * high)


def hits(map_: Tensor, truth: list[list[float]], version: int) -> list[list[bool]]:
    """For each IoU that is asked for, at each threshold."""
    best = []
    for threshold in range(255):
        parts = parts_above(map_, threshold)
        boxes = [box(each) for each in (parts if version == 2 else [max(parts, key=len)] if parts else [])]
        best.append(max((iou(each, tuple(one)) for each in boxes for one in truth), default=0.0))
    return [[each >= wanted for each in best] for wanted in ([0.5] if version == 1 else [0.3, 0.5, 0.7])]


@pytest.fixture(scope="module")
def scene() -> tuple[Tensor, list[Tensor]]:
    maps = torch.nn.functional.interpolate(drawn(6, 1, 3, 4), (12, 15), mode="bilinear")[:, 0]
    boxes = [torch.tensor([[2.0, 3, 9, 10]])] * 3 + [torch.tensor([[0.5, 0, 5, 6], [8, 2, 14, 11]])] * 3
    return maps, boxes


@pytest.mark.parametrize("version", [1, 2])
def test_is_the_best_threshold_of_each_sample_and_of_the_set(scene, version):
    maps, boxes = scene
    measured = max_box_acc(maps, boxes=boxes, version=version, curves=True)
    every = [hits(map_, each.tolist(), version) for map_, each in zip(maps, boxes, strict=True)]
    own = [sum(any(row) for row in one) / len(one) for one in every]
    assert measured.values.tolist() == pytest.approx(own)
    account = max_box_acc.accumulator()
    account.update(list("abcdef"), measured)
    shares = [[sum(at) / 6 for at in zip(*rows, strict=True)] for rows in zip(*every, strict=True)]
    assert account.compute() == pytest.approx(sum(map(max, shares)) / len(shares))
    assert 0 < account.compute() < 1


def test_the_set_has_one_threshold():
    """Each map finds its target at a threshold at which the other does not."""
    maps, truth = torch.zeros(2, 10, 10), [torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[4.0, 4, 6, 6]])]
    maps[0, :, :], maps[0, 4:6, 4:6], maps[0, 0, 0] = 0.4, 1.0, 0.0
    maps[1, :, :], maps[1, 4:6, 4:6], maps[1, 0, 0] = 0.4, 1.0, 0.0
    account = max_box_acc.accumulator()
    measured = max_box_acc(maps, boxes=truth, curves=True)
    account.update(["a", "b"], measured)
    assert measured.values.tolist() == [1, 1]
    assert account.compute() == 0.5


def test_version_1_boxes_the_largest_part_and_version_2_any():
    maps = torch.zeros(1, 12, 12)
    maps[0, 1:3, 1:3], maps[0, 6:11, 5:11] = 1.0, 0.9
    small, large = torch.tensor([[1.0, 1, 3, 3]]), torch.tensor([[5.0, 6, 11, 11]])
    assert max_box_acc(maps, boxes=[large]).item() == 1
    # above 0.9 of the maximum the small part is the largest
    assert max_box_acc(maps.clamp(max=0.9), boxes=[small]).item() == 0
    assert max_box_acc(maps.clamp(max=0.9), boxes=[small], version=2).item() == 1


def test_corners_connect():
    maps = torch.eye(6)[None]
    assert max_box_acc(maps, boxes=[torch.tensor([[0.0, 0, 6, 6]])]).item() == 1


def test_columns_are_a_boxs_left_and_right():
    maps = torch.zeros(1, 10, 10)
    maps[0, 1:3, 4:9] = 1.0
    assert max_box_acc(maps, boxes=[torch.tensor([[4.0, 1, 9, 3]])]).item() == 1
    assert max_box_acc(maps, boxes=[torch.tensor([[1.0, 4, 3, 9]])]).item() == 0


def test_a_box_beyond_both_sides_is_no_hit():
    maps = torch.zeros(1, 10, 10)
    maps[0, :2, :2] = 1.0
    assert max_box_acc(maps, boxes=[torch.tensor([[8.0, 8, 10, 10]])]).item() == 0


def test_version_2_asks_for_several_overlaps():
    maps = torch.zeros(1, 10, 10)
    maps[0, :4, :10] = 1.0
    assert max_box_acc(maps, boxes=[torch.tensor([[0.0, 0, 10, 10]])], version=2).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_flat_map_has_no_bright_part(value):
    assert max_box_acc(torch.full((1, 8, 8), value), boxes=[torch.tensor([[0.0, 0, 8, 8]])]).item() == 0


def test_a_sample_without_boxes_is_not_counted(scene):
    maps, boxes = scene
    found = max_box_acc(maps[:2], boxes=[torch.zeros(0, 4), boxes[1]])
    assert found.isnan().tolist() == [True, False]


def test_without_scipy_the_extra_is_named(scene, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(whycam.MissingExtraError, match=r"whycam\[evaluate\]"):
        max_box_acc(scene[0], boxes=scene[1])
