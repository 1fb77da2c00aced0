"""Mask IoU against sets of pixels."""

import pytest
import torch
from metrics_by_hand import drawn
from torch import Tensor

import whycam

mask_iou = whycam.metrics.mask_iou


def overlap(map_: Tensor, mask: Tensor, threshold: float) -> float:
    values = map_.flatten().tolist()
    bright = {i for i, value in enumerate(values) if value > threshold * max(values)}
    target = {i for i, here in enumerate(mask.flatten().tolist()) if here}
    return len(bright & target) / len(bright | target)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("space", [(9,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])
def test_is_intersection_over_union_of_pixels(space, threshold):
    maps, masks = drawn(8, *space), drawn(8, *space, seed=1) > 0
    expected = [overlap(*each, threshold) for each in zip(maps, masks, strict=True)]
    assert mask_iou(maps, masks=masks, threshold=threshold).tolist() == expected


def test_four_pixels_by_hand():
    maps = torch.tensor([[[10.0, 3.0], [2.0, -1.0]]])
    masks = torch.tensor([[[True, False], [True, False]]])
    assert mask_iou(maps, masks=masks).item() == 1 / 3  # more than a fifth of 10: two pixels
    assert mask_iou(maps, masks=masks, threshold=0.1).item() == 2 / 3
    assert mask_iou(1000 * maps, masks=masks).item() == 1 / 3


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_map_that_is_nowhere_positive_covers_nothing(value):
    assert mask_iou(torch.full((1, 3, 3), value), masks=torch.ones(1, 3, 3, dtype=torch.bool)).item() == 0


def test_a_negative_map_has_no_bright_part_though_some_of_it_is_above_a_share_of_its_maximum():
    assert mask_iou(torch.tensor([[[-1.0, -5.0]]]), masks=torch.tensor([[[True, False]]]), threshold=0.5).item() == 0


def test_an_empty_mask_has_no_union_worth_naming():
    assert mask_iou(drawn(1, 3, 3), masks=torch.zeros(1, 3, 3, dtype=torch.bool)).isnan().all()
