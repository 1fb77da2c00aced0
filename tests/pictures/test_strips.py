"""Words and scales stand below, not over, the picture, and fit."""

import numpy as np
import pytest
from PIL import Image

from whycam.pictures.colormaps import palette
from whycam.pictures.strips import Scale, captioned, with_numbers, with_scale

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))


def test_a_caption_goes_below():
    short = captioned(PHOTO, "no positive evidence")
    assert short.width == 300
    np.testing.assert_array_equal(np.asarray(short)[:200], np.asarray(PHOTO))
    strip = np.asarray(short)[200:]
    assert strip.min() < 40
    assert strip.max() > 200  # light words on a dark strip
    long = captioned(PHOTO, "no positive evidence " * 8)
    assert long.height > short.height + 20
    # nothing touches the strip's edges: the words were wrapped, also one without spaces
    for caption in ("no positive evidence " * 8, "x" * 200, "W" * 90, "two\nlines"):
        strip = np.asarray(captioned(PHOTO, caption))[200:]
        assert np.ptp(strip[[0, -1]]) == np.ptp(strip[:, [0, 1, -1]]) == 0


def test_a_caption_under_one_pixel_is_still_legible():
    result = captioned(Image.new("RGB", (1, 1)), "flat")
    assert result.width >= 100
    assert np.asarray(result).max() > 200


@pytest.mark.parametrize(("colormap", "signed"), [(None, False), (None, True), ("jet", False)])
def test_a_scale_has_the_colors_from_end_to_end(colormap, signed):
    scale = Scale(
        -0.5 if signed else 0.0, 0.5, "Grad-CAM: evidence for a class with a name that is long enough to wrap"
    )
    strip = np.asarray(with_scale(PHOTO, scale, colormap, signed))[200:]
    table = palette(colormap, signed).astype(int)
    row = strip[12].astype(int)  # through the bar
    for color in (table[0], table[len(table) // 2], table[-1]):
        assert (np.abs(row - color).sum(-1) < 12).any()
    where = [int(np.abs(row - color).sum(-1).argmin()) for color in (table[0], table[len(table) // 2], table[-1])]
    assert where == sorted(where)
    assert where[1] - where[0] == pytest.approx(where[2] - where[1], abs=3)
    assert np.ptp(strip[[0, -1]]) == np.ptp(strip[:, [0, 1, -1]]) == 0  # nothing is cut off


def test_a_scale_says_its_ends():
    one, other = (np.asarray(with_scale(PHOTO, Scale(0.0, end, "x"))) for end in (0.25, 0.75))
    differs = (one != other).any((0, 2)).nonzero()[0]
    assert differs.min() > 240  # at the right end alone


def test_numbers_in_rows():
    colors = np.array([[200, 30, 90], [10, 120, 250]] * 12, np.uint8)
    strip = np.asarray(with_numbers(PHOTO, colors))[200:]
    found = (strip == colors[0]).all(-1)
    assert found.any(1).sum() > 20  # more than one row of patches
    assert not found[:, [0, -1]].any()
