"""A trained toy U-Net whose discs are called after a marker far away: which maps show the cause, and which do not.

That erasing the marker changes the answer, and recoloring it too, is found by doing it; no map is asked. A saliency
control is not needed where the local map of the same layer stands beside: the marker is as gaudy for both.
"""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "toys"))
import marker

import whycam
from whycam.targets import Region

SCENES = [marker.scene(seed) for seed in range(40)]
OTHER = {"red": "green", "green": "red"}


def called(model, scene):
    """What most of the disc is called."""
    with torch.no_grad():
        classes = model(scene.picture()[None])[0].argmax(0)
    return int(classes[scene.inside()].mode().values)


@pytest.fixture(scope="module")
def found():
    model = marker.segmenter()
    return model, [each for each in SCENES if called(model, each) != called(model, each.recolored("none"))]


def test_the_marker_and_nothing_else_decides(found):
    model, flipped = found
    marked = [each for each in SCENES if each.color != "none"]
    turned = [called(model, each) != called(model, each.recolored(OTHER[each.color])) for each in marked]
    assert sum(turned) >= 0.95 * len(marked)
    assert len(flipped) >= 15
    assert {each.color for each in flipped} == {"red"}
    assert marker.WEIGHTS.stat().st_size < 2**20


def on_marker(found, method, scenes=None, **asked):
    """Means over the scenes that flip: the share of the evidence on the marker, and whether the peak lies there."""
    model, flipped = found
    explainer, rows = whycam.Explainer(model), []
    for scene in flipped if scenes is None else scenes:
        target = Region(int(scene.truth().max()), mask=scene.inside())
        e = explainer.explain(scene.picture()[None], method, target=target, **asked)
        heat, where = e.heatmaps()[0], scene.marked()
        rows.append((float(heat[where].sum() / heat.sum()), float(where.flatten()[heat.argmax()])))
    return torch.tensor(rows).mean(0).tolist()


@pytest.mark.parametrize("method", ["layer_cam", "hires_cam"])
def test_the_path_peaks_on_the_cause_where_local_maps_do_not(found, method):
    energy, peaks = on_marker(found, method, layer="encoder.1", path=20)
    assert peaks >= 0.9
    assert energy >= 0.5
    energy, peaks = on_marker(found, method, layer="encoder.1")
    assert energy <= 0.25
    assert peaks <= 0.5


def test_the_path_leaves_a_marker_in_the_dark_that_decides_nothing(found):
    """A green marker is as gaudy, and without it the disc is called the same."""
    idle = [each for each in SCENES if each.color == "green"]
    assert len(idle) >= 10
    energy, peaks = on_marker(found, "hires_cam", idle, layer="encoder.1", path=20)
    assert energy <= 0.05
    assert peaks <= 0.1


def test_late_layers_no_longer_hold_the_cause_where_it_was(found):
    """Expected, so that nobody mends it: there the marker's word has been carried to the disc."""
    energy, peaks = on_marker(found, "layer_cam", layer="decoder.0", path=5)
    assert (energy, peaks) < (0.1, 0.1)
