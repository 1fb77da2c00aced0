"""Exports of a run: COCO's JSON by hand, pictures as the explanations draw them, and what is left out."""

import io
import json
import sys
from dataclasses import asdict, replace
from types import ModuleType
from typing import ClassVar

import nets
import numpy as np
import pytest
from kept_runs import maps, run_of
from PIL import Image

import whycam
from whycam.pictures.geometry import Geometry

SAME = Geometry((4, 4), (4, 4), (1.0, 1.0), (0.0, 0.0), (0.0, 0.0, 4.0, 4.0))
MAP = np.zeros((4, 4))
MAP[1, 1:3], MAP[2, 1], MAP[2, 2] = 5, 4, 1  # the last is at 0.2 of the peak, which is not above it


def placed(*several, geometry=SAME, **other):
    height, width = geometry.photo_size
    return maps(*several, geometry=json.dumps(asdict(geometry)), height=height, width=width, **other)


def test_coco_by_hand(tmp_path):
    wide = replace(SAME, photo_size=(4, 8), offset=(0.0, 2.0))  # the middle of a wide photo
    rows = [
        *placed(MAP, score=2.5, prediction="dog", probability=0.75),
        *placed(1 - MAP / 5, geometry=wide, target=None, prediction="ant", method="eigen_cam"),
        *placed(-MAP, status="no positive evidence", message="all is against it."),
        *maps(MAP, height=4, width=4),
        {"error": "a/4.jpg: the file is damaged"},
    ]
    run = run_of(tmp_path / "run", rows)
    made = run.to_coco(tmp_path / "coco.json")
    assert (made.to, made.count) == (str(tmp_path / "coco.json"), 2)
    assert dict(made.left_out) == {
        "2.jpg": "its map has no bright part: no positive evidence: all is against it.",
        "3.jpg": "where the map lies on the photo is not known, which only a Preprocess says",
        "4.jpg": "a/4.jpg: the file is damaged",
    }
    document = json.loads((tmp_path / "coco.json").read_text())
    assert document["info"] == {"description": "grad_cam maps of by hand"}
    assert document["categories"] == [{"id": 1, "name": "ant"}, {"id": 2, "name": "cat"}]
    assert document["images"] == [
        {"id": number + 1, "file_name": f"{number}.jpg", "width": 8 if number == 1 else 4, "height": 4}
        for number in range(4)
    ]
    one, other = document["annotations"]
    assert one == {
        "id": 1,
        "image_id": 1,
        "category_id": 2,
        "iscrowd": 0,
        "score": 2.5,
        "bbox": [1, 1, 2, 2],
        "area": 3,
        "segmentation": {"size": [4, 4], "counts": [5, 2, 2, 1, 6]},
        "attributes": {
            "row": 0, "level": 0.2, "method": "grad_cam", "layer": "top", "status": "ok", "prediction": "dog",
            "probability": 0.75,
        },
    }  # fmt: skip
    assert (other["image_id"], other["category_id"], other["bbox"], other["area"]) == (2, 1, [2, 0, 4, 4], 13)
    # the columns of the photo that the crop left out, then the map's own less three cells
    assert other["segmentation"]["counts"] == [8, 5, 2, 2, 1, 6, 8]
    assert other["attributes"]["method"] == "eigen_cam"


def test_a_level_of_ones_own(tmp_path):
    run = run_of(tmp_path / "run", placed(MAP, error="insertion: it cannot be measured"))  # which takes no map away
    for level, area in ((0.1, 4), (0.2, 3), (0.79, 3), (0.81, 2)):
        run.to_coco(tmp_path / "coco.json", level=level)
        (one,) = json.loads((tmp_path / "coco.json").read_text())["annotations"]
        assert (one["area"], one["attributes"]["level"]) == (area, level)


def test_a_run_without_maps_is_a_document_too(tmp_path):
    made = run_of(tmp_path / "run", []).to_coco(tmp_path / "coco.json")
    assert (made.count, made.left_out) == (0, [])
    held = json.loads((tmp_path / "coco.json").read_text())
    assert (held["images"], held["annotations"], held["categories"]) == ([], [], [])


@pytest.fixture
def photos(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), np.uint8)
    (tmp_path / "photos" / "b").mkdir(parents=True)
    for name, each in zip(["0.png", "1.png", "b/0.png", "b/2.png"], pixels, strict=True):
        Image.fromarray(each).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return tmp_path / "photos"


@pytest.fixture
def run(photos, tmp_path):
    prepare = whycam.Preprocess((16, 16), "stretch", mean=(0.5,) * 3, std=(0.25,) * 3)
    vision = whycam.VisionModel(nets.plain().float(), prepare, [f"class/{number}" for number in range(5)])
    return whycam.run(vision, photos, tmp_path / "out", methods=["grad_cam", "eigen_cam"], workers=0)


def test_pictures_are_the_overlays_in_a_folder_for_each_class(run, photos, tmp_path):
    made = run.to_pictures(tmp_path / "drawn", photos)
    assert made.count == 8
    assert [name for name, _ in made.left_out] == ["broken.png"]
    rows = {(row["source"], row["method"]): (number, row) for number, row in enumerate(run.table.to_pylist())}
    written = {str(path.relative_to(tmp_path / "drawn")) for path in (tmp_path / "drawn").rglob("*.jpg")}
    expected = {}
    for (source, method), (number, row) in rows.items():
        if row["error"] is None:
            name = (row["target"] or row["prediction"]).replace("/", "_")
            expected[f"{name}/{source}.{method}.jpg"] = number, source
    assert written == expected.keys()
    for name, (number, source) in expected.items():
        picture = io.BytesIO()
        run.explanation(number, photos / source).overlay().save(picture, "jpeg", quality=90)
        assert (tmp_path / "drawn" / name).read_bytes() == picture.getvalue()


def test_what_has_no_photo_is_said(run, photos, tmp_path):
    (photos / "0.png").unlink()
    Image.new("RGB", (24, 20)).save(photos / "1.png")
    Image.new("RGB", (24, 20)).save(photos / "new.png")
    made = run.to_pictures(tmp_path / "drawn", photos)
    assert made.count == 4
    left = dict(made.left_out)
    assert left["0.png"] == f"folder {photos}/ has no photo of that id"
    assert left["1.png"] == f"folder {photos}/ holds another photo than was explained"
    assert "broken.png" in left["broken.png"]
    assert "new.png" not in left


def test_what_cannot_be_drawn_is_said(tmp_path):
    run = run_of(tmp_path / "run", maps(MAP))
    made = run.to_pictures(tmp_path / "drawn", [("0.jpg", np.zeros((4, 4, 3), np.uint8))])
    assert made.count == 0
    assert made.left_out == [
        ("0.jpg", "this explanation does not keep what the network was shown, so it cannot be drawn over it.")
    ]


class Label(dict):
    """What FiftyOne's labels are to an export: fields."""

    def __init__(self, **given):
        super().__init__(given)


class Dataset:
    known: ClassVar = {}

    def __init__(self, name, persistent):
        assert persistent
        self.known[name] = self.samples = []
        self.name = name

    def add_samples(self, samples, dynamic):
        assert dynamic
        self.samples += samples

    def delete(self):
        del self.known[self.name]


@pytest.fixture
def fiftyone(monkeypatch):
    """What an export uses of FiftyOne, which is not installed here: with the real one this was checked by hand."""
    module = ModuleType("fiftyone")
    Dataset.known = {}
    vars(module).update(Sample=Label, Heatmap=Label, Classification=Label, Dataset=Dataset)
    module.dataset_exists = Dataset.known.__contains__
    monkeypatch.setitem(sys.modules, "fiftyone", module)
    return Dataset.known


def test_a_data_set_of_fiftyone(run, photos, fiftyone):
    made = run.to_fiftyone("mine", photos)
    assert (made.to, made.count, [name for name, _ in made.left_out]) == ("mine", 8, ["broken.png"])
    samples = {sample["source"]: sample for sample in fiftyone["mine"]}
    assert [*samples] == ["0.png", "1.png", "b/0.png", "b/2.png"]
    for number, row in enumerate(run.table.to_pylist()):
        if row["error"] is None:
            sample = samples[row["source"]]
            assert sample["filepath"] == str(photos / row["source"])
            assert sample["prediction"]["label"] == row["prediction"]
            assert sample["prediction"]["confidence"] == row["probability"]
            heat = sample[row["method"]]
            assert (heat["row"], heat["target"], heat["status"]) == (number, row["target"], row["status"])
            assert heat["map"].shape == (20, 24)
            assert heat["range"] == [0, 1]
            expected = run[number].context.geometries[0].to_photo(run[number].heatmaps()[0])[0]
            assert np.array_equal(heat["map"], expected.numpy())
    with pytest.raises(whycam.WhycamError, match="has a data set 'mine' already"):
        run.to_fiftyone("mine", photos)


def test_half_a_data_set_is_none(run, photos, fiftyone, monkeypatch):
    monkeypatch.setattr("whycam.runs.exports.fiftyone.on_photo", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.to_fiftyone("mine", photos)
    assert fiftyone == {}


def test_large_photos_get_small_heat_maps_and_no_file_no_sample(tmp_path, fiftyone):
    large = replace(SAME, photo_size=(600, 1200), scale=(150.0, 300.0))
    Image.new("RGB", (1200, 600)).save(tmp_path / "0.jpg")
    run = run_of(tmp_path / "run", [*placed(MAP, geometry=large, label="cat"), *placed(MAP)], {
        "layers": [["top"], ["low"]], "targets": ["1", "2"], "methods": ["grad_cam"]
    })  # fmt: skip
    made = run.to_fiftyone("mine", [("0.jpg", tmp_path / "0.jpg"), ("1.jpg", np.zeros((4, 4, 3), np.uint8))])
    (sample,) = fiftyone["mine"]
    assert sample["grad_cam_top_cat"]["map"].shape == (128, 256)
    assert sample["ground_truth"]["label"] == "cat"
    assert "prediction" not in sample
    assert made.left_out == [("1.jpg", "FiftyOne shows files, and this photo is none")]


def test_fiftyone_is_an_extra(run, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(whycam.MissingExtraError, match=r"whycam\[fiftyone\]"):
        run.to_fiftyone("mine", photos)
