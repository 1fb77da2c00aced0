"""The blend, number by number; what lies outside; the colors by themselves."""

import numpy as np
import pytest
import torch
from PIL import Image

from whycam.errors import OptionError, WhycamError
from whycam.pictures.colormaps import colorize
from whycam.pictures.overlay import paint, paint_parts, side_by_side

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
PHOTO = Image.fromarray(PIXELS)
HEAT = torch.from_numpy(RNG.random((30, 40), dtype=np.float32))


@pytest.mark.parametrize("opacity", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("colormap", [None, "jet"])
@pytest.mark.parametrize("blend", ["map", "even"])
def test_the_share_of_a_color_follows_the_map_or_is_the_same_everywhere(opacity, signed, colormap, blend):
    heat = HEAT * 2 - 1 if signed else HEAT
    result = paint(heat, colormap=colormap, opacity=opacity, signed=signed, blend=blend).over(PHOTO)
    strength = np.minimum(1, 2 * np.abs(heat.double().numpy()))[..., None] if blend == "map" else 1
    share = opacity * strength
    exact = share * colorize(heat, colormap, signed).astype(np.float64) + (1 - share) * PIXELS
    assert result.size == (40, 30)
    assert np.abs(np.asarray(result) - exact).max() <= 0.5 + 1e-4  # to the nearest whole level


@pytest.mark.parametrize("signed", [False, True])
def test_where_there_is_no_evidence_the_photo_is_untouched(signed):
    np.testing.assert_array_equal(np.asarray(paint(torch.zeros(30, 40), signed=signed).over(PHOTO)), PIXELS)


def test_three_tenths_is_the_classic_look():
    photo, heat = Image.new("RGB", (1, 1), (100, 200, 50)), torch.ones(1, 1)
    # jet's top is (128, 0, 0): 0.3 * 128 + 0.7 * 100 = 108.4
    assert paint(heat, colormap="jet", opacity=0.3, blend="even").over(photo).getpixel((0, 0)) == (108, 140, 35)


def test_outside_there_is_no_heat_and_no_color():
    seen = torch.zeros(30, 40, dtype=torch.bool)
    seen[5:25, 10:30] = True
    result = np.asarray(paint(HEAT).over(PHOTO, seen))
    inside = seen.numpy()
    np.testing.assert_array_equal(result[inside], np.asarray(paint(HEAT).over(PHOTO))[inside])
    outside = result[~inside]
    assert (outside == outside[:, :1]).all()
    other = np.asarray(paint(1 - HEAT).over(PHOTO, seen))
    np.testing.assert_array_equal(other[~inside], outside)
    # pale, and the line round what was seen
    red = Image.new("RGB", (24, 24), "red")
    pale = np.asarray(paint(torch.zeros(24, 24)).over(red, torch.zeros(24, 24).bool()))
    assert set(pale[..., 0].flatten().tolist()) == {round(0.45 * 0.299 * 255 + 0.55 * 255)}
    assert (result[4, 10:30] == 90).all()
    assert (result[5:25, 30] == 90).all()
    assert (result[3, 10:30] != 90).any()


@pytest.mark.parametrize("parts", [False, True])
def test_the_colors_over_the_backdrop_are_the_overlay(parts):
    """What pages stack: a picture, and over it a transparent one whose opacity a slider sets."""
    seen = torch.zeros(30, 40, dtype=torch.bool)
    seen[5:25, 10:30] = True
    colors = np.array([[200, 30, 90], [10, 120, 250]], np.uint8)

    def painted(opacity):
        strengths = torch.stack([HEAT, 1 - HEAT])
        return paint_parts(strengths, colors, opacity=opacity) if parts else paint(HEAT, opacity=opacity)

    layer = np.asarray(painted(1.0).alone(seen)).astype(np.float64)
    ground = np.asarray(painted(1.0).backdrop(PHOTO, seen)).astype(np.float64)
    alpha = 0.6 * layer[..., 3:] / 255
    stacked = alpha * layer[..., :3] + (1 - alpha) * ground
    assert np.abs(stacked - np.asarray(painted(0.6).over(PHOTO, seen))).max() < 1.5  # three roundings to whole levels
    assert not layer[~seen.numpy()][:, 3].any()
    np.testing.assert_array_equal(np.asarray(painted(0.0).over(PHOTO, seen)), ground)
    inside = ground[seen.numpy()]
    assert (inside == inside[:, :1]).all() == parts  # parts have hues of their own, and lie on grays


def test_an_outline_goes_round_what_is_bright_and_is_opaque():
    heat, bright = torch.zeros(30, 40), torch.zeros(30, 40, dtype=torch.bool)
    bright[10:20, 12:22] = True
    over, alone = paint(heat).over(PHOTO, None, bright), paint(heat).alone(None, bright)
    changed = (np.asarray(over) != PIXELS).any(-1)
    opaque = np.asarray(alone)[..., 3] == 255
    for line in (changed, opaque):
        assert line[10, 12:22].all()
        assert line[19, 12:22].all()
        assert line[10:20, 12].all()
        assert not line[12:18, 14:20].any()  # neither inside
        assert not line[~bright.numpy()].any()  # nor outside
    assert (np.asarray(over)[10, 12:22] == 255).all()
    assert (np.asarray(over)[11, 13:21] == 0).all()


@pytest.mark.parametrize(
    ("how", "error", "reason"),
    [
        ({"opacity": 1.5}, OptionError, "opacity"),
        ({"blend": "classic"}, OptionError, "blend is 'map'.*or 'even', not 'classic'"),
        ({"heat": HEAT * 3}, WhycamError, "normalize"),
    ],
)
def test_what_does_not_fit_is_refused(how, error, reason):
    with pytest.raises(error, match=reason):
        paint(**{"heat": HEAT, **how})


def test_side_by_side():
    colors = ["red", "lime", "blue"]
    images = [Image.new("RGB", size, color) for size, color in zip([(8, 6), (8, 4), (6, 6)], colors, strict=True)]
    row = side_by_side(images)
    assert row.size == (8 + 2 + 8 + 2 + 6, 6)
    assert [row.getpixel((x, 3)) for x in (0, 8, 10, 18, 20, 25)] == [
        (255, 0, 0), (255, 255, 255), (0, 255, 0), (255, 255, 255), (0, 0, 255), (0, 0, 255),
    ]  # fmt: skip
    clear = side_by_side([image.convert("RGBA") for image in images])
    assert (clear.mode, clear.getpixel((8, 3))[3], clear.getpixel((0, 3))) == ("RGBA", 0, (255, 0, 0, 255))
