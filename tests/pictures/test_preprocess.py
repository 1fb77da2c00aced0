"""Preprocessing against Pillow and numpy used by hand, and its geometry against the pixels themselves."""

import numpy as np
import pytest
import torch
from PIL import Image

from whycam.errors import PhotoError, WhycamError
from whycam.pictures.photos import read_photo
from whycam.pictures.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ramps(height, width):
    """Red counts columns and green counts rows, each from 0 to 255 between the photo's edges."""
    across, down = (np.arange(width) + 0.5) / width * 255, (np.arange(height) + 0.5) / height * 255
    array = np.zeros((height, width, 3), np.uint8)
    array[..., 0], array[..., 1] = np.rint(across), np.rint(down)[:, None]
    return array


def test_imagenet_by_hand():
    array = noise(48, 64)
    tensor, geometry = Preprocess.imagenet(size=22, resize_to=25)(read_photo(array))
    # shorter side 25, longer int(25 * 64 / 48) = 33; (33 - 22) / 2 = 5.5 to 6 (even), (25 - 22) / 2 = 1.5 to 2 (even)
    seen = Image.fromarray(array).resize((33, 25), Image.Resampling.BILINEAR).crop((6, 2, 28, 24))
    expected = (np.asarray(seen) / 255.0 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), expected.transpose(2, 0, 1), rtol=0, atol=1e-6)
    assert geometry.photo_size == (48, 64)
    assert geometry.input_size == (22, 22)


def test_the_usual_crop_of_640_by_480():
    geometry = Preprocess.imagenet().geometry((480, 640))
    # 256 x 341; (341 - 224) / 2 = 58.5 to 58; (256 - 224) / 2 = 16
    assert geometry.scale == (480 / 256, 640 / 341)
    assert geometry.seen == pytest.approx((30, 58 * 640 / 341, 450, 282 * 640 / 341))
    # the longer side is cut, not rounded: 256 * 155 / 100 = 396.8
    assert Preprocess.imagenet().geometry((100, 155)).scale == (100 / 256, 155 / 396)
    turned = Preprocess.imagenet().geometry((640, 480))
    assert turned.seen == pytest.approx((58 * 640 / 341, 30, 282 * 640 / 341, 450))


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess((56, 56), "shorter", 64, **UNIT),
        Preprocess((48, 72), "stretch", **UNIT),
        Preprocess((40, 50), "stretch", (48, 72), **UNIT),
        Preprocess((64, 64), "letterbox", **UNIT),
        Preprocess((70, 50), "none", **UNIT),
        Preprocess((64, 64), "shorter", crop=False, **UNIT),
        Preprocess((90, 70), "shorter", 64, **UNIT),  # padded above and below
        Preprocess((60, 50), "cover", (70, 64), **UNIT),
        Preprocess((57, 57), "letterbox", 64, **UNIT),
    ],
    ids=lambda p: f"{p.resize}-{p.size[0]}x{p.size[1]}",
)
@pytest.mark.parametrize("size", [(96, 160), (160, 96)], ids=["wide", "high"])
def test_geometry_says_where_the_pixels_went(preprocess, size):
    """What an input shows, laid back by its geometry, is the photo: each ramp's values are its coordinates."""
    photo = read_photo(ramps(*size))
    tensor, geometry = preprocess(photo)
    for channel in (0, 1):
        laid, seen = geometry.to_photo(tensor[channel] * 255)
        top, left, bottom, right = (round(edge) for edge in geometry.seen)
        inner = torch.zeros(size, dtype=torch.bool)
        inner[top + 6 : bottom - 6, left + 6 : right - 6] = True  # within, so that no border or padding mixes in
        assert inner.any()
        assert seen[inner].all()
        off = laid - torch.from_numpy(np.array(photo.image))[..., channel]
        assert off[inner].abs().max() < 1.6  # two roundings and one step of the ramp
        # a shift by half a photo pixel is 0.8 to 1.3 levels; rounding averages out
        assert abs(float(off[inner].mean())) < 0.15


def test_letterbox_by_hand():
    preprocess = Preprocess((8, 8), "letterbox", fill=(10, 20, 30), interpolation="nearest", **UNIT)
    tensor, geometry = preprocess(read_photo(np.full((10, 20, 3), 200, np.uint8)))
    expected = torch.tensor([10.0, 20, 30])[:, None, None].repeat(1, 8, 8)
    expected[:, 2:6] = 200
    torch.testing.assert_close(tensor * 255, expected)
    assert geometry.content == (2, 0, 6, 8)
    assert geometry.seen == (0, 0, 10, 20)


def test_a_photo_smaller_than_the_crop_is_padded_as_torchvision_pads():
    tensor, geometry = Preprocess((4, 5), "none", **UNIT)(read_photo(np.full((3, 2, 3), 255, np.uint8)))
    # (5 - 2) // 2 = 1 column to the left and 2 to the right; (4 - 3) // 2 = 0 rows above and 1 below
    expected = torch.zeros(4, 5)
    expected[0:3, 1:3] = 1
    torch.testing.assert_close(tensor[0], expected)
    assert geometry.content == (0, 1, 3, 3)
    assert geometry.seen == (0, 0, 3, 2)


def test_half_a_pixel_goes_where_torchvision_puts_it():
    # 9 rows cut to 4: the middle begins at 2.5, which rounds to 2; 3 columns padded to 8: at -2.5, to -2
    array = noise(9, 3)
    tensor, geometry = Preprocess((4, 8), "none", **UNIT)(read_photo(array))
    expected = np.zeros((4, 8, 3))
    expected[:, 2:5] = array[2:6]
    np.testing.assert_allclose(tensor.numpy().transpose(1, 2, 0) * 255, expected, atol=1e-4)
    assert geometry.seen == (2, 0, 6, 3)
    assert geometry.content == (0, 2, 4, 5)
    assert Preprocess((2, 4), "none").geometry((2, 11)).offset == (0, 4)  # 3.5, to the even one


def test_cover_leaves_no_side_short():
    # 30 / 20 is the smaller ratio: 50 / 1.5 = 33.3 to 33
    assert Preprocess((8, 8), "cover", (10, 20), crop=False).geometry((50, 30)).input_size == (33, 20)
    # 20 / 10 is: 33 / 2 = 16.5 to 16 (even); torchvision's shorter side would cut to 16 as well, and 35 / 2 differs
    assert Preprocess((10, 10), "cover", crop=False).geometry((20, 33)).input_size == (10, 16)
    assert Preprocess((10, 10), "cover", crop=False).geometry((20, 35)).input_size == (10, 18)
    assert Preprocess((10, 10), "shorter", crop=False).geometry((20, 35)).input_size == (10, 17)


def test_letterbox_may_enlarge_before_it_cuts():
    # fits 20 x 10 inside 12 x 12 as 12 x 6, of which 8 rows are kept and beside which 1 column is padded
    geometry = Preprocess((8, 8), "letterbox", 12).geometry((20, 10))
    assert geometry.scale == (20 / 12, 10 / 6)
    assert geometry.content == (0, 1, 8, 7)
    assert geometry.seen == pytest.approx((2 * 20 / 12, 0, 10 * 20 / 12, 10))


def test_blue_first_and_back():
    array = noise(6, 5)
    means, stds = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)  # of the input's channels: blue's first
    preprocess = Preprocess((6, 5), "none", channels="bgr", mean=means, std=stds)
    tensor, _ = preprocess(read_photo(array))
    expected = (array[..., ::-1] / 255 - np.array(means)) / np.array(stds)
    np.testing.assert_allclose(tensor.numpy(), expected.transpose(2, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(preprocess.undo(tensor)), array)


def test_no_resizing_cuts_from_the_middle():
    array = noise(9, 12)
    tensor, geometry = Preprocess((4, 6), "none", **UNIT)(read_photo(array))
    # (9 - 4) / 2 = 2.5 to 2 (even), (12 - 6) / 2 = 3
    np.testing.assert_allclose(tensor.numpy().transpose(1, 2, 0) * 255, array[2:6, 3:9], atol=1e-4)
    assert geometry.seen == (2, 3, 6, 9)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_smallest_and_thinnest_photos(size):
    tensor, geometry = Preprocess.imagenet(size=8, resize_to=10)(read_photo(np.full((*size, 3), 90, np.uint8)))
    assert tensor.shape == (3, 8, 8)
    expected = (90 / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    torch.testing.assert_close(tensor, expected[:, None, None].expand(3, 8, 8))
    # a photo pixel counts as seen by its center, and 8 of 10 parts of one among 500 hold none
    assert geometry.to_photo(tensor[0])[1].any() == (max(size) < 500)


def test_a_thin_photo_costs_what_is_kept_not_what_is_cropped(monkeypatch):
    small, whole = Preprocess.imagenet(size=32, resize_to=40), read_photo(noise(4, 3000))
    expected, _ = small(whole)
    monkeypatch.setattr("whycam.pictures.preprocess._MAX_RESIZED", 1000)
    tensor, _ = small(whole)
    assert (tensor - expected).abs().max() <= 1.01 / 255 / min(IMAGENET_STD)
    with pytest.raises(PhotoError, match="4 x 3000 would be resized to 40 x 30000"):
        Preprocess((40, 40), "shorter", crop=False)(whole)


def test_undo_shows_what_the_network_saw():
    array = noise(30, 40)
    preprocess = Preprocess((20, 24), "none")
    tensor, _ = preprocess(read_photo(array))
    np.testing.assert_array_equal(np.asarray(preprocess.undo(tensor)), array[5:25, 8:32])
    assert preprocess.undo(torch.full((3, 2, 2), 99.0)).getpixel((0, 0)) == (255, 255, 255)


def test_interpolations_are_pillows():
    array = noise(20, 30)
    for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"):
        tensor, _ = Preprocess((9, 11), "stretch", interpolation=name, **UNIT)(read_photo(array))
        expected = np.asarray(Image.fromarray(array).resize((11, 9), Image.Resampling[name.upper()]))
        np.testing.assert_allclose(tensor.numpy().transpose(1, 2, 0) * 255, expected, atol=1e-4)


def test_it_is_a_value():
    assert Preprocess.imagenet() == Preprocess((224, 224), "shorter", 256)
    assert len({Preprocess.imagenet(), Preprocess.imagenet(), Preprocess.imagenet(interpolation="bicubic")}) == 2


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"size": (0, 4)}, "at least 1"),
        ({"resize_to": (8, 8)}, "takes one int"),
        ({"resize_to": 0, "resize": "stretch"}, "at least 1"),
        ({"resize": "none", "resize_to": 8}, "has no use"),
        ({"std": (1.0, 0.0, 1.0)}, "positive"),
    ],
)
def test_settings_that_do_not_fit(wrong, reason):
    with pytest.raises(WhycamError, match=reason):
        Preprocess(**{"size": (4, 4), **wrong})
