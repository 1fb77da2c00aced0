"""Colors against their maps' published end points, and the promise that zero stays put."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from whycam.errors import WhycamError
from whycam.pictures.colormaps import NO_VALUE, colorize, palette


def test_jet_by_its_definition():
    # blue rises from 0.5 to 1 in the first eighth; the middle is green with as much red as blue; red falls back to 0.5
    colors = colorize(torch.tensor([[0.0, 0.5, 1.0]]), "jet")
    assert colors.dtype == np.uint8
    np.testing.assert_allclose(colors[0].astype(int), [(0, 0, 128), (124, 255, 124), (128, 0, 0)], atol=3)


def test_levels_are_even_and_gray_is_gray():
    values = torch.arange(256, dtype=torch.float32)[None] / 255
    np.testing.assert_array_equal(colorize(values, "gray")[0], np.arange(256)[:, None].repeat(3, 1))


def lightness(colors):
    """CIELAB's L*, from sRGB levels."""
    share = np.asarray(colors) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    return np.where(linear > 0.008856, 116 * np.cbrt(linear) - 16, 903.3 * linear)


def test_default_is_not_black_at_zero_and_grows_brighter_in_even_steps():
    colors = palette()
    assert colors[0].max() > 120  # a color, not black
    steps = np.diff(lightness(colors[::15]))
    assert steps.min() > 0.75 * np.median(steps)  # also where hues cannot be told apart
    assert steps.max() < 1.5 * np.median(steps)
    assert lightness(colors[-1]) > 90


@pytest.mark.parametrize("name", [None, "vik", "cmocean:balance", "viridis", "berlin_r"])
def test_signed_zero_has_the_middle_color(name):
    table = palette(name, signed=True)
    assert len(table) % 2 == 1
    colors = colorize(torch.tensor([[-1.0, 0.0, 1.0, -1e-9, 1e-9]]), name, signed=True)[0]
    np.testing.assert_array_equal(colors[:3], table[[0, len(table) // 2, -1]])
    np.testing.assert_array_equal(colors[3:], table[[len(table) // 2] * 2])


def test_signed_default_is_white_at_zero_blue_below_red_above():
    low, zero, high = colorize(np.array([[-0.6, 0.0, 0.6]]), signed=True)[0].astype(int)
    assert zero.min() > 220
    assert low[2] > low[0] + 40
    assert high[0] > high[2] + 40
    dark, bright = lightness(palette(signed=True)[[0, 128]])
    assert bright > dark + 50


def test_missing_values_are_flat_gray():
    colors = colorize(torch.tensor([[float("nan"), float("inf"), 0.0]]), "jet")[0]
    np.testing.assert_array_equal(colors[:2], [NO_VALUE, NO_VALUE])
    assert tuple(colors[2]) != NO_VALUE


@pytest.mark.parametrize(("values", "signed"), [([[0.0, 1.1]], False), ([[-0.2, 1.0]], False), ([[-2.0, 0.0]], True)])
def test_values_out_of_range_are_refused(values, signed):
    with pytest.raises(WhycamError, match="normalize it first"):
        colorize(torch.tensor(values), signed=signed)


def test_rounding_is_forgiven():
    np.testing.assert_array_equal(colorize(torch.tensor([[1 + 1e-6, -1e-6]]))[0], palette()[[-1, 0]])


def test_unknown_names_get_suggestions():
    with pytest.raises(WhycamError, match="no color map 'infernoo'; did you mean 'inferno'"):
        colorize(torch.zeros(1, 1), "infernoo")
    with pytest.raises(WhycamError, match="no color map '@@@'; try 'turbo'"):
        colorize(torch.zeros(1, 1), "@@@")


def test_importing_pictures_loads_neither_matplotlib_nor_cmap():
    modules = ("photos", "geometry", "preprocess", "colormaps", "overlay", "figures")
    code = "".join(f"import whycam.pictures.{name}\n" for name in modules)
    code += "import sys; sys.exit(sorted({'matplotlib', 'cmap'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
