"""Where the targets are, in whatever form it comes, and what is refused."""

import nets
import numpy as np
import pytest
import torch
from PIL import Image

import whycam

HELD = np.eye(8) > 0
MAPS = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
PICTURES = nets.images(2)
#: Of the model, its inputs and the target, which this metric does not need.
ASKED = [(), (nets.plain(), PICTURES, None)]


@pytest.mark.parametrize("asked", ASKED, ids=["maps alone", "of a model"])
@pytest.mark.parametrize(
    "one",
    [
        torch.from_numpy(HELD),
        HELD,
        HELD.tolist(),
        Image.fromarray(np.uint8(HELD * 255)),
        Image.fromarray(np.uint8(HELD * 255)).convert("1"),
        np.ascontiguousarray(HELD[::-1])[::-1],
    ],
    ids=["tensor", "array", "nested", "picture", "bits", "turned array"],
)
def test_masks_come_in_any_form(one, asked):
    bright = (0.2 * MAPS.amax((1, 2), keepdim=True) < MAPS).numpy()
    expected = [(each & HELD).sum() / (each | HELD).sum() for each in bright]
    assert whycam.metrics.mask_iou(MAPS, *asked, masks=[one, one]).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("asked", ASKED, ids=["maps alone", "of a model"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"masks": [HELD, HELD[:4]]}, r"masks holds 2 of shape \(4, 8\), \(8, 8\); .*each of 2 samples.*\(8, 8\)"),
        ({"masks": [HELD]}, "masks holds 1 of shape"),
        ({"masks": torch.ones(2, 1, 8, 8)}, r"masks holds 2 of shape \(1, 8, 8\)"),
        ({"masks": ["cat.png", "dog.png"]}, "masks holds something else than numbers"),
        ({"boxes": [[1, 2, 3], [1, 2, 3]]}, "boxes has for each of 2 samples"),
        ({"boxes": [["a", "b", "c", "d"]] * 2}, "boxes holds something else than numbers"),
        ({"boxes": [[[1, 2, 3, 4], [1]]] * 2}, "boxes holds something else than numbers, or rows of different lengths"),
        ({"boxes": [[1, 1, 3, 3], [4, 1, 2, 3]]}, r"boxes are left, top, .* \[4.0, 1.0, 2.0, 3.0\] ends before it"),
        ({"boxes": [[1, 1, 3, 3], [1, 4, 2, 3]]}, "ends before it begins"),
        ({"boxes": [[1, 1, 3, 3], [1, 4, float("nan"), 3]]}, "ends before it begins"),
    ],
)
def test_what_says_no_place_is_refused(given, said, asked):
    with pytest.raises(whycam.WhycamError, match=said):
        whycam.metrics.mask_iou(MAPS, *asked, **given)


def test_a_box_that_a_network_turned_round_is_none():
    from whycam.evaluation.controls import boxed

    assert boxed([(1, 1, 3, 3), (3, 1, 1, 3), (1, 3, 3, 1)], (4, 4)).sum((1, 2)).tolist() == [4, 0, 0]
