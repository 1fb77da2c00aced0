"""Figures by their contents: words, scales and limits; and by the pixels of a drawn file."""

import io
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from whycam.errors import MissingExtraError, WhycamError
from whycam.pictures.colormaps import palette
from whycam.pictures.figures import Panel, grid, save_figure, to_png

PHOTO = Image.new("RGB", (30, 20), "red")
RISING = torch.arange(6.0).reshape(2, 3)


def drawn(values, **options):
    """The matplotlib image of a panel with these values."""
    (image,) = grid([[Panel(values=values, **options)]]).axes[0].images
    return image


def words(figure):
    """All texts that are not empty, axes by axes, inset scales left out."""
    return [
        [t for t in (axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), *(x.get_text() for x in axes.texts)) if t]
        for axes in figure.axes
    ]


def test_words():
    panels = [
        [Panel("photo", image=PHOTO), Panel("Grad-CAM", values=RISING, note="0.93")],
        [Panel("LayerCAM", failure="zero gradient at blocks.11")],
    ]
    figure = grid(panels, row_labels=["layer3", "layer4"], column_labels=["A", "B"], title="espresso")
    assert figure.get_suptitle() == "espresso"
    assert words(figure) == [
        ["A\nphoto", "layer3"],
        ["B\nGrad-CAM", "0.93"],
        ["LayerCAM", "layer4", "zero gradient at blocks.11"],
        [],
    ]
    assert all(len(axes.get_xticks()) == len(axes.get_yticks()) == 0 for axes in figure.axes)


def test_a_failure_is_words_and_no_picture():
    (axes,) = grid([[Panel("m", failure="reason")]]).axes
    assert not axes.images
    assert [text.get_text() for text in axes.texts] == ["reason"]


def test_values_are_drawn_as_they_are_in_blocks():
    image = drawn(RISING)
    np.testing.assert_array_equal(image.get_array(), RISING.numpy())
    assert image.get_interpolation() == "nearest"
    np.testing.assert_array_equal(np.rint(image.cmap(np.arange(256))[:, :3] * 255), palette())


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([[2.0, 5.0]], (0, 5)),  # from zero, not from the least value
        ([[-2.0, 5.0]], (-2, 5)),
        ([[-5.0, -2.0]], (-5, 0)),
        ([[float("nan"), 1.0, 3.0, float("inf")]], (0, 3)),
        ([[float("nan")]], (0, 1)),
    ],
)
def test_zero_is_on_the_scale(values, limits):
    assert drawn(torch.tensor(values)).get_clim() == limits


@pytest.mark.parametrize("values", [[[-2.0, 5.0]], [[-5.0, 1.0]], [[2.0, 5.0]]])
def test_a_signed_scale_is_pinned_at_zero(values):
    image = drawn(torch.tensor(values), signed=True)
    assert image.get_clim() == (-5, 5)
    np.testing.assert_array_equal(np.rint(np.array(image.to_rgba(0.0))[:3] * 255), palette(signed=True)[128])


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0, 1e-7])
@pytest.mark.parametrize("signed", [False, True])
def test_a_flat_map_has_the_color_of_zero_and_is_not_stretched(value, signed):
    values = torch.full((7, 7), value)
    values[3, 3] += value * 1e-7  # rounding is no evidence
    image = drawn(values, signed=signed)
    low, high = image.get_clim()
    assert high - low >= abs(value)
    colors = np.rint(image.to_rgba(image.get_array())[..., :3] * 255)
    zero = palette(signed=signed)[128 if signed else 0]
    np.testing.assert_allclose(colors, np.broadcast_to(zero, (7, 7, 3)), atol=4)


def test_missing_values_are_masked():
    assert drawn(torch.tensor([[float("nan"), 1.0]])).get_array().mask.tolist() == [[True, False]]


def test_color_bars_name_the_ends_in_the_maps_own_units():
    figure = grid(
        [[Panel(values=RISING * 1e-4), Panel(image=PHOTO), Panel(values=RISING - 2, signed=True)]], colorbar=True
    )
    bars = [inset for axes in figure.axes for inset in axes.child_axes]
    labels = [[label.get_text() for label in bar.get_yticklabels()] for bar in bars]
    assert labels == [["0", "0.00025", "0.0005"], ["-3", "0", "3"]]
    flat = grid([[Panel(values=torch.full((2, 2), 3.0))]], colorbar=True).axes[0].child_axes[0]
    assert [label.get_text() for label in flat.get_yticklabels()] == ["3"]


def test_long_labels_are_wrapped_at_spaces_and_dots():
    (axes,) = grid([[Panel("features.denseblock4.denselayer16.norm2 at 0.93 of everything", image=PHOTO)]]).axes
    lines = axes.get_title().split("\n")
    assert len(lines) > 1
    assert "".join(lines).replace(" ", "") == "features.denseblock4.denselayer16.norm2at0.93ofeverything"
    assert all(line.endswith((".", "everything")) or " " not in line for line in lines[:-1]) or len(lines) == 2


def test_dollars_and_carets_are_letters_not_formulas():
    odd = "$^$"  # what matplotlib's formulas refuse
    panels = [[Panel(odd, image=PHOTO, note=odd), Panel(odd, failure=odd)]]
    assert to_png(grid(panels, title=odd, row_labels=[odd], column_labels=[odd, odd])).startswith(b"\x89PNG")


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 12), (8, 1), (3, 8)])
def test_any_grid_has_a_sensible_size(rows, columns):
    figure = grid([[Panel("t", image=PHOTO)] * columns] * rows)
    width, height = figure.get_size_inches()
    assert 2 < width <= 18
    assert 1.5 < height <= 20
    assert len(figure.axes) == rows * columns


def test_a_drawn_panel_keeps_its_shape_and_its_color():
    image = Image.open(io.BytesIO(to_png(grid([[Panel(image=PHOTO)]]))))
    red = (np.asarray(image.convert("RGB")) == (255, 0, 0)).all(-1)
    rows, columns = red.any(1).sum(), red.any(0).sum()
    assert columns / rows == pytest.approx(30 / 20, rel=0.02)


def test_saving_is_whole_or_not_at_all(tmp_path):
    figure = grid([[Panel(values=RISING)]])
    path = save_figure(figure, tmp_path / "new" / "map.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert save_figure(figure, tmp_path / "map.SVG").read_text().startswith("<?xml")
    with pytest.raises(WhycamError, match=r"map\.xyz: .*png"):
        save_figure(figure, tmp_path / "map.xyz")
    figure.savefig = None  # what fails while drawing
    with pytest.raises(TypeError):
        save_figure(figure, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["map.SVG", "map.png", "new"]


def test_threads_draw_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # whose state all threads share: importing it fails
    expected, results = to_png(grid([[Panel("a", values=RISING)]])), []
    threads = [
        threading.Thread(target=lambda: results.append(to_png(grid([[Panel("a", values=RISING)]])))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"whycam\[plot\]"):
        grid([[Panel(image=PHOTO)]])
