"""A run over a set of images: what `explain` says of each photo alone, each exactly once."""

import csv
import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import nets
import numpy as np
import pytest
import torch
from PIL import Image

import whycam
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.evaluation.columns import Measured
from whycam.pictures.colormaps import colorize
from whycam.results.heat import map_heat
from whycam.results.look import Look
from whycam.runs import local
from whycam.runs.decoding import decoded
from whycam.runs.explaining import Worker, usual_batch
from whycam.runs.keeping import Kept
from whycam.runs.sources import Item, open_source
from whycam.targets import Boxes

PREPROCESS = whycam.Preprocess((16, 16), "stretch", mean=(0.5,) * 3, std=(0.25,) * 3)
LABELS = [f"class {number}" for number in range(5)]


@pytest.fixture
def vision():
    return whycam.VisionModel(nets.plain().float(), PREPROCESS, LABELS, "plain")


@pytest.fixture
def folder(tmp_path):
    """Seven photos, two of them in a folder below, and a file that is none."""
    pixels = torch.randint(0, 256, (7, 20, 24, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    where = tmp_path / "photos"
    (where / "b").mkdir(parents=True)
    for number, each in enumerate(pixels):
        Image.fromarray(each.numpy()).save(where / ("b" if number > 4 else ".") / f"{number}.png")
    (where / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return where


IDS = ["0.png", "1.png", "2.png", "3.png", "4.png", "b/5.png", "b/6.png"]


def pixels(path):
    with Image.open(path) as file:
        return np.asarray(file)


def rows(run):
    """Its rows as dicts, by image, without the maps."""
    return {row["source"]: row for row in run.table.to_pylist()}


@pytest.mark.parametrize("workers", [0, 2])
def test_every_photo_has_the_map_that_explain_makes(vision, folder, tmp_path, workers):
    run = whycam.run(vision, folder, tmp_path / "out", method="layer_cam", batch=3, workers=workers, maps="float32")
    held = rows(run)
    assert sorted(held) == sorted([*IDS, "broken.png"])
    for number, row in enumerate(run.table.to_pylist()):
        if row["source"] == "broken.png":
            assert row["status"] is None
            assert "damaged" in row["error"] or "decoded" in row["error"]
            with pytest.raises(whycam.WhycamError, match=r"broken\.png has no map"):
                run[number]
            continue
        alone = whycam.explain(vision, folder / row["source"], "layer_cam")
        torch.testing.assert_close(run[number].maps, alone.maps, rtol=1e-5, atol=1e-7)
        assert row["score"] == pytest.approx(float(alone.scores[0]), rel=1e-5)
        assert (row["prediction"], row["prediction_index"]) == (alone.predictions[0].name, alone.predictions[0].index)
        assert row["probability"] == pytest.approx(alone.predictions[0].probability, rel=1e-5)
        assert (row["target"], row["layer"], row["method"]) == (alone.target[0], alone.layer.name, "layer_cam")
        assert (row["status"], row["error"]) == (alone.status[0].kind, None)
        assert (row["height"], row["width"]) == (20, 24)
        again = run.explanation(number, folder / row["source"])
        assert np.array_equal(np.asarray(again.overlay()), np.asarray(alone.overlay()))
        torch.testing.assert_close(run[number].heatmaps(), alone.heatmaps(), rtol=1e-4, atol=1e-6)
    assert len(run) == 8


def test_the_same_command_goes_on_and_asks_only_what_is_left(vision, folder, tmp_path, monkeypatch):
    whole = whycam.run(vision, folder, tmp_path / "whole", method="grad_cam", batch=2, workers=0)
    real, asked = Session.run, []

    def stopping(session, batch, request):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(batch.inputs))
        return real(session, batch, request)

    monkeypatch.setattr(Session, "run", stopping)
    with pytest.raises(KeyboardInterrupt):
        whycam.run(vision, folder, tmp_path / "out", method="grad_cam", batch=2, workers=0)
    first = len(whycam.open_run(tmp_path / "out"))
    assert first == sum(asked) == 4
    monkeypatch.setattr(Session, "run", lambda *given: (asked.append(len(given[1].inputs)), real(*given))[1])
    run = whycam.run(vision, folder, tmp_path / "out", method="grad_cam", batch=2, workers=0)
    assert sum(asked) == 7
    assert {name: row["score"] for name, row in rows(run).items()} == pytest.approx(
        {name: row["score"] for name, row in rows(whole).items()}
    )
    assert len(run) == len(rows(run)) == 8  # each once
    whycam.run(vision, folder, tmp_path / "out", method="grad_cam", batch=2, workers=0)
    assert sum(asked) == 7


def test_another_question_is_refused_and_begins_beside_where_asked_to(vision, folder, tmp_path):
    whycam.run(vision, folder, tmp_path / "out", method="grad_cam", workers=0)
    with pytest.raises(whycam.WhycamError, match=r"methods was \['grad_cam'\] and is \['fem'\]"):
        whycam.run(vision, folder, tmp_path / "out", method="fem", workers=0)
    with pytest.raises(whycam.WhycamError, match="maps was 'float16' and is 'float32'"):
        whycam.run(vision, folder, tmp_path / "out", method="grad_cam", workers=0, maps="float32")
    beside = whycam.run(vision, folder, tmp_path / "out", method="fem", workers=0, new=True)
    assert beside.folder == tmp_path / "out-2"
    assert {row["method"] for row in rows(beside).values()} == {"fem", None}


def test_a_photo_that_is_mended_is_asked_again_where_asked_to(vision, folder, tmp_path):
    whycam.run(vision, folder, tmp_path / "out", workers=0)
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(folder / "broken.png")
    assert rows(whycam.run(vision, folder, tmp_path / "out", workers=0))["broken.png"]["error"]
    mended = whycam.run(vision, folder, tmp_path / "out", workers=0, retry=True)
    assert rows(mended)["broken.png"]["error"] is None
    assert len(mended) == 8


def test_methods_layers_and_targets_in_one_pass_are_a_row_each(vision, folder, tmp_path):
    asked = (["grad_cam", "layer_cam", "cam"], ["relu1", "relu2"], [0, "class 3"])
    run = whycam.run(
        vision, folder / "0.png", tmp_path / "out", methods=asked[0], layers=asked[1], targets=asked[2], workers=0,
        maps="float32",
    )  # fmt: skip
    alone = whycam.compare(vision, folder / "0.png", *asked)
    table = run.table.to_pylist()
    kept = {(row["method"], row["layer"], row["target"]): n for n, row in enumerate(table) if row["error"] is None}
    assert len(kept) == len(alone)
    for (method, layer, _), each in alone.items():
        torch.testing.assert_close(run[kept[method, layer, each.target[0]]].maps, each.maps, rtol=1e-5, atol=1e-7)
    refused = {(row["method"], row["layer"]): row["error"] for row in table if row["error"] is not None}
    assert refused == {key[:2]: why for key, why in alone.failures.items()}
    with pytest.raises(whycam.OptionError, match="both came"):
        whycam.run(vision, folder, tmp_path / "no", method="fem", targets=[1])


def test_targets_that_the_source_says_are_asked_about(vision, folder, tmp_path):
    listed = folder / "list.csv"
    with listed.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "target"], ["1.png", ""], ["0.png", "3"], ["2.png", "class 1"]])
    run = whycam.run(vision, listed, tmp_path / "out", method="grad_cam", workers=0, maps="float32")
    held = rows(run)
    assert held["0.png"]["target"] == "class 3"
    assert held["2.png"]["target"] == "class 1"
    assert held["1.png"]["target"] == held["1.png"]["prediction"]
    number = run.table["source"].to_pylist().index("0.png")
    alone = whycam.explain(vision, folder / "0.png", "grad_cam", target=3)
    torch.testing.assert_close(run[number].maps, alone.maps, rtol=1e-5, atol=1e-7)


def test_half_precision_is_within_its_rounding(vision, folder, tmp_path):
    run = whycam.run(vision, folder / "0.png", tmp_path / "out", method="grad_cam", workers=0)
    alone = whycam.explain(vision, folder / "0.png", "grad_cam").maps
    assert (run[0].maps - alone).abs().max() <= alone.abs().max() * 2**-11


def test_an_image_that_the_network_refuses_is_a_row_and_the_others_are_explained(vision, tmp_path):
    def shrinking(image):
        return torch.from_numpy(np.asarray(image).copy()).movedim(2, 0).float() / 255

    photos = [("large", np.full((9, 9, 3), 100, np.uint8)), ("dot", np.full((1, 1, 3), 100, np.uint8)),
              ("other", np.full((9, 9, 3), 50, np.uint8))]  # fmt: skip
    model = whycam.VisionModel(vision.module, shrinking, LABELS)
    held = rows(whycam.run(model, photos, tmp_path / "out", method="grad_cam", workers=0))
    assert held["large"]["error"] is held["other"]["error"] is None
    assert "spatial axes" in held["dot"]["error"]
    assert (held["dot"]["height"], held["dot"]["width"]) == (1, 1)
    with pytest.raises(whycam.WhycamError, match="spatial axes"):  # nothing can be explained: the question is at fault
        whycam.run(model, photos[1:2], tmp_path / "none", method="grad_cam", workers=0)


def test_no_more_is_drawn_from_a_source_than_is_under_way(vision, tmp_path):
    drawn = []

    def endless():
        number = 0
        while True:
            drawn.append(number)
            yield f"{number}", np.full((8, 8, 3), number % 256, np.uint8)
            number += 1

    several = decoded(iter([]), None, batch=2, workers=0)
    assert list(several) == []
    items = open_source(endless())
    for done, chunk in enumerate(decoded(items, PREPROCESS, batch=4, workers=0)):
        assert [each.item.id for each in chunk] == [f"{4 * done + k}" for k in range(4)]
        assert len(drawn) <= 4 * (done + 1) + 4
        if done == 5:
            break


def test_the_model_is_left_as_found(vision, folder, tmp_path):
    before = nets.state(vision.module)
    whycam.run(vision, folder, tmp_path / "out", methods=["grad_cam", "score_cam", "guided_backprop"], workers=0)
    assert nets.differences(before, nets.state(vision.module)) == []


def test_a_summary_counts_images_rows_statuses_and_classes(vision, folder, tmp_path):
    run = whycam.run(vision, folder, tmp_path / "out", methods=["grad_cam", "fem"], workers=0)
    found = run.summary()
    table = run.table.to_pylist()
    assert (found["images"], found["rows"], found["failed"]) == (8, 15, 1)
    assert sum(found["status"].values()) == 14
    assert sum(found["prediction"].values()) == 14
    assert all(not math.isnan(row["score"]) for row in table if row["score"] is not None)


def test_metrics_are_columns_with_the_values_of_evaluate(vision, folder, tmp_path):
    asked = {"methods": ["grad_cam", "eigen_cam"], "options": {"insertion": {"steps": 4}}, "targets": [1, 3]}
    metrics = ["insertion", "average_drop"]
    run = whycam.run(vision, folder, tmp_path / "out", **asked, metrics=metrics, batch=3, workers=0)
    table = whycam.evaluate(vision, [folder / name for name in IDS], metrics=metrics, **asked, sanity=0, controls=False)
    called = dict(zip(dict.fromkeys(row["sample"] for row in table.rows), IDS, strict=True))
    wanted = {(called[row["sample"]], row["method"], row["target"], row["metric"]): row["value"] for row in table.rows}
    held = [row for row in run.table.to_pylist() if row["source"] != "broken.png"]
    assert len(held) == 21  # Eigen-CAM explains no class, and is measured by the first one
    for row in held:
        target = (row["target"] or "class 1").removeprefix("class ")
        for name in metrics:
            expected = wanted[row["source"], row["method"], target, name]
            assert row[f"metric.{name}"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert {row["error"] for row in held} == {None}
    assert run.asked["metrics"] == {"insertion": {"steps": "4"}, "average_drop": {}}
    with pytest.raises(whycam.WhycamError, match=r"another run: metrics was \{'insertion'"):
        whycam.run(vision, folder, tmp_path / "out", **{**asked, "options": {}}, metrics=["insertion"], workers=0)


def test_a_metric_that_cannot_be_is_said_and_the_map_stays(vision, folder, tmp_path, monkeypatch):
    from whycam.evaluation.quantities import Asking

    def refuse(*_):
        raise whycam.WhycamError("no such thing here")

    monkeypatch.setattr(Asking, "measure", refuse)
    run = whycam.run(vision, folder / "b", tmp_path / "out", method="grad_cam", metrics=["insertion"], workers=0)
    assert run.failures == [(name, "insertion: no such thing here") for name in ("5.png", "6.png")]
    assert run.table["metric.insertion"].to_pylist() == [None, None]
    assert run[0].maps.any()


def test_a_metric_that_needs_a_truth_is_refused_before_any_work(vision, folder, tmp_path):
    with pytest.raises(whycam.WhycamError, match="asks where the targets are"):
        whycam.run(vision, folder, tmp_path / "out", metrics=["pointing_game"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_are_those_of_the_explanation(vision, folder, tmp_path, workers):
    look = {"colormap": "jet", "opacity": 0.3}
    run = whycam.run(
        vision, folder, tmp_path / "out", methods=["grad_cam", "layer_cam"], overlays="png", heatmaps="png", batch=2,
        workers=workers, maps="float32", **look,
    )  # fmt: skip
    held = run.table.to_pylist()
    assert [row["overlay"] for row in held if row["source"] == "broken.png"] == [None]
    for number, row in enumerate(held):
        if row["error"] is not None:
            continue
        assert row["overlay"] == f"overlays/{row['source']}.{row['method']}.png"
        one = run.explanation(number, folder / row["source"])
        drawn = pixels(run.folder / row["overlay"])
        assert np.abs(drawn.astype(int) - np.asarray(one.overlay(**look))).max() <= 1
        alone = pixels(run.folder / row["heatmap"])
        expected = colorize(map_heat(one, Look())[0], "jet")
        assert alone.shape == (16, 16, 3)
        assert (np.abs(alone.astype(int) - expected) > 1).mean() < 0.01  # a color may be the next one by rounding
    assert len(list((run.folder / "overlays").rglob("*.png"))) == 14


def test_no_more_is_explained_than_is_drawn(vision, tmp_path):
    taken = []
    items = (taken.append(number) or Item(f"{number}", np.full((8, 8, 3), number, np.uint8)) for number in range(40))
    request = Request.one("grad_cam", None, None, None, {})
    worker = Worker(Session(vision), request, Kept(overlays="jpg"), tmp_path)
    with local.explained(items, worker, batch=2, workers=0) as explained:
        for number, several in enumerate(explained):
            assert [row["source"] for row in several] == [f"{2 * number}", f"{2 * number + 1}"]
            assert len(taken) <= 2 * number + 6
            if number > 4:
                break


def test_photos_are_drawn_small_where_they_are_large_and_maps_still_lie_right(vision, tmp_path):
    large = Image.fromarray(np.full((30, 4100, 3), 90, np.uint8))
    run = whycam.run(vision, [("large", large)], tmp_path / "out", overlays="png", maps="float32", workers=1)
    drawn = pixels(run.folder / run.table["overlay"][0].as_py())
    assert drawn.shape == (15, 2048, 3)
    alone = whycam.explain(vision, np.asarray(large)).overlay()
    assert np.array_equal(drawn, np.asarray(alone))
    assert (run.table["width"][0].as_py(), run.table["height"][0].as_py()) == (4100, 30)


def test_files_of_pictures_are_named_apart():
    from whycam.runs.keeping import file_name

    assert file_name("cats/one.jpg") == "cats/one.jpg"
    odd = ["../one.jpg", "/one.jpg", "one.jpg ", "a:b", "a?b", "x" * 81, "x" * 82, "", "..", "<script>"]
    made = [file_name(each) for each in odd]
    assert len({*made, "one.jpg"}) == len(odd) + 1
    for each in made:
        assert all(part and not part.startswith(".") and len(part) < 100 for part in each.split("/"))
    longest = file_name("\u56f3" * 83 + ".jpg")  # a disk's longest name, in bytes
    assert len(f".{longest}.generic_attention-12.webp.12345678".encode()) < 256


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"overlays": "gif"}, "overlays are drawn as jpg, webp, png, not 'gif'"),
        ({"heatmaps": "png", "colormap": "no such"}, "no such"),
    ],
)
def test_pictures_that_cannot_be_are_refused_before_any_work(vision, folder, tmp_path, more, said):
    with pytest.raises(whycam.WhycamError, match=said):
        whycam.run(vision, folder, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_while_drawing_keeps_what_was_done(vision, folder, tmp_path, monkeypatch):
    import whycam.runs.keeping as keeping

    real, written = keeping.write_whole, []

    def full(path, data, **how):
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        written.append(path)
        return real(path, data, **how)

    monkeypatch.setattr(keeping, "write_whole", full)
    asked = {"method": "grad_cam", "overlays": "jpg", "batch": 2, "workers": 0}
    with pytest.raises(whycam.WhycamError, match="No space left"):
        whycam.run(vision, folder, tmp_path / "out", **asked)
    assert len(whycam.open_run(tmp_path / "out")) == 4
    monkeypatch.undo()
    run = whycam.run(vision, folder, tmp_path / "out", **asked)
    assert sorted(run.table["source"].to_pylist()) == sorted([*IDS, "broken.png"])


def test_labels_come_from_folders_and_columns_by_their_names(vision, folder, tmp_path):
    run = whycam.run(vision, folder, tmp_path / "out", label_from="folder", workers=0)
    assert {row["source"]: row["label"] for row in run.table.to_pylist()}["b/5.png"] == "b"
    (tmp_path / "list.csv").write_text(f"where,class\n{folder / '0.png'},3\n")
    columns = {"photo": "where", "target": "class"}
    run = whycam.run(vision, tmp_path / "list.csv", tmp_path / "listed", columns=columns, workers=0)
    assert run.table["target"].to_pylist() == ["class 3"]


def test_another_photo_is_not_drawn_on(vision, folder, tmp_path):
    run = whycam.run(vision, folder / "b", tmp_path / "out", method="grad_cam", workers=0)
    assert run[0].title == "Grad-CAM"
    tall = np.zeros((30, 12, 3), np.uint8)
    both = whycam.run(vision, [("5", folder / "b" / "5.png"), ("tall", tall)], tmp_path / "both", workers=0)
    assert both.explanation(1, tall).overlay(caption=False).size == (12, 30)
    with pytest.raises(
        whycam.WhycamError, match=r"5\.png was 20 x 24 pixels, and this photo is 24 x 20: it is another"
    ):
        run.explanation(0, np.zeros((24, 20, 3), np.uint8))


def test_where_the_input_lies_is_kept_where_it_was_measured(vision, tmp_path):
    def prepare(image):
        small = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR), np.float32)
        return torch.from_numpy(small).permute(2, 0, 1) / 255

    photo = np.linspace(0, 255, 20 * 24 * 3).reshape(20, 24, 3).astype(np.uint8)
    measured = whycam.VisionModel(vision.module, prepare, LABELS, "measured")
    run = whycam.run(measured, [("ramp", photo)], tmp_path / "out", method="layer_cam", workers=0, maps="float32")
    alone = whycam.explain(measured, photo, "layer_cam")
    assert run[0].context.geometries == alone.context.geometries
    drawn = run.explanation(0, photo).overlay()
    assert np.array_equal(np.asarray(drawn), np.asarray(alone.overlay()))


def test_auto_is_the_choice_that_is_kept(vision, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WHYCAM_CACHE", str(tmp_path / "cache"))
    run = whycam.run(vision, folder / "b", tmp_path / "usual", method="auto", workers=0, progress=True)
    assert set(run.table["method"].to_pylist()) == {"grad_cam"}
    said = capsys.readouterr().err
    assert "auto: nothing is known yet" in said
    assert "8 images or more" not in said  # of which a run has enough
    kept = SimpleNamespace(method="hires_cam", layer="relu1", text="HiResCAM it is", path=None)
    monkeypatch.setattr("whycam.evaluation.choosing.recalled", lambda _: kept)
    run = whycam.run(vision, folder / "b", tmp_path / "kept", method="auto", workers=0, progress=True)
    assert {*run.table["method"].to_pylist(), *run.table["layer"].to_pylist()} == {"hires_cam", "relu1"}
    assert "auto: HiResCAM it is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"batch": 0}, "batch is a number of images, 1 or more, not 0"),
        ({"workers": -1}, "workers is a number of processes, 0 or more, not -1"),
        ({"target": [0, 1, 2, 3, 4, 0, 1]}, "asked of every image, and one for each came"),
        ({"targets": [torch.tensor([1, 2])]}, "asked of every image, and one for each came"),
    ],
)
def test_what_no_run_can_be_is_refused_before_any_work(vision, folder, tmp_path, more, said):
    with pytest.raises(whycam.OptionError, match=said):
        whycam.run(vision, folder, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_maps_are_kept_as_a_type_that_there_is():
    with pytest.raises(whycam.OptionError, match="maps are kept as float16 or float32, not 'float8'"):
        Kept(maps="float8")


def test_other_names_of_classes_and_another_precision_are_other_runs(vision, folder, tmp_path):
    whycam.run(vision, folder, tmp_path / "out", method="score_cam", workers=0)
    other = whycam.VisionModel(vision.module, PREPROCESS, LABELS[::-1], "plain")
    with pytest.raises(whycam.WhycamError, match="another run: labels was"):
        whycam.run(other, folder, tmp_path / "out", method="score_cam", workers=0)
    with pytest.raises(whycam.WhycamError, match="another run: precision was None and is 'bfloat16'"):
        whycam.run(vision, folder, tmp_path / "out", method="score_cam", workers=0, precision="bfloat16")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names on a disk are Unicode")
def test_a_broken_file_whose_name_is_no_unicode_is_a_row_with_its_reason(vision, tmp_path):
    where = tmp_path / "photos"
    where.mkdir()
    Path(os.fsdecode(bytes(where) + b"/bad\xff.png")).write_bytes(b"none")
    run = whycam.run(
        vision, [*where.iterdir(), ("a\udcfe", np.zeros((9, 9, 3), np.uint8))], tmp_path / "out", workers=0
    )
    assert [(name.rpartition("/")[2], "bad\\xff.png: this is not" in why) for name, why in run.failures] == [
        ("bad\\xff.png", True)
    ]
    assert run.table["source"][1].as_py() == "a\\xfe"
    again = whycam.run(vision, [("a\udcfe", np.zeros((9, 9, 3), np.uint8))], tmp_path / "out", workers=0)
    assert len(again) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files as Linux lists them")
def test_photos_of_a_batch_take_few_open_files_and_each_has_its_own_input_and_place():
    items = [Item(f"{n}", np.full((20 + n % 2, 24, 3), 3 * n, np.uint8)) for n in range(60)]
    items[7] = Item("7", b"none")
    prepare = whycam.Preprocess((16, 16), "none", crop=False)
    before = len([*Path("/proc/self/fd").iterdir()])
    loaded = decoded(items, prepare, batch=30, workers=1)
    held = [*loaded]
    assert len([*Path("/proc/self/fd").iterdir()]) - before < 20
    for item, each in zip(items, [each for several in held for each in several], strict=True):
        assert each.item.id == item.id
        if item.id == "7":
            assert each.prepared is None
            continue
        tensor, place = prepare(whycam.read_photo(item.photo))
        assert torch.equal(each.prepared[0], tensor)
        assert each.prepared[1] == place


def test_images_of_a_target_that_stands_for_several_things_come_each_alone(vision, tmp_path, monkeypatch):
    request, asked = Request.several(["grad_cam"], None, [Boxes()], None, {}), []

    def maps(_, several):
        asked.append([each.item.id for each in several])
        return Measured({}, {})

    monkeypatch.setattr(Worker, "_maps", maps)
    items = [Item(f"{number}", np.zeros((9, 9, 3), np.uint8)) for number in range(3)]
    for several in decoded(items, PREPROCESS, batch=3, workers=0):
        assert len([*Worker(Session(vision), request, Kept(), tmp_path).explained(several)]) == 3
    assert asked == [["0"], ["1"], ["2"]]  # else each would have as many rows as the one with the most boxes


def test_one_target_that_stands_for_several_things_is_asked_as_a_list_of_it(vision, folder, tmp_path, monkeypatch):
    seen = []

    def spy(*given, **_):
        seen.append(given[3])
        raise whycam.WhycamError("seen")

    monkeypatch.setattr("whycam.explainer.running.run", spy)
    for asked in ({"method": "odam", "target": Boxes(0.5)}, {"methods": ["odam"], "targets": [Boxes(0.5)]}):
        with pytest.raises(whycam.WhycamError, match="seen"):
            whycam.run(vision, folder, tmp_path / "out", **asked)
    first, second = ((each.targets, [method.name for method in each.methods]) for each in seen)
    assert first == second == ((Boxes(0.5),), ["odam"])


def test_a_map_that_is_not_finite_makes_the_exit_status_one(vision, folder, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from whycam.cli import app

    torch.nn.init.constant_(vision.module.conv2.weight, float("nan"))
    monkeypatch.setattr("whycam.models.load.load", lambda *_, **__: vision)
    done = CliRunner().invoke(app, ["run", str(folder / "b"), "-o", str(tmp_path / "out"), "--workers", "0"])
    assert "non-finite 2" in done.stdout
    assert done.exit_code == 1


def test_on_a_cpu_few_images_are_explained_at_once(vision, folder, tmp_path, monkeypatch):
    sizes, real = [], Session.run
    monkeypatch.setattr(
        Session, "run", lambda session, batch, request: sizes.append(len(batch.inputs)) or real(session, batch, request)
    )
    whycam.run(vision, folder, tmp_path / "out", workers=0)
    assert sizes == [4, 3]
    monkeypatch.setattr("whycam.runs.explaining.device_of", lambda _: torch.device("cuda"))
    assert usual_batch(Session(vision)) == 16
