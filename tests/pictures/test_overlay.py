"""The blend, number by number; what lies outside; words below, not over, the picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from whycam.errors import WhycamError
from whycam.pictures.colormaps import colorize
from whycam.pictures.overlay import overlay, side_by_side

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
HEAT = torch.from_numpy(RNG.random((30, 40), dtype=np.float32))


@pytest.mark.parametrize("opacity", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("signed", [False, True])
def test_blend(opacity, signed):
    result = overlay(Image.fromarray(PHOTO), HEAT, colormap="jet", opacity=opacity, signed=signed)
    exact = opacity * colorize(HEAT, "jet", signed).astype(np.float64) + (1 - opacity) * PHOTO
    assert result.size == (40, 30)
    assert np.abs(np.asarray(result) - exact).max() <= 0.5 + 1e-4  # to the nearest whole level


def test_three_tenths_is_the_classic_look():
    photo, heat = Image.new("RGB", (1, 1), (100, 200, 50)), torch.ones(1, 1)
    # jet's top is (128, 0, 0): 0.3 * 128 + 0.7 * 100 = 108.4
    assert overlay(photo, heat, colormap="jet", opacity=0.3).getpixel((0, 0)) == (108, 140, 35)


def test_outside_there_is_no_heat_and_no_color():
    seen = torch.zeros(30, 40, dtype=torch.bool)
    seen[5:25, 10:30] = True
    photo = Image.fromarray(PHOTO)
    result = np.asarray(overlay(photo, HEAT, seen=seen))
    inside = seen.numpy()
    np.testing.assert_array_equal(result[inside], np.asarray(overlay(photo, HEAT))[inside])
    outside = result[~inside]
    assert (outside == outside[:, :1]).all()
    other = np.asarray(overlay(photo, 1 - HEAT, seen=seen))
    np.testing.assert_array_equal(other[~inside], outside)
    # pale, and the line round what was seen
    pale = np.asarray(overlay(Image.new("RGB", (24, 24), "red"), torch.zeros(24, 24), seen=torch.zeros(24, 24).bool()))
    assert set(pale[..., 0].flatten().tolist()) == {round(0.45 * 0.299 * 255 + 0.55 * 255)}
    assert (result[4, 10:30] == 90).all()
    assert (result[5:25, 30] == 90).all()
    assert (result[3, 10:30] != 90).any()


@pytest.mark.parametrize("signed", [False, True])
def test_in_the_usual_colors_weak_values_fade_out(signed):
    heat = HEAT * 2 - 1 if signed else HEAT
    share = 0.6 * np.minimum(1, 2 * np.abs(heat.double().numpy()))[..., None]
    exact = share * colorize(heat, None, signed).astype(np.float64) + (1 - share) * PHOTO
    result = np.asarray(overlay(Image.fromarray(PHOTO), heat, opacity=0.6, signed=signed))
    assert np.abs(result - exact).max() <= 0.5 + 1e-4
    nothing = overlay(Image.fromarray(PHOTO), torch.zeros(30, 40), signed=signed)
    np.testing.assert_array_equal(np.asarray(nothing), PHOTO)


def test_a_caption_goes_below():
    photo = Image.fromarray(PHOTO).resize((300, 200))
    heat = torch.zeros(200, 300)
    plain, short = overlay(photo, heat), overlay(photo, heat, caption="no positive evidence")
    assert short.width == 300
    np.testing.assert_array_equal(np.asarray(short)[:200], np.asarray(plain))
    strip = np.asarray(short)[200:]
    assert strip.min() < 40
    assert strip.max() > 200  # light words on a dark strip
    long = overlay(photo, heat, caption="no positive evidence " * 8)
    assert long.height > short.height + 20
    # nothing touches the strip's edges: the words were wrapped, also one without spaces
    for caption in ("no positive evidence " * 8, "x" * 200, "two\nlines"):
        strip = np.asarray(overlay(photo, heat, caption=caption))[200:]
        assert np.ptp(strip[[0, -1]]) == np.ptp(strip[:, [0, 1, -1]]) == 0


def test_a_caption_under_one_pixel_is_still_legible():
    result = overlay(Image.new("RGB", (1, 1)), torch.zeros(1, 1), caption="flat")
    assert result.width >= 100
    assert np.asarray(result).max() > 200


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"heat": HEAT, "opacity": 1.5}, "opacity"),
        ({"heat": HEAT * 3}, "normalize"),
    ],
)
def test_what_does_not_fit_is_refused(given, reason):
    with pytest.raises(WhycamError, match=reason):
        overlay(Image.fromarray(PHOTO), **given)


def test_side_by_side():
    colors = ["red", "lime", "blue"]
    images = [Image.new("RGB", size, color) for size, color in zip([(8, 6), (8, 4), (6, 6)], colors, strict=True)]
    row = side_by_side(images)
    assert row.size == (8 + 2 + 8 + 2 + 6, 6)
    assert [row.getpixel((x, 3)) for x in (0, 8, 10, 18, 20, 25)] == [
        (255, 0, 0), (255, 255, 255), (0, 255, 0), (255, 255, 255), (0, 0, 255), (0, 0, 255),
    ]  # fmt: skip
