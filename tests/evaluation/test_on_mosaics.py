"""Grid pointing in an evaluation: mosaics of the images, each cell's class explained, the mean over the cells."""

import nets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import whycam
from whycam.evaluation import on_mosaics
from whycam.evaluation.evaluate import Interrupted


def colors():
    """A network that says which of four colors a picture has most of, and is sure of it; its maps show where."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)
    )
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [0.5, 0.5, 0.5]])[..., None, None])
        net[4].weight.copy_(20 * torch.eye(4) - torch.tensor([0, 0, 0, 13.0])[:, None] * torch.eye(4))
        net[4].bias.zero_()
    return net.double().eval()


def pictures():
    """Eight pictures: red, green, blue, white, and again."""
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], dtype=torch.float64)
    return rows.repeat(2, 1)[:, :, None, None].expand(8, 3, 8, 8) + 0.01 * nets.images(8).abs().clamp(max=1)


OPTIONS = {"grid_pointing_game": {"confidence": 0.6}}


def test_each_class_is_found_in_its_own_cell():
    model, inputs = colors(), pictures()
    assert model(inputs).softmax(1).amax(1).min() > 0.6
    found = whycam.evaluate(
        model, inputs, ["hires_cam", "eigen_cam"], metrics=["grid_pointing_game"], sanity=0, options=OPTIONS, batch=1
    )
    by = {row["method"]: [] for row in found.rows}
    for row in found.rows:
        by[row["method"]].append(row["value"])
    assert len(by["hires_cam"]) == 2  # mosaics of 2 x 2, from eight pictures
    # a color's evidence is where it is; half of white's lies in the cells of its parts: (3 * 1 + 1 / 2) / 4
    assert by["hires_cam"] == pytest.approx([0.875, 0.875], abs=2e-3)
    for blind in ("eigen_cam", "control: random", "control: centre", "control: edges"):
        assert by[blind] == pytest.approx([0.25, 0.25])
    assert "2 mosaics of 2 x 2 photos" in found.notes[-1]
    assert found.images == 8
    assert "from 2 mosaics" in found.recommendation.text
    again = whycam.evaluate(model, inputs, ["hires_cam"], metrics=["grid_pointing_game"], sanity=0, options=OPTIONS)
    assert [r["value"] for r in again.rows if r["method"] == "hires_cam"] == pytest.approx(by["hires_cam"], abs=1e-12)


def test_maps_of_a_function_are_asked_about_every_cell():
    asked = []

    def theirs(module, inputs, classes):
        asked.append(classes.tolist())
        return whycam.explain(module, inputs, "hires_cam", target=classes.tolist()).maps

    model, inputs = colors(), pictures()
    arrays = torch.zeros(8, 8, 8)
    found = whycam.evaluate(
        model, inputs, ["hires_cam"], metrics=["grid_pointing_game"], maps={"theirs": theirs, "arrays": arrays},
        sanity=0, controls=False, options=OPTIONS,
    )  # fmt: skip
    values = {
        method: [row["value"] for row in found.rows if row["method"] == method] for method in ("hires_cam", "theirs")
    }
    assert values["theirs"] == pytest.approx(values["hires_cam"])
    assert sorted(each for classes in asked[-4:] for each in classes) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert not any(row["method"] == "arrays" for row in found.rows)  # which are of the images, and of no mosaic


def test_a_method_that_fails_for_one_class_has_no_mean_of_the_others():
    def theirs(module, inputs, classes):
        if classes[0] == 3:
            raise whycam.WhycamError("not white")
        return whycam.explain(module, inputs, "hires_cam", target=classes.tolist()).maps

    found = whycam.evaluate(
        colors(), pictures(), ["hires_cam"], metrics=["grid_pointing_game"], maps={"theirs": theirs}, sanity=0,
        controls=False, options=OPTIONS, batch=1,
    )  # fmt: skip
    assert {row["method"] for row in found.rows} == {"hires_cam"}
    assert "not white" in found.failures["grid_pointing_game of theirs at -"]


class OneSize(nn.Module):
    """Takes pictures of 8 x 8 alone."""

    def __init__(self):
        super().__init__()
        self.inner = colors()

    def forward(self, x):
        return self.inner(x.reshape(-1, 3, 8, 8)[: len(x)] if x.shape[-1] == 8 else x.view(len(x), 3, 8, 8))


def test_a_network_of_one_size_keeps_its_other_figures_and_shrinks_mosaics():
    model, inputs = OneSize(), pictures()
    asked = {"metrics": ["entropy", "grid_pointing_game"], "sanity": 0, "controls": False}
    found = whycam.evaluate(model, inputs, ["hires_cam"], options=OPTIONS, **asked)
    assert {row["metric"] for row in found.rows} == {"entropy"}
    assert len(found.rows) == 8
    assert "grid_pointing_game" in found.failures
    small = {"grid_pointing_game": {"confidence": 0.6, "shrink": True}}
    found = whycam.evaluate(model, inputs, ["hires_cam"], options=small, **asked)
    assert not found.failures
    values = [row["value"] for row in found.rows if row["metric"] == "grid_pointing_game"]
    assert values == pytest.approx([0.875, 0.875], abs=2e-3)


def test_photos_of_several_sizes_keep_their_other_figures(monkeypatch):
    model = whycam.VisionModel(colors().float(), preprocess=lambda image: transforms(image), labels=list("rgbw"))
    photos = [
        Image.fromarray((picture.movedim(0, 2) * 255).clamp(0, 255).byte().numpy()).resize((side, side))
        for picture, side in zip(pictures(), (8, 8, 8, 8, 16, 16, 16, 16), strict=True)
    ]
    found = whycam.evaluate(
        model, photos, ["hires_cam"], metrics=["entropy", "grid_pointing_game"], sanity=0, controls=False, batch=4
    )
    assert len(found.rows) == 8
    assert "of one size" in found.failures["grid_pointing_game"]


def transforms(image):
    return torch.from_numpy(np.asarray(image).copy()).movedim(2, 0).float() / 255


def test_too_few_photos_are_a_failure_of_the_metric_alone():
    found = whycam.evaluate(
        colors(), pictures()[:3], ["hires_cam"], metrics=["grid_pointing_game", "entropy"], sanity=0, options=OPTIONS
    )
    assert "4 classes" in found.failures["grid_pointing_game"]
    assert {row["metric"] for row in found.rows} == {"entropy"}


def test_mosaics_go_on_where_they_were_stopped(monkeypatch, tmp_path):
    asked = (["hires_cam"], None, ["entropy", "grid_pointing_game"])
    given = {"sanity": 0, "options": OPTIONS, "batch": 1}
    whole = whycam.evaluate(colors(), pictures(), *asked, **given)
    measured, real = [], on_mosaics._measure

    def stopping(*args):
        if len(measured) == 1:
            raise KeyboardInterrupt
        measured.append(args[2])
        real(*args)

    monkeypatch.setattr(on_mosaics, "_measure", stopping)
    with pytest.raises(Interrupted) as caught:
        whycam.evaluate(colors(), pictures(), *asked, folder=tmp_path, **given)
    (first,) = [row for row in caught.value.evaluation.rows if row["metric"] == asked[2][1] and row["layer"] != "-"]
    assert caught.value.evaluation.images == 8
    monkeypatch.setattr(on_mosaics, "_measure", lambda *args: (measured.append(args[2]), real(*args)))
    for _ in range(2):  # the second time nothing is left
        found = whycam.evaluate(colors(), pictures(), *asked, folder=tmp_path, **given)
        assert list(map(str, found.rows)) == list(map(str, whole.rows))
        assert (found.notes[-1], found.images) == (whole.notes[-1], 8)
        assert measured == [[0], [1]]
    assert first in found.rows
    assert {len(set(row["sample"].split("+"))) for row in found.rows if row["metric"] == asked[2][1]} == {4}
    # another picture is in another mosaic
    other = whycam.evaluate(colors(), pictures() * 0.99, *asked, folder=tmp_path, **given)
    assert (measured, other.images) == ([[0], [1], [0], [1]], 8)
