"""One source shared by jobs: each image in one part, and what they are merged into is what one job writes."""

import json
import shutil

import nets
import pytest
import torch

import whycam
from whycam.runs import parts
from whycam.runs.store import Store

PREPROCESS = whycam.Preprocess((16, 16), "stretch", mean=(0.5,) * 3, std=(0.25,) * 3)
PIXELS = torch.randint(0, 256, (7, 20, 24, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8).numpy()
PHOTOS = [(f"{number}", each) for number, each in enumerate(PIXELS)]


@pytest.fixture
def explainer():
    return whycam.Explainer(nets.plain().float(), preprocess=PREPROCESS)


def part(explainer, out, k, n=3, photos=PHOTOS, **options):
    return explainer.run(photos, out, **{"method": "grad_cam", "workers": 0, "batch": 1, **options}, shard=(k, n))


def rows(run):
    return sorted(run.table.to_pylist(), key=lambda row: row["source"])


def test_parts_hold_every_image_once_and_are_merged_into_what_one_job_writes(explainer, tmp_path):
    drawing = {"heatmaps": "png"}
    held = [part(explainer, tmp_path / "out", k, **drawing).table["source"].to_pylist() for k in (1, 2, 3)]
    assert held == [["0", "3", "6"], ["1", "4"], ["2", "5"]]
    merged = whycam.merge_shards(tmp_path / "out")
    whole = explainer.run(PHOTOS, tmp_path / "whole", method="grad_cam", workers=0, batch=1, **drawing)
    assert merged.table["source"].to_pylist() == [*held[0], *held[1], *held[2]]
    assert rows(merged) == rows(whole)
    number = merged.table["source"].to_pylist().index("4")
    assert torch.equal(merged[number].maps, whole[4].maps)
    assert merged.asked == whole.asked
    assert merged.said == whole.said
    choice = explainer.explain(torch.zeros(1, 3, 16, 16), "grad_cam").layer
    assert merged.said["layers"] == {choice.name: choice.why}
    drawn = [sorted((run.folder / "heatmaps").iterdir()) for run in (merged, whole)]
    assert [(path.name, path.read_bytes()) for path in drawn[0]] == [
        (path.name, path.read_bytes()) for path in drawn[1]
    ]
    assert len(drawn[0]) == 7
    assert Store.open(merged.folder).damaged() == []


def test_a_merged_run_goes_on_and_merging_again_adds_what_parts_have_gained(explainer, tmp_path):
    out = tmp_path / "out"
    for k in (1, 2, 3):
        part(explainer, out, k, photos=PHOTOS[:5])
    assert len(whycam.merge_shards(out)) == 5
    part(explainer, out, 3)  # "5" has come
    for k in (1, 2):
        part(explainer, out, k, photos=PHOTOS[:6])
    merged = whycam.merge_shards(out)
    assert [row["source"] for row in rows(merged)] == ["0", "1", "2", "3", "4", "5"]
    assert len(explainer.run(PHOTOS, out, method="grad_cam", workers=0)) == 7
    assert whycam.open_run(out / "shard-1-of-3").table["source"].to_pylist() == ["0", "3"]  # as it was


def test_a_merge_that_was_stopped_goes_on(explainer, tmp_path, monkeypatch):
    out = tmp_path / "out"
    for k in (1, 2, 3):
        part(explainer, out, k)
    real, taken = Store.adopt, []

    def stopping(store, other, name):
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(name)
        real(store, other, name)

    monkeypatch.setattr(Store, "adopt", stopping)
    with pytest.raises(KeyboardInterrupt):
        whycam.merge_shards(out)
    monkeypatch.setattr(Store, "adopt", real)
    assert [row["source"] for row in rows(whycam.open_run(out))] == ["0", "1", "3", "4", "6"]
    assert [row["source"] for row in rows(whycam.merge_shards(out))] == list("0123456")


def test_where_the_disk_knows_no_links_files_are_copied(explainer, tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(1, "Operation not permitted")

    out = tmp_path / "out"
    for k in (1, 2):
        part(explainer, out, k, 2)
    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    merged = whycam.merge_shards(out)
    assert [row["source"] for row in rows(merged)] == list("0123456")
    assert Store.open(out).damaged() == []


def test_a_part_that_is_missing_or_unfinished_is_said_and_merged_only_where_asked(explainer, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with pytest.raises(whycam.WhycamError, match="holds no parts"):
        whycam.merge_shards(out)
    for k in (1, 3):
        part(explainer, out, k, photos=PHOTOS[:5])
    real = parts.finish
    monkeypatch.setattr("whycam.runs.running.finish", lambda folder: None)  # as if it had been killed
    part(explainer, out, 3)  # again, with more photos
    monkeypatch.setattr("whycam.runs.running.finish", real)
    with pytest.raises(whycam.WhycamError, match=r"of 3 parts, 2, 3 did not come to the end. Run --shard 2/3 again"):
        whycam.merge_shards(out)
    assert not (out / "run.json").exists()
    assert [row["source"] for row in rows(whycam.merge_shards(out, unfinished=True))] == ["0", "2", "3", "5"]
    for k in (1, 2, 3):
        part(explainer, out, k)
    assert len(whycam.merge_shards(out)) == 7


def test_parts_that_do_not_belong_together_are_refused(explainer, tmp_path):
    out = tmp_path / "out"
    part(explainer, out, 1, 2)
    part(explainer, out, 2, 2, method="fem")
    with pytest.raises(whycam.WhycamError, match=r"methods was \['grad_cam'\] and is \['fem'\]|and is \['grad_cam'\]"):
        whycam.merge_shards(out)
    shutil.rmtree(out / "shard-2-of-2")
    part(explainer, out, 2, 2, photos=[("x", PIXELS[0]), ("0", PIXELS[0])])  # in part 1 too
    with pytest.raises(whycam.WhycamError, match=r"'0' has rows in .* already, and in .*shard-2-of-2"):
        whycam.merge_shards(out)
    part(explainer, out, 1, 3)
    with pytest.raises(whycam.WhycamError, match="holds parts of 2 and 3 jobs"):
        whycam.merge_shards(out)


def test_shards_that_cannot_be_are_refused(explainer, tmp_path):
    for shard in ((0, 3), (4, 3)):
        with pytest.raises(whycam.OptionError, match="K from 1 to N"):
            part(explainer, tmp_path / "out", *shard)
    with pytest.raises(whycam.OptionError, match="with shard, take another folder"):
        part(explainer, tmp_path / "out", 1, new=True)
    assert not (tmp_path / "out").exists()


def test_more_jobs_than_images_leave_parts_without_rows(explainer, tmp_path):
    for k in (1, 2, 3):
        part(explainer, tmp_path / "out", k, photos=PHOTOS[:2])
    assert json.loads((tmp_path / "out/shard-3-of-3/run.json").read_text())["asked"]["methods"] == ["grad_cam"]
    assert [row["source"] for row in rows(whycam.merge_shards(tmp_path / "out"))] == ["0", "1"]


def test_the_length_that_progress_shows_is_that_of_the_part(explainer, tmp_path):
    from whycam.runs.left import Left
    from whycam.runs.sources import open_source

    source = open_source(PHOTOS)
    assert [Left(source, frozenset(), (k, 3)).length for k in (1, 2, 3)] == [3, 2, 2]
    assert Left(source, {"0", "3"}, (1, 3)).length == 1
    assert Left(open_source(iter(PHOTOS))).length is None


def test_flags_of_another_engine_and_unknown_engines_are_refused(explainer, tmp_path):
    for flag in ({"num_gpus": 1}, {"concurrency": 2}):
        with pytest.raises(whycam.OptionError, match=f"{next(iter(flag))}= is for engine='ray'"):
            explainer.run(PHOTOS, tmp_path / "out", **flag)
    with pytest.raises(whycam.OptionError, match="engine is 'local' or 'ray', not 'spark'"):
        explainer.run(PHOTOS, tmp_path / "out", engine="spark")
    assert not (tmp_path / "out").exists()
