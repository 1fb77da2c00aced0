"""Controls worked by hand: what they show depends on the picture, the sample and the seed alone."""

import math

import nets
import pytest
import torch

import whycam
from whycam.evaluation.controls import CELLS, boxed, centre, edges, random

INPUTS = nets.images(3)


def test_the_middle_is_a_gaussian_of_a_quarter_of_each_axis():
    wide = torch.zeros(2, 3, 8, 4, dtype=torch.float64)
    found = centre(wide, [0, 1], 0)
    for row in range(8):
        for column in range(4):
            down, across = (row - 3.5) / 2, (column - 1.5) / 1
            expected = math.exp(-(down**2) / 2) * math.exp(-(across**2) / 2)
            assert found[0, row, column].item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(found[0], found[1])
    line, cube = (centre(torch.zeros(1, 2, *[6] * axes), [0], 0)[0] for axes in (1, 3))
    torch.testing.assert_close(cube, line[:, None, None] * line[None, :, None] * line[None, None, :])


def test_edges_are_the_length_of_the_mean_colors_slope():
    gray = INPUTS.mean(1).numpy()
    found = edges(INPUTS, [0, 1, 2], 0)

    def slope(line, at):
        if at == 0:
            return line[1] - line[0]
        return line[-1] - line[-2] if at == len(line) - 1 else (line[at + 1] - line[at - 1]) / 2

    for sample in range(3):
        for row in range(8):
            for column in range(8):
                down, across = slope(gray[sample, :, column], row), slope(gray[sample, row], column)
                assert found[sample, row, column].item() == pytest.approx(math.hypot(down, across), rel=1e-12)
    assert not edges(torch.ones(1, 3, 4, 4), [0], 0).any()
    assert edges(torch.rand(1, 3, 1, 4), [0], 0).shape == (1, 1, 4)  # an axis of one pixel has no slope


def test_random_cells_are_a_samples_own_whatever_the_batch():
    large = torch.zeros(3, 3, 7 * 4, 7 * 4)
    found = random(large, [4, 5, 6], 0)
    assert torch.equal(random(large[:1], [5], 0)[0], found[1])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(random(large, [4, 5, 6], 1), found)
    assert found.min() >= 0
    assert found.max() <= 1
    exact = random(torch.zeros(1, 3, CELLS, CELLS), [4], 0)[0]  # a cell for each pixel
    assert len(exact.unique()) == CELLS**2


def test_a_box_is_filled_and_none_is_empty():
    found = boxed([(1.0, 2.0, 4.0, 6.0), None], (8, 8))
    expected = torch.zeros(2, 8, 8, dtype=torch.float64)
    expected[0, 2:6, 1:4] = 1
    assert torch.equal(found, expected)


def test_they_are_rows_that_no_network_changes():
    asked = {"metrics": ["model_randomization"], "sanity": 0, "batch": 2}
    found = whycam.evaluate(nets.plain(), INPUTS, ["grad_cam"], **asked)
    for name in ("control: random", "control: centre", "control: edges"):
        values = [row["value"] for row in found.rows if row["method"] == name and row["metric"] in found.metrics]
        assert values == pytest.approx([1.0] * 3)
    assert not any(
        row["method"].startswith("control") for row in whycam.evaluate(
            nets.plain(), INPUTS, ["grad_cam"], controls=False, **asked
        ).rows
    )  # fmt: skip
