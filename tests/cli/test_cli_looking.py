"""`whycam runs`: what is said of a run, and what is wrong with its files."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept_runs import maps, run_of
from PIL import Image
from typer.testing import CliRunner

import whycam
from whycam.cli import app
from whycam.pictures.geometry import Geometry

CORNER = np.zeros((4, 4))
CORNER[0, 0] = 1


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run of four maps, one of which sticks to a corner, and two failures, in three shards."""
    rows = maps(np.ones((4, 4)), CORNER, np.ones((4, 4)), prediction="cat", content="aa")
    rows += maps(np.ones((4, 4)), prediction="dog", content="bb")
    scores = zip(rows, (0.25, 4, 1, 0.5), (0.5, 0.75, 0.1, 0.2), strict=True)
    rows = [{**row, "score": score, "metric.average_drop": drop} for row, score, drop in scores]
    run_of(tmp_path / "out", [*rows, *({"error": f"a/{number}.jpg: the file is damaged"} for number in (4, 5))])
    return tmp_path / "out"


def asked(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["runs", *map(str, arguments)])


def test_a_run_in_a_few_lines(out: Path) -> None:
    result = asked(out)
    assert result.exit_code == 0
    lines = [line.split("  ", 1) for line in result.stdout.splitlines()]
    assert {name: said.strip() for name, said in lines} == {
        "images": "6, 6 rows",
        "status": "ok 4",
        "predicted": "cat 3, dog 1",
        "failed": "the file is damaged 2",
        "kept in": str(out),
    }
    document = json.loads(asked(out, "--json").stdout)
    assert document == {**whycam.open_run(out).summary(), "folder": str(out)}


def test_the_best_and_the_worst(out: Path) -> None:
    result = asked(out, "--best", "score", "--worst", "average_drop", "-n", 2, "--json")
    document = json.loads(result.stdout)
    assert [row["row"] for row in document["best"]] == [1, 2]
    assert [row["row"] for row in document["worst"]] == [1, 0]  # an average drop is better low
    assert document["best"][0]["score"] == 4
    result = asked(out, "--worst", "score", "--where", "prediction=cat", "-n", 1)
    best = result.stdout.split("worst: 1 row\n")[1].splitlines()
    assert best[0].split() == ["row", "source", "prediction", "target", "method", "layer", "status", "score"]
    assert best[1].split() == ["0", "0.jpg", "cat", "cat", "grad_cam", "top", "ok", "0.25"]
    both = asked(out, "--best", "score", "--where", "source=0.jpg", "--where", "source=3.jpg", "--json")
    assert [row["row"] for row in json.loads(both.stdout)["best"]] == [3, 0]


def test_the_border_and_duplicates(out: Path) -> None:
    document = json.loads(asked(out, "--border", "--duplicates", "--json").stdout)
    assert [(row["row"], row["share"], row["even"]) for row in document["border"]] == [(1, 1.0, 0.75)]
    assert document["duplicates"] == [["0.jpg", "1.jpg", "2.jpg"]]
    result = asked(out, "--border", "--duplicates")
    assert "border: 1 row" in result.stdout
    assert "1 group of images that hold the same" in result.stdout
    assert "  0.jpg, 1.jpg, 2.jpg" in result.stdout


def test_mean_maps_are_drawn(out: Path, tmp_path: Path) -> None:
    result = asked(out, "--means", tmp_path / "means.png", "--where", "prediction=cat", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["images"] == 6
    with Image.open(tmp_path / "means.png") as picture:
        assert picture.width > 100


def test_more_rows_than_are_shown_are_said(tmp_path: Path) -> None:
    run_of(tmp_path, maps(*[CORNER] * 4))
    result = asked(tmp_path, "--border", "-n", 3)
    assert "border: 4 rows" in result.stdout
    assert "and 1 more" in result.stdout
    assert result.stdout.count(".jpg") == 3


def test_a_mistake_is_a_sentence(out: Path) -> None:
    for arguments, said in [
        ([out.parent], "holds no run"),
        ([out, "--best", "scores"], "no column 'scores'"),
        ([out, "--best", "score", "--where", "cat"], "COLUMN=VALUE"),
        ([out, "--best", "score", "--where", "width=wide"], "is not"),
        ([out, "--export", "coco"], "--export (coco, pictures, fiftyone) and --to"),
        ([out, "--to", "x.json"], "--export (coco, pictures, fiftyone) and --to"),
        ([out, "--export", "coco", "--to", "x.json", "--photos", "photos"], "--photos is not for --export coco"),
        ([out, "--export", "pictures", "--to", "x"], "--photos SOURCE"),
    ]:
        result = asked(*arguments)
        assert result.exit_code == 2
        assert said in result.stderr


@pytest.mark.parametrize("hurt", ["parses", "cut"])
def test_damage_is_named_and_dropped(out: Path, hurt: str) -> None:
    assert asked(out, "--verify").exit_code == 0
    path = out / "shards" / whycam.open_run(out)._store.shards[1]
    held = bytearray(path.read_bytes())
    if hurt == "cut":
        path.write_bytes(held[:50])
    else:
        held[5] ^= 1  # data, which the footer does not watch
        path.write_bytes(held)
    result = asked(out, "--verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"folder": str(out), "damaged": [path.name], "dropped": False}
    assert path.name in asked(out, "--verify").stderr
    assert path.exists()
    if hurt == "cut":
        result = asked(out)
        assert (result.exit_code, path.name in result.stderr) == (2, True)
    result = asked(out, "--drop-damaged")
    assert (result.exit_code, path.exists()) == (0, False)
    assert path.name in result.stdout
    assert asked(out, "--verify").exit_code == asked(out, "--drop-damaged").exit_code == 0
    assert len(whycam.open_run(out)) == 4


def test_nothing_is_made_where_there_is_no_run(tmp_path: Path) -> None:
    for option in ("--verify", "--drop-damaged"):
        assert asked(tmp_path, option).exit_code == 2
    assert [*tmp_path.iterdir()] == []


def test_exports_say_what_they_left_out(tmp_path: Path) -> None:
    geometry = Geometry((4, 4), (4, 4), (1.0, 1.0), (0.0, 0.0), (0.0, 0.0, 4.0, 4.0))
    placed = {"geometry": json.dumps(asdict(geometry)), "height": 4, "width": 4}
    run_of(tmp_path / "out", [*maps(CORNER, **placed), *({"error": f"reason {number}"} for number in range(7))])
    file = tmp_path / "coco.json"
    result = asked(tmp_path / "out", "--export", "coco", "--to", file, "--level", 0.5)
    assert result.exit_code == 1  # seven images have no map
    assert result.stdout == f"1 map in {file}\n"
    assert "7 maps left out" in result.stderr
    assert "1.jpg: reason 0" in result.stderr
    assert "and 2 more" in result.stderr
    (one,) = json.loads(file.read_text())["annotations"]
    assert (one["bbox"], one["attributes"]["level"]) == ([0, 0, 1, 1], 0.5)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "0.jpg")
    result = asked(
        tmp_path / "out", "--export", "pictures", "--to", tmp_path / "x", "--photos", tmp_path / "photos", "--json"
    )
    document = json.loads(result.stdout)
    assert (document["count"], len(document["left_out"])) == (1, 7)
    assert "has no photo of that id" in document["left_out"][6].pop("reason")
    assert document["left_out"][6] == {"image": "7.jpg"}
    run_of(tmp_path / "whole", maps(CORNER, **placed))
    assert asked(tmp_path / "whole", "--export", "coco", "--to", file).exit_code == 0
