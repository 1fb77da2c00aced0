"""Detectors that resize and pad inside: where a lit cell lies on the picture."""

import detectors
import pytest
import torch

import whycam
from whycam.network.canvas import canvas_of
from whycam.pictures.input_context import InputContext
from whycam.targets import Box


@pytest.mark.parametrize(("height", "width"), [(100, 190), (190, 100), (64, 96), (37, 53)])
def test_a_single_lit_cell_lies_within_half_a_pixel(height, width):
    model, _ = detectors.made(detectors.retinanet)
    inputs = torch.rand(1, 3, height, width)
    canvas = canvas_of(model, inputs)
    scale = min(64 / min(height, width), 96 / max(height, width))
    resized = [int(height * scale), int(width * scale)]
    padded = [-(-side // 32) * 32 for side in resized]
    stride = 8
    grid = [side // stride for side in padded]
    context = InputContext(inputs, canvas=canvas)
    for row, column in [(1, 1), (grid[0] // 2, grid[1] // 2)]:
        maps = torch.zeros(1, *grid)
        maps[0, row, column] = 1
        heat = context.enlarged(maps, (height, width))[0]
        expected = [
            (at + 0.5) * stride * side / inner
            for at, side, inner in zip((row, column), (height, width), resized, strict=True)
        ]
        for axis, side in enumerate((height, width)):
            places = torch.arange(side) + 0.5
            found = float((heat.sum(1 - axis) * places).sum() / heat.sum())
            assert found == pytest.approx(expected[axis], abs=0.5)


def test_what_lies_on_padding_is_cut_off_and_counted():
    model, _ = detectors.made(detectors.retinanet)
    inputs = torch.rand(2, 3, 100, 190)
    found = whycam.explain(model, inputs, target=Box(0))
    assert found.method == "layer_cam"
    assert found.heatmaps().shape == (2, 100, 190)
    inner, outer = (int(100 * 96 / 190), 96), (64, 96)
    rows, columns = found.maps.shape[1:]
    for i in range(2):
        total = beyond = 0.0
        for row in range(rows):
            for column in range(columns):
                share = min(1.0, max(0.0, inner[0] / outer[0] * rows - row))
                share *= min(1.0, max(0.0, inner[1] / outer[1] * columns - column))
                value = max(0.0, float(found.maps[i, row, column]))
                total, beyond = total + value, beyond + value * (1 - share)
        assert float(found.values["share on padding"][i]) == pytest.approx(beyond / total, abs=1e-5)


def test_other_networks_take_their_input_as_it_is():
    model, inputs = detectors.made(detectors.detr)
    assert canvas_of(model, inputs) is None
    assert "share on padding" not in whycam.explain(model, inputs, target=Box(0)).values
