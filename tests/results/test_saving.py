"""Files: raw maps that can be read back, and records that say how they came about."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import whycam
from whycam.kit.files import write_whole
from whycam.pictures.preprocess import Preprocess


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()


def test_the_raw_map_and_how_it_came_about_can_be_read_back(model, tmp_path):
    e = whycam.explain(model, torch.rand(2, 3, 8, 6), "layer_cam", target=[0, 2], labels=["a", "b", "c"])
    written = e.save(tmp_path / "new")
    assert [path.name for path in written] == [
        f"sample{i}.layer_cam{end}" for i in (0, 1) for end in (".overlay.png", ".map.npy", ".json")
    ]
    np.testing.assert_array_equal(np.load(written[4]), e.maps[1].numpy())
    record = json.loads(written[5].read_text())
    assert record["target"] == "c"
    assert record["score"] == pytest.approx(float(e.scores[1]))
    assert record["method"] == "layer_cam"
    assert record["layer"]["name"] == "1"
    assert record["layer"]["grid"] == [8, 6]
    assert record["status"]["kind"] == "ok"
    assert record["cost"]["forwards"] == e.cost.forwards
    assert record["prediction"]["label"] in "abc"
    assert not list((tmp_path / "new").glob(".*"))


def test_a_photo_gives_its_name_and_its_geometry(model, tmp_path):
    Image.new("RGB", (40, 20), "red").save(tmp_path / "my cat.png")
    pre = Preprocess((8, 8), resize_to=8)
    e = whycam.explain(model, str(tmp_path / "my cat.png"), preprocess=pre)
    overlay, _, record = e.save(tmp_path)
    assert overlay.name == "my_cat.grad_cam.overlay.png"
    with Image.open(overlay) as picture:
        assert picture.width >= 40
    record = json.loads(record.read_text())
    assert record["photo"].endswith("my cat.png")
    assert record["geometry"]["photo_size"] == [20, 40]
    assert record["geometry"]["offset"] == [0.0, 10.0]


def test_two_photos_of_one_name_do_not_overwrite_each_other(model, tmp_path):
    paths = []
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "cat.png")
        Image.new("RGB", (8, 8), "red").save(paths[-1])
    written = whycam.explain(model, paths, preprocess=Preprocess((8, 8))).save(tmp_path)
    assert len({path.name for path in written}) == 9
    assert {path.name.split(".")[0] for path in written} == {"cat", "cat-2", "cat-3"}


def test_a_name_that_looks_numbered_is_not_overwritten(model, tmp_path):
    paths = []
    for folder, name in (("a", "cat-3"), ("b", "cat"), ("c", "cat"), ("d", "Cat"), ("e", "cat-2")):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / f"{name}.png")
        Image.new("RGB", (8, 8), "red").save(paths[-1])
    written = whycam.explain(model, paths, preprocess=Preprocess((8, 8))).save(tmp_path)
    assert len({path.name.casefold() for path in written}) == 15


def test_a_map_that_is_not_finite_is_saved_with_its_status(model, tmp_path):
    batch = torch.rand(1, 3, 8, 8)
    batch[0, 0, 0, 0] = torch.nan
    (*_, record) = whycam.explain(model, batch).save(tmp_path)
    read = json.loads(record.read_text())
    assert read["status"]["kind"] == "non-finite"
    assert "the input" in read["status"]["message"]
    assert read["map"]["max"] is None


def test_maps_of_signals_are_saved_without_a_picture(tmp_path):
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    written = whycam.explain(model, torch.rand(1, 2, 16), target=1).save(tmp_path)
    assert [path.suffix for path in written] == [".npy", ".json"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "deep" / "file", b"old")
    assert path.read_bytes() == b"old"

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_file_is_no_folder_to_save_into(model, tmp_path):
    e = whycam.explain(model, torch.rand(1, 3, 8, 8))
    with pytest.raises(whycam.WhycamError, match="named like one; for one picture"):
        e.save(tmp_path / "hello.png")
    (tmp_path / "notes").write_text("")
    with pytest.raises(whycam.WhycamError, match="is a file; for one picture"):
        e.save(tmp_path / "notes")


def test_parts_and_values_can_be_read_back(model, tmp_path):
    plain = whycam.explain(model, torch.rand(2, 3, 8, 6), "layer_cam", target=0)
    record = json.loads(plain.save(tmp_path)[2].read_text())
    assert (record["parts"], record["values"]) == (None, {})
    parts = torch.rand(2, 5, 8, 6)
    e = replace(plain, parts=parts, values={"residual": torch.tensor([0.25, torch.nan])})
    written = e.save(tmp_path)
    assert [path.name for path in written] == [
        f"sample{i}.layer_cam{end}" for i in (0, 1) for end in (".overlay.png", ".map.npy", ".parts.npy", ".json")
    ]
    np.testing.assert_array_equal(np.load(written[6]), parts[1].numpy())
    np.testing.assert_array_equal(np.load(written[5]), plain.maps[1].numpy())
    with Image.open(written[0]) as picture:
        assert picture.size[1] > 8  # on the numbers of its parts
    records = [json.loads(written[k].read_text()) for k in (3, 7)]
    assert records[0]["parts"] == {"shape": [5, 8, 6]}
    assert records[0]["values"] == {"residual": 0.25}
    assert records[1]["values"] == {"residual": None}
