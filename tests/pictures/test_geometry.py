"""The affine map against numbers worked by hand, and against ramps whose value is their own coordinate."""

import math

import numpy as np
import pytest
import torch

from whycam.errors import WhycamError
from whycam.pictures.geometry import Geometry
from whycam.pictures.input_context import InputContext
from whycam.pictures.photos import read_photo
from whycam.pictures.preprocess import Preprocess

# A photo of 6 x 12 whose columns 2 to 10 were shown at half size on an input of 3 x 4: edges x = 2 + 2 u, y = 2 v.
CROP = Geometry(photo_size=(6, 12), input_size=(3, 4), scale=(2.0, 2.0), offset=(0.0, 2.0), content=(0, 0, 3, 4))


def test_seen_rectangle():
    assert CROP.seen == (0, 2, 6, 10)


def test_worked_example():
    values = torch.tensor([[0.0, 4.0, 8.0, 12.0]]).repeat(3, 1)
    laid, seen = CROP.to_photo(values)
    # photo center 2.5 is input edge coordinate 0.25, before the first center: its value goes on; 3.5 is 0.75, a quarter
    # of the way from center 0.5 to center 1.5, and so by half an input pixel, 2, for each photo pixel
    row = torch.tensor([0.0, 0, 0, 1, 3, 5, 7, 9, 11, 12, 0, 0])
    torch.testing.assert_close(laid, row.repeat(6, 1))
    assert seen.tolist() == [[False] * 2 + [True] * 8 + [False] * 2] * 6


def test_each_axis_has_its_own_scale():
    # 640 x 480 (width x height) after 256 and 224 by the usual way: the resized photo is 256 x 341, its crop begins at
    # row 16 and column 58
    geometry = Geometry((480, 640), (224, 224), (480 / 256, 640 / 341), (30.0, 58 * 640 / 341), (0, 0, 224, 224))
    assert geometry.seen == pytest.approx((30, 108.856, 450, 529.267), abs=1e-3)
    centers = torch.arange(224, dtype=torch.float64) + 0.5
    down, seen = geometry.to_photo(centers[:, None].repeat(1, 224))
    across, _ = geometry.to_photo(centers[None].repeat(224, 1))
    for y, x in [(31, 110), (240, 320), (448, 527), (100, 500)]:
        assert seen[y, x]
        assert down[y, x] == pytest.approx((y + 0.5 - 30) * 256 / 480, abs=1e-9)
        assert across[y, x] == pytest.approx((x + 0.5) * 341 / 640 - 58, abs=1e-9)
    # first and last pixels whose centers lie inside
    rows, columns = seen.nonzero()[[0, -1]].T.tolist()
    assert (rows, columns) == ([30, 449], [109, 528])


def test_one_bright_pixel_lands_on_its_own_place():
    values = torch.zeros(3, 4)
    values[1, 2] = 1
    laid, _ = CROP.to_photo(values)
    # center (1.5, 2.5) of the input is (3, 7) on the photo's edges; the tent around it is symmetric
    weight = laid.sum()
    ys, xs = torch.arange(6) + 0.5, torch.arange(12) + 0.5
    assert float((laid.sum(1) * ys).sum() / weight) == pytest.approx(3)
    assert float((laid.sum(0) * xs).sum() / weight) == pytest.approx(7)


def test_padding_is_no_part_of_what_was_seen():
    # a photo of 10 x 20 in an input of 8 x 8: content 4 x 8, two rows of padding above and below
    letterbox = Geometry((10, 20), (8, 8), (2.5, 2.5), (-5.0, 0.0), content=(2, 0, 6, 8))
    assert letterbox.seen == (0, 0, 10, 20)
    laid, seen = letterbox.to_photo(torch.arange(8.0)[:, None].repeat(1, 8))
    assert seen.all()
    torch.testing.assert_close(laid[:, 0], (torch.arange(10) + 0.5) / 2.5 + 2 - 0.5)


def test_the_map_is_finite_everywhere_and_zero_where_unseen():
    laid, seen = CROP.to_photo(torch.full((3, 4), 7.0))
    assert laid[seen].eq(7).all()
    assert laid[~seen].eq(0).all()


@pytest.mark.parametrize("photo_size", [(1, 1), (1, 9), (9, 1)])
def test_smallest_photos(photo_size):
    height, width = photo_size
    geometry = Geometry(photo_size, (5, 5), (height / 5, width / 5), (0.0, 0.0), (0, 0, 5, 5))
    laid, seen = geometry.to_photo(torch.full((5, 5), 2.0))
    assert seen.all()
    torch.testing.assert_close(laid, torch.full(photo_size, 2.0))


def test_double_precision_and_missing_values_stay():
    values = torch.ones(3, 4, dtype=torch.float64)
    values[0, 0] = math.nan
    laid, _ = CROP.to_photo(values)
    assert laid.dtype == torch.float64
    assert laid[0, 2].isnan()
    assert laid[5, 9] == 1


def test_a_map_of_another_size_is_refused():
    with pytest.raises(WhycamError, match=r"the map is \(4, 3\) and the input \(3, 4\)"):
        CROP.to_photo(torch.zeros(4, 3))


@pytest.mark.parametrize("size", [(100, 190), (37, 53), (641, 483), (333, 111), (21, 20)])
@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess((64, 64), "letterbox"),
        Preprocess((61, 75), "letterbox"),
        Preprocess.imagenet(56, 64),
        Preprocess((56, 72), "cover"),
    ],
)
def test_a_lit_cell_lies_within_half_a_pixel_of_its_place(size, preprocess):
    """A layer of 7 x 9 cells over the input; the cell's middle by the sizes that were rounded and the corner."""
    image = read_photo(np.zeros((*size, 3), np.uint8))
    inputs, geometry = preprocess(image)
    context = InputContext(inputs[None], geometries=(geometry,))
    height, width = inputs.shape[1:]
    for row, column in [(3, 4), (2, 5), (4, 3)]:
        maps = torch.zeros(1, 7, 9)
        maps[0, row, column] = 1
        laid, _ = geometry.to_photo(context.enlarged(maps, (height, width))[0])
        for axis, (at, cells, side) in enumerate(((row, 7, height), (column, 9, width))):
            if preprocess.resize in ("letterbox", "cover"):
                pick = max if preprocess.resize == "letterbox" else min
                ratio = pick(size[0] / preprocess.size[0], size[1] / preprocess.size[1])
            else:
                ratio = min(size) / 64
            inner = [
                max(1, int(each / ratio) if preprocess.resize == "shorter" else round(each / ratio)) for each in size
            ]
            corner = int((side - inner[axis]) / 2) if side > inner[axis] else -round((inner[axis] - side) / 2)
            expected = ((at + 0.5) * side / cells - corner) * size[axis] / inner[axis]
            reach = side / cells * size[axis] / inner[axis]
            if not reach < expected < size[axis] - reach:
                continue  # the cell's slope is cut off by the border of the photo
            places = torch.arange(size[axis]) + 0.5
            found = float((laid.sum(1 - axis) * places).sum() / laid.sum())
            assert found == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("size", [(100, 190), (190, 100), (37, 53), (64, 64)])
def test_what_a_letterbox_pads_is_counted(size):
    inputs, geometry = Preprocess((64, 64), "letterbox")(read_photo(np.zeros((*size, 3), np.uint8)))
    context = InputContext(inputs[None], geometries=(geometry,))
    maps = torch.rand(1, 7, 7, generator=torch.Generator().manual_seed(0)) - 0.2
    ratio = max(size) / 64
    sides = [round(side / ratio) for side in size]
    starts = [int((64 - side) / 2) for side in sides]
    if sides == [64, 64]:
        assert context.on_padding(maps) is None
        return
    inside = total = 0.0
    for row in range(7):
        for column in range(7):
            value = max(0.0, float(maps[0, row, column]))
            share = 1.0
            for at, start, side in zip((row, column), starts, sides, strict=True):
                low, high = at * 64 / 7, (at + 1) * 64 / 7
                share *= max(0.0, min(high, start + side) - max(low, start)) / (high - low)
            inside, total = inside + value * share, total + value
    assert float(context.on_padding(maps)[0]) == pytest.approx(1 - inside / total, abs=1e-5)
