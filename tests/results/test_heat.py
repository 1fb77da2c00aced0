"""What colors stand for: enlarged as by hand, and ending where the legend says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import whycam
from whycam.kit.status import Status
from whycam.pictures.colormaps import NO_VALUE, colorize
from whycam.results.drawing import backdrop, heat_layer
from whycam.results.explanation import Comparison
from whycam.results.heat import color_ends, color_scale, map_heat
from whycam.results.look import Look


class Pooled(nn.Module):
    """Its Grad-CAM at `pool` can be set by the test; two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(8)

    def forward(self, x):
        return self.pool(x).flatten(2).sum(-1)[:, :2]


def explained(cells, **options):
    """An explanation whose maps are these cells, of eight pixels a side."""
    cells = torch.tensor(cells, dtype=torch.float32)
    inputs = torch.zeros(1, 3, *(8 * side for side in cells.shape))
    e = whycam.explain(Pooled().eval(), inputs, "hires_cam", layer="pool", target=0)
    return replace(e, maps=cells[None], **{"status": (Status("ok"),), **options})


def keys(distance):
    """The cubic kernel of Keys (1981), equation 15, with a = -3/4, as torch has it."""
    t, a = np.abs(distance), -0.75
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def by_hand(cells):
    """Each axis by itself in float64: weights of the four nearest cells, the outermost repeated."""
    made = np.asarray(cells, dtype=np.float64)
    for axis in (0, 1):
        length = made.shape[axis]
        places = (np.arange(8 * length) + 0.5) / 8 - 0.5
        first = np.floor(places).astype(int) - 1
        taps = first[:, None] + np.arange(4)
        weights = keys(places[:, None] - taps)
        made = np.stack(
            [
                (w[:, None] * np.moveaxis(made, axis, 0)[t]).sum(0)
                for w, t in zip(weights, taps.clip(0, length - 1), strict=True)
            ],
            axis,
        )
    return made


CELLS = [[0.0, 0.1, 0.0, 0.0], [0.2, 3.0, 3.0, 0.1], [0.0, 3.0, 3.0, 0.0], [-1.0, 0.0, 0.0, 0.4]]


def test_the_usual_enlargement_is_smooth_and_ends_at_the_maps_own_maximum():
    large = by_hand(CELLS)
    assert large.max() > 3.0  # the splines overshoot
    heat = map_heat(explained(CELLS), Look())[0].double().numpy()
    np.testing.assert_allclose(heat, (large / 3.0).clip(0, 1), atol=1e-6)
    assert float(color_ends(explained(CELLS), Look())[0]) == 3.0
    signed = map_heat(explained(CELLS), Look(signed=True))[0].double().numpy()
    np.testing.assert_allclose(signed, (large / 3.0).clip(-1, 1), atol=1e-6)
    assert signed.min() < -0.2


def test_a_single_peak_ends_the_colors_where_it_is_drawn():
    cells = np.zeros((3, 3))
    cells[1, 1] = 2.0
    e = explained(cells)
    end = by_hand(cells).max()
    assert end < 2.0  # no pixel's center is the cell's
    assert float(color_ends(e, Look())[0]) == pytest.approx(end, rel=1e-6)
    assert float(map_heat(e, Look()).max()) == 1.0
    linear = float(color_ends(e, Look(enlarge="bilinear"))[0])
    assert linear == pytest.approx(2 * (15 / 16) ** 2, rel=1e-6)  # half a pixel of eight off, on both axes


def test_the_raw_grid_is_one_option_away():
    blocks = map_heat(explained(CELLS), Look(enlarge="nearest"))[0].numpy()
    np.testing.assert_allclose(blocks, (np.kron(CELLS, np.ones((8, 8))) / 3.0).clip(0, 1), atol=1e-6)


def test_figures_and_files_are_enlarged_as_the_overlay_is(tmp_path):
    e = explained(CELLS)
    grid = np.asarray(e.overlay(enlarge="nearest"))
    assert (grid != np.asarray(e.overlay())).any()
    for figure in (e.figure(enlarge="nearest"), Comparison({("a", "b", 0): e}, {}, e.cost).figure(enlarge="nearest")):
        drawn = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
        assert any(each.shape == grid.shape and (each == grid).all() for each in drawn)
    (picture,) = (each for each in e.save(tmp_path, enlarge="nearest") if each.suffix == ".png")
    np.testing.assert_array_equal(np.asarray(Image.open(picture).convert("RGB")), grid)


def test_what_shows_nothing_has_no_color_and_what_is_no_number_the_color_of_that():
    assert not map_heat(explained([[-1.0, -2.0], [0.0, -1.0]]), Look()).any()
    assert not map_heat(explained([[0.0, 0.0], [0.0, 0.0]]), Look(signed=True)).any()
    e = explained([[torch.nan, 1.0], [0.5, torch.inf]])
    heat = map_heat(e, Look(enlarge="nearest"))[0]
    assert heat[:8, :8].isnan().all()
    assert heat[8:, 8:].isnan().all()
    assert (heat[:8, 8:] == 1.0).all()
    assert (heat[8:, :8] == 0.5).all()
    assert (colorize(heat)[:8, :8] == NO_VALUE).all()


@pytest.mark.parametrize(
    ("signed", "words", "ends"),
    [
        (False, "HiResCAM: evidence for class 0", (0.0, 3.0)),
        (True, "HiResCAM: evidence against and for class 0", (-3, 3)),
    ],
)
def test_the_legend_says_what_is_measured_and_where_colors_end(signed, words, ends):
    scale = color_scale(explained(CELLS), Look(signed=signed))
    assert (scale.words, scale.low, scale.high) == (words, *ends)
    of_no_class = color_scale(explained(CELLS, target=()), Look())
    assert of_no_class.words == "HiResCAM"


def test_a_contour_is_the_edge_of_the_mask():
    e = explained(CELLS)
    mask = e.mask(0.5, on="input")[0].numpy()
    plain, lined = (np.asarray(e.overlay(contour=level)) for level in (None, 0.5))
    line = (plain != lined).any(-1)
    inner = np.pad(mask, 1, mode="edge")
    inner = mask & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    rim = mask & ~inner
    assert rim.any()
    assert (lined[rim] == 255).all()
    assert line[rim].all()
    assert not line[~mask].any()
    with pytest.raises(whycam.WhycamError, match="level is a share"):
        e.overlay(contour=1.5)


def test_the_heat_by_itself_is_transparent_where_there_is_none():
    e = explained(CELLS)
    layer = np.asarray(e.heat_layer())
    heat = map_heat(e, Look())[0].numpy()
    assert layer.shape == (32, 32, 4)
    np.testing.assert_allclose(layer[..., 3], 255 * (2 * heat).clip(0, 1), atol=0.51)
    assert not layer[..., 3][heat == 0].any()
    np.testing.assert_array_equal(layer[..., :3], colorize(heat))
    assert np.asarray(e.heat_layer(blend="even", opacity=0.4))[..., 3].tolist() == [[102] * 32] * 32
    ground = np.asarray(backdrop(e, Look())).astype(float)
    alpha = 0.6 * layer[..., 3:] / 255
    stacked = alpha * layer[..., :3] + (1 - alpha) * ground
    assert np.abs(stacked - np.asarray(e.overlay())).max() < 1.5
    assert heat_layer(e, Look(opacity=1.0)).size == e.overlay().size


def test_the_heat_by_itself_has_no_color_where_the_network_did_not_look():
    prepared = {"preprocess": whycam.Preprocess((16, 16), resize_to=16), "layer": "pool", "target": 0}
    e = whycam.explain(Pooled().eval(), np.zeros((20, 40, 3), np.uint8), "hires_cam", **prepared)
    e = replace(e, maps=torch.ones(1, 2, 2))
    alpha = np.asarray(e.heat_layer(blend="even"))[..., 3]
    assert alpha.shape == (20, 40)
    assert (alpha[:, 10:30] == 255).all()  # the middle of the photo was seen
    assert not alpha[:, :10].any()
    assert not alpha[:, 30:].any()


def test_a_caption_says_what_who_and_where_and_fits():
    e = explained(CELLS)
    usual, full, none = (e.overlay(caption=how) for how in ("status", True, False))
    assert usual.size == none.size == (32, 32)
    assert full.height > 32 + 4 * 11  # four lines at least
    strip = np.asarray(full)[32:]
    assert np.ptp(strip[[0, -1]]) == np.ptp(strip[:, [0, -1]]) == 0
