"""Masks, boxes and shares of maps, by hand, on the input and on the photo."""

import math

import numpy as np
import pytest
import torch

import whycam
from whycam.errors import OptionError

#: Two bright parts, the larger one on the left, and a cell below the level.
MAP = torch.tensor([[4.0, 4.0, 0.0, 2.0], [4.0, 0.0, 0.0, 2.0], [0.5, 0.0, -9.0, 0.0], [0.0, 0.0, 0.0, 0.0]])


class Fixed(torch.nn.Module):
    """Its layer gives a map of the input's own size."""

    def __init__(self, values):
        super().__init__()
        self.values = values
        self.layer = torch.nn.Identity()

    def forward(self, inputs):
        return self.layer(inputs[:, :1] * 0 + self.values).flatten(1).sum(1, keepdim=True)


def fixed(activations):
    return activations[:, 0]


def explained(*maps, preprocess=None, photos=None):
    model = Fixed(torch.stack(maps)[:, None])
    inputs = photos if photos is not None else torch.rand(len(maps), 3, 4, 4)
    more = {} if preprocess is None else {"preprocess": preprocess}
    return whycam.explain(model, inputs, fixed, layer="layer", **more)


def test_a_mask_is_where_the_map_is_above_a_share_of_its_maximum():
    one, empty = explained(MAP, -MAP.abs()).mask(0.5)
    assert torch.equal(one, MAP > 2.0)
    assert not empty.any()
    assert torch.equal(explained(MAP).mask(0.2)[0], MAP > 0.8)
    with pytest.raises(OptionError, match="level is a share of the map's maximum, from 0 to less than 1, not 1"):
        explained(MAP).mask(1)
    with pytest.raises(OptionError, match="on must be 'photo' or 'input', not 'image'"):
        explained(MAP).mask(on="image")


def test_boxes_are_around_parts_that_hang_together_the_largest_first():
    found, none = explained(MAP, -MAP.abs()).boxes_around(0.4)
    assert found.tolist() == [[0, 0, 2, 2], [3, 0, 4, 2]]
    assert none.shape == (0, 4)
    corner = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    assert explained(corner).boxes_around()[0].tolist() == [[0, 0, 2, 2], [3, 3, 4, 4]]  # corners hang together


def test_the_share_of_the_positive_part_in_a_box_or_a_mask():
    total = 4 * 3 + 2 * 2 + 0.5
    made = explained(MAP, MAP.T.contiguous(), -MAP.abs())
    assert made.share((0, 0, 2, 2)).tolist()[:2] == pytest.approx([12 / total] * 2)
    assert math.isnan(made.share((0, 0, 2, 2))[2])
    assert made.share((2, 0, 4, 4)).tolist()[:2] == pytest.approx([4 / total, 0.5 / total])
    mask = np.zeros((4, 4), bool)
    mask[:, 3] = True
    assert made.share(mask).tolist()[:2] == pytest.approx([4 / total, 0])
    each = [(0, 0, 2, 2), torch.from_numpy(mask), torch.ones(4, 4)]
    assert made.share(each).tolist()[:2] == pytest.approx([12 / total, 0])
    # the pixels count whose centers are in
    assert float(explained(MAP).share((0.6, 0, 4, 1))) == pytest.approx(6 / total)
    assert float(explained(MAP).share(torch.tensor([0.4, 0, 4, 1]))) == pytest.approx(10 / total)


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ((3, 0, 1, 4), r"\[3, 0, 1, 4\] ends before it begins"),
        (torch.ones(5, 4), r"a mask of shape \(4, 4\), and what came has shape \(5, 4\)"),
        ([(0, 0, 1, 1)] * 3, "one for all 1 samples, or one for each, and 3 came"),
    ],
)
def test_a_region_that_is_none_is_told(region, said):
    with pytest.raises(OptionError, match=said):
        explained(MAP).share(region)


def test_on_a_photo_the_places_are_the_photos():
    photo = np.zeros((16, 24, 3), np.uint8)  # the network sees the middle, each of its pixels four of the photo's
    prepare = whycam.Preprocess((4, 4), "shorter", interpolation="nearest")
    one = explained(torch.tensor([[8.0, 0, 0, 0]] + [[0.0] * 4] * 3), preprocess=prepare, photos=[photo])
    mask = one.mask(0.5)[0]
    assert mask.shape == (16, 24)
    assert one.boxes_around(0.5)[0].tolist() == [[4, 0, 8, 4]]
    assert one.boxes_around(0.5, on="input")[0].tolist() == [[0, 0, 1, 1]]
    assert float(one.share((4, 0, 20, 16))) == 1
    assert float(one.share((0, 0, 4, 16))) == 0
    assert float(one.share((0, 0, 1, 1), on="input")) == 1
