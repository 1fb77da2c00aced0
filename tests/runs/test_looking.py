"""Looking at a run: counted, ranked and averaged, beside values by hand."""

import math

import numpy as np
import pytest
import torch
from kept_runs import ASKED, maps, run_of

import whycam
from whycam.runs.store import Store


def test_a_summary_counts(tmp_path):
    run = run_of(tmp_path, [
        {"prediction": "cat", "target": "cat"},
        {"prediction": "dog", "target": "cat", "status": "flat map"},
        {"prediction": "dog", "target": "dog", "method": "fem"},
        {"error": "photos/3.jpg: the file is damaged"},
        {"error": "photos/4.jpg: the file is damaged"},
        {"error": "the network wants 3 channels"},
    ])  # fmt: skip
    assert run.summary() == {
        "images": 6,
        "rows": 6,
        "failed": 3,
        "status": {"ok": 2, "flat map": 1},
        "prediction": {"dog": 2, "cat": 1},
        "target": {"cat": 2, "dog": 1},
        "method": {"grad_cam": 2, "fem": 1},
        "error": {"the file is damaged": 2, "the network wants 3 channels": 1},
    }
    assert [*run.summary()["prediction"]] == ["dog", "cat"]  # the most frequent first


def test_a_run_without_rows_has_a_summary_too(tmp_path):
    assert run_of(tmp_path, []).summary() == {
        "images": 0, "rows": 0, "failed": 0, "status": {}, "prediction": {}, "target": {}, "method": {}, "error": {},
    }  # fmt: skip


def test_the_best_and_the_worst_by_a_number(tmp_path):
    scores = [2.0, None, 5.0, 5.0, -1.0]
    run = run_of(tmp_path, [{"score": score, "prediction": "cd"[number % 2]} for number, score in enumerate(scores)])
    assert run.best("score", 3)["row"].to_pylist() == [2, 3, 0]  # of equal ones the first rows
    assert run.best("score", 2)["source"].to_pylist() == ["2.jpg", "3.jpg"]
    assert run.worst(number=2)["row"].to_pylist() == [4, 0]
    assert run.worst("score", 9)["row"].to_pylist() == [4, 0, 2, 3]
    assert run.best("score", prediction="d")["row"].to_pylist() == [3]
    assert run.best("score", prediction=["c", "d"], status="flat map")["row"].to_pylist() == []
    assert run.best("score", 1, width=640)["row"].to_pylist() == []
    assert run.best("score", 1).column_names == [
        "row", "source", "prediction", "target", "method", "layer", "status", "score",
    ]  # fmt: skip


def test_a_metric_knows_which_of_its_ends_is_better(tmp_path):
    drops = [0.5, 0.1, math.nan, 0.9]
    run = run_of(tmp_path, [{"metric.average_drop": drop, "metric.insertion": drop} for drop in drops])
    assert run.best("metric.average_drop", 2)["row"].to_pylist() == [1, 0]
    assert run.worst("metric.average_drop")["row"].to_pylist() == [3, 0, 1]
    assert run.best("metric.insertion", 2)["row"].to_pylist() == [3, 0]
    with pytest.raises(whycam.OptionError, match=r"no column 'metric\.deletion'"):
        run.best("metric.deletion")
    with pytest.raises(whycam.OptionError, match="ranked by a column of numbers, and status holds string"):
        run.best("status")
    with pytest.raises(whycam.OptionError, match="width is a column of int32, which 'wide' is not"):
        run.best("score", width="wide")


def test_images_that_hold_the_same_are_named_once_each(tmp_path):
    contents = ["aa", "bb", "aa", None, None, "cc", "bb", "aa"]
    run = run_of(tmp_path, [{"content": each} for each in contents])
    assert run.duplicates() == [["0.jpg", "2.jpg", "7.jpg"], ["1.jpg", "6.jpg"]]


def test_an_image_is_no_duplicate_of_its_other_rows(tmp_path):
    with Store.create_or_continue(tmp_path, ASKED) as store:
        store.add([{"source": "a", "content": "aa", "method": each} for each in ("fem", "grad_cam")])
    assert whycam.open_run(tmp_path).duplicates() == []


def test_a_mean_map_weighs_every_image_alike(tmp_path):
    rows = [
        *maps([[4.0, 0, 0], [0, 0, 2]], [[0, 0.5, -0.5], [0, 0, 0]], [[0, 0, 0], [0, 0, -1.0]]),
        *maps([[1.0, 1, 1], [1, 1, 1]], target="dog"),
        *maps([[math.nan, 1, 1], [1, 1, 1]]),
        {"error": "unreadable"},
    ]
    means = run_of(tmp_path, rows).mean_maps()
    assert {name: mean.count for name, mean in means.items()} == {"cat": 3, "dog": 1}
    assert torch.allclose(means["cat"].map, torch.tensor([[1.0, 1, 0], [0, 0, 0.5]]) / 3)
    raw = whycam.open_run(tmp_path).mean_maps(normalize="none", target="cat")
    assert [*raw] == ["cat"]
    assert torch.allclose(raw["cat"].map, torch.tensor([[4.0, 0.5, -0.5], [0, 0, 1]]) / 3)


def test_maps_of_other_sizes_are_resized_to_the_usual_one(tmp_path):
    rows = maps(np.full((2, 2), 3.0), np.full((2, 2), 3.0), [[0.0, 2, 2, 0]], prediction="cat", target=None)
    run = run_of(tmp_path, rows)
    mean = run.mean_maps("prediction")["cat"].map  # the third is (0 + 2) / 2 on each side: flat
    assert torch.allclose(mean, torch.ones(2, 2))
    assert run.mean_maps("prediction", size=(3, 5))["cat"].map.shape == (3, 5)
    with pytest.raises(whycam.OptionError, match="size has 3 numbers for maps with 2"):
        run.mean_maps("prediction", size=(3, 5, 2))
    assert [*run.mean_maps()] == ["cat"]  # what is predicted, where nothing is explained
    with pytest.raises(whycam.OptionError, match="no row with a map says a label; name another column"):
        run.mean_maps("label")


def test_the_mean_maps_are_drawn_with_their_classes(tmp_path):
    rows = [*maps(np.eye(3), np.eye(3)), *maps(np.eye(3)[::-1], target="dog"), *maps(np.ones((3, 3)), target="ant")]
    figure = run_of(tmp_path, rows).mean_figure(2)
    drawn = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in drawn] == ["cat", "dog"]
    assert "the mean of 2 maps" in [text.get_text() for text in drawn[0].texts] + [drawn[0].get_xlabel()]
    assert np.array_equal(drawn[1].images[0].get_array(), np.eye(3)[::-1])


def test_maps_of_several_methods_are_not_mixed(tmp_path):
    run = run_of(tmp_path, [*maps([[1.0, 0.0]]), *maps([[0.0, 1.0]], method="fem")])
    with pytest.raises(whycam.OptionError, match="there are grad_cam at top, fem at top"):
        run.mean_maps()
    assert run.mean_maps(method="fem")["cat"].map.tolist() == [[0.0, 1.0]]


def ring(share, cells=4):
    """A map with that share of its evidence in the ring of a 4 x 4 grid: 12 cells, and 4 inside."""
    held = np.full((cells, cells), share / 12)
    held[1:-1, 1:-1] = (1 - share) / 4
    return held


def test_maps_that_stick_to_the_border(tmp_path):
    rows = maps(ring(0.75), ring(0.89), ring(0.91), np.ones((2, 9)), np.zeros((4, 4)), ring(1.0))
    run = run_of(tmp_path, rows)
    found = run.at_border()  # three times as much in a cell: 3 * 12 of 3 * 12 + 4, a share of 0.9
    assert found["row"].to_pylist() == [5, 2]
    assert found["share"].to_pylist() == pytest.approx([1, 0.91])
    assert found["even"].to_pylist() == [0.75, 0.75]
    assert found["source"].to_pylist() == ["5.jpg", "2.jpg"]
    assert run.at_border(ratio=1)["row"].to_pylist() == [5, 2, 1, 0]
    assert run.at_border(ratio=1.01)["row"].to_pylist() == [5, 2, 1]
    assert run.at_border(source="2.jpg")["row"].to_pylist() == [2]
    with pytest.raises(whycam.OptionError, match="no row with status flat map has a map"):
        run.at_border(status="flat map")


def test_what_is_against_the_target_is_no_evidence_at_the_border(tmp_path):
    held = ring(0.5)
    held[0] = -9.0
    (row,) = run_of(tmp_path, maps(held)).at_border(ratio=0).to_pylist()
    assert row["share"] == pytest.approx(8 / 12 / (8 / 12 + 1))  # what is left of the ring's one half


def test_only_what_looks_at_maps_reads_them(tmp_path, monkeypatch):
    run = run_of(tmp_path, [*maps(ring(1.0)), *maps(ring(1.0)), {"error": "unreadable"}, {"error": "unreadable"}])
    read = []
    real = Store.shard

    def watched(store, name, columns=None):
        read.append((store.shards.index(name), columns is None or "map" in columns))
        return real(store, name, columns)

    monkeypatch.setattr(Store, "shard", watched)
    run.summary(), run.best("score"), run.worst("width"), run.duplicates()
    assert read == []
    run.at_border()
    assert read == [(0, False), (0, True), (1, False)]  # the second shard has no map


def test_damaged_shards_are_named_and_dropped(tmp_path):
    run = run_of(tmp_path, maps(ring(1.0), ring(1.0), ring(1.0)))
    assert run.damaged() == []
    path = tmp_path / "shards" / run._store.shards[0]
    path.write_bytes(path.read_bytes()[:-9])
    assert run.damaged() == run.drop_damaged() == [path.name]
    assert (len(run), run.damaged()) == (1, [])
