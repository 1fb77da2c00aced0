"""`whycam evaluate` and `whycam metrics`: what is printed, what is written, and how it goes on."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import whycam
from whycam.cli import app
from whycam.cli.truth import read_boxes, read_masks
from whycam.evaluation import evaluate as module
from whycam.kit.metric import metrics

NETWORKS = """
import nets
import torch
import whycam

def build():
    return whycam.VisionModel(nets.plain().float(), whycam.Preprocess.imagenet(8, 8), list("abcde"), "tiny")

def slow():
    import time
    net = nets.plain().float()
    net.register_forward_hook(lambda *_: time.sleep(0.01))
    return whycam.VisionModel(net, whycam.Preprocess.imagenet(8, 8), list("abcde"), "slow")

def any_size():
    return whycam.VisionModel(
        nets.plain().float(), whycam.Preprocess((8, 8), "none", crop=False), list("abcde"), "any size")
"""


class Result(NamedTuple):
    """What a call printed and how it ended."""

    exit_code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def photo(path: Path, seed: int, size: tuple[int, int] = (12, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Call `whycam` in a folder that holds seven photos and a file of networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evalnets.py").write_text(NETWORKS)
    for number, name in enumerate("abcdefg"):
        photo(tmp_path / "photos" / f"{name}.png", number)

    def call(*args: object) -> Result:
        made = CliRunner().invoke(app, [str(each) for each in args])
        if made.exception is not None and not isinstance(made.exception, SystemExit):
            raise made.exception
        return Result(made.exit_code, made.stdout, made.stderr)

    return call


TINY = ("--model", "evalnets:build", "--sanity", "0", "-m", "grad_cam,layer_cam", "-M", "insertion,entropy")
SHORT = ("-O", "insertion.steps=3")


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- What is printed and written


def test_prints_the_table_and_what_is_recommended_and_writes_the_files(run):
    result = run("evaluate", "photos", *TINY, *SHORT)
    assert result.exit_code == 0
    head, rule, *rows = result.out.splitlines()
    assert head.split() == ["Method", "Layer", "Insertion", "↑", "Entropy", "↓", "Sec."]
    assert set(rule) == {"-"}
    assert [row.split("  ")[0] for row in rows[:3]] in (
        ["grad_cam", "layer_cam", rule],
        ["layer_cam", "grad_cam", rule],
    )
    assert [row.split("  ")[0] for row in rows[3:6]] == ["control: random", "control: centre", "control: edges"]
    assert "tiny over 7 images" in result.out
    assert re.search("(Use|Trust none of these maps|It cannot be told)", result.out)
    assert result.out.splitlines()[-1] == (
        "files  whycam-out/evaluation.csv, .samples.csv, .json, .md, .parquet, .curves.png"
    )
    made = whycam.Evaluation.load("whycam-out/evaluation.json")
    assert str(made.recommendation.text) in result.out
    assert made.samples == list("abcdefg")
    assert Path("whycam-out/evaluation.md").read_text() == made.to_markdown()
    summary = lines(Path("whycam-out/evaluation.csv"))
    assert [each["method"] for each in summary[:2]] == ["grad_cam", "grad_cam"]
    assert len(lines(Path("whycam-out/evaluation.samples.csv"))) == len(made.rows) == 5 * 2 * 7
    with Image.open("whycam-out/evaluation.curves.png") as opened:
        assert opened.width > 500


def test_says_what_the_engine_says(run):
    run("evaluate", "photos", *TINY, *SHORT, "-l", "relu1", "-t", "a,b", "--seed", "3")
    made = whycam.Evaluation.load("whycam-out/evaluation.json")
    sys.path.insert(0, str(Path.cwd()))
    import evalnets

    expected = whycam.evaluate(
        evalnets.build(), sorted(Path("photos").iterdir()), ["grad_cam", "layer_cam"], ["relu1"],
        ["insertion", "entropy"], ["a", "b"], options={"insertion": {"steps": 3}}, sanity=0, seed=3,
    )  # fmt: skip
    assert made.rows == expected.rows
    assert made.targets == ["a", "b"]


def test_json_is_one_document(run):
    result = run("evaluate", "photos", *TINY, *SHORT, "--json")
    assert result.exit_code == 0
    document = result.document
    assert document["recommendation"]["metric"] == "insertion"
    assert {each["method"] for each in document["summary"]} >= {"grad_cam", "layer_cam", "control: random"}
    assert (document["failed"], document["interrupted"]) == ([], False)
    assert document["files"][0] == "whycam-out/evaluation.csv"
    assert "rows" not in document


def test_quiet_prints_nothing(run):
    result = run("evaluate", "photos", *TINY, *SHORT, "--quiet")
    assert result == (0, "", "")
    assert Path("whycam-out/evaluation.json").exists()


@pytest.mark.parametrize("width", [80, 120])
def test_fits_a_terminal_and_no_metric_is_lost(run, monkeypatch, width):
    asked = "insertion,deletion,average_drop,average_gain,increase_in_confidence,sparseness,entropy,adcc"
    for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": str(width)}.items():
        monkeypatch.setenv(name, value)
    steps = ("-O", "insertion.steps=2", "-O", "deletion.steps=2")
    out = run("evaluate", "photos", *TINY[:-2], "-M", asked, *steps).out
    plain = re.sub("\x1b\\[[0-9;]*m", "", out).splitlines()
    assert max(map(len, plain)) <= width
    heads = " ".join(plain)
    for name in asked.split(","):
        assert metrics()[name].title.split()[0] in heads
    assert sum(line.startswith("grad_cam ") for line in plain) == (3 if width == 80 else 2)


def test_options_reach_methods_and_metrics(run):
    options = ("-O", "insertion.steps=4", "-O", "fem.k=1.5", "-O", "insertion.baseline=zero")
    assert run("evaluate", "photos/a.png", *TINY[:-4], "-m", "fem,cam", "-M", "insertion", *options).exit_code == 0
    made = whycam.Evaluation.load("whycam-out/evaluation.json")
    assert len(made.at["insertion"]) == 5
    assert made.asked["options"] == {"fem": {"k": "1.5"}}
    assert made.asked["metrics"] == {"insertion": {"steps": "4", "baseline": "zero"}}


def test_without_controls(run):
    run("evaluate", "photos", *TINY, *SHORT, "--no-controls")
    made = whycam.Evaluation.load("whycam-out/evaluation.json")
    assert not any(place.is_control for place in made.places)


def test_all_metrics_are_those_that_can_be_asked(run):
    from whycam.cli.arguments import metric_names

    every, placed = metric_names(["all"], False), metric_names(["all"], True)
    assert {"insertion", "entropy"} <= set(every) < set(placed)
    assert "pointing_game" in set(placed) - set(every)
    assert "grid_pointing_game" in every  # its masks are its own
    assert metric_names(None, False) is None
    assert metric_names(["a,b", "c"], False) == ["a", "b", "c"]


# --- Going on


def test_the_same_command_goes_on_and_says_so(run, monkeypatch):
    real, calls = module._measured, []
    monkeypatch.setattr(module, "_measured", lambda *given: calls.append(1) or real(*given))
    first = run("evaluate", "photos", *TINY, *SHORT, "--batch", "3")
    assert len(calls) == 3
    again = run("evaluate", "photos", *TINY, *SHORT)
    assert len(calls) == 3
    assert again.out == first.out
    assert "going on: 7 of 7 images were measured before (whycam-out/evaluation.jsonl)" in again.err
    photo(Path("photos/h.png"), 99)
    more = run("evaluate", "photos", *TINY, *SHORT)
    assert len(calls) == 4
    assert "over 8 images" in more.out


def test_another_question_is_refused_unless_it_begins_anew(run):
    run("evaluate", "photos/a.png", *TINY, *SHORT)
    result = run("evaluate", "photos/a.png", *TINY)
    assert result.exit_code == 2
    assert "holds another evaluation: metrics was" in result.err
    assert "--again" in result.err
    assert run("evaluate", "photos/a.png", *TINY, "--again").exit_code == 0
    assert len(whycam.Evaluation.load("whycam-out/evaluation.json").at["insertion"]) == 29
    assert run("evaluate", "photos/a.png", *TINY, *SHORT, "-o", "other").exit_code == 0


def test_ctrl_c_writes_and_prints_what_is_done(run, monkeypatch):
    real, calls = module._measured, []

    def measured(*given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(module, "_measured", measured)
    result = run("evaluate", "photos", *TINY, *SHORT, "--batch", "2")
    assert result.exit_code == 130
    assert "tiny over 4 images" in result.out
    assert (
        "whycam: interrupted: 4 of 7 photos evaluated; the same command goes on, from whycam-out/evaluation.jsonl."
        in result.err
    )
    assert whycam.Evaluation.load("whycam-out/evaluation.json").samples == list("abcd")
    again = run("evaluate", "photos", *TINY, *SHORT, "--batch", "2")
    assert again.exit_code == 0
    assert "tiny over 7 images" in again.out


def test_ctrl_c_before_anything_is_done(run, monkeypatch):
    def measured(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_measured", measured)
    result = run("evaluate", "photos", *TINY, *SHORT, "--json")
    assert result.exit_code == 130
    assert (result.document["interrupted"], result.document["files"]) == (True, [])


def test_a_run_that_is_killed_goes_on_to_the_same_rows(run, tmp_path):
    command = [sys.executable, "-m", "whycam", "evaluate", "photos", *TINY, "-O", "insertion.steps=9", "--batch", "1"]
    command[command.index("evalnets:build")] = "evalnets:slow"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    journal = tmp_path / "whycam-out" / "evaluation.jsonl"
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        started = time.monotonic()
        while time.monotonic() - started < 120 and not (journal.exists() and journal.read_bytes().count(b"\n") > 2):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 2 < journal.read_bytes().count(b"\n") < 8
    arguments = ["evalnets:slow" if each == "evalnets:build" else each for each in TINY]
    steps = ("-O", "insertion.steps=9", "--batch", "1")
    resumed = run("evaluate", "photos", *arguments, *steps)
    assert "going on: " in resumed.err
    run("evaluate", "photos", *arguments, *steps, "-o", "whole")
    one, other = (whycam.Evaluation.load(f"{each}/evaluation.json") for each in ("whycam-out", "whole"))
    assert one.rows == other.rows
    assert one.curves == other.curves


# --- What goes wrong


def test_a_photo_that_cannot_be_read_is_listed_and_the_others_are_evaluated(run):
    Path("photos/bad.jpg").write_bytes(b"no picture")
    result = run("evaluate", "photos", "nowhere.png", *TINY, *SHORT)
    assert result.exit_code == 1
    assert "over 7 images" in result.out
    assert "2 photos not evaluated:" in result.err
    assert "nowhere.png: nothing of that name" in result.err
    assert "bad.jpg" in result.err
    document = run("evaluate", "photos", *TINY, *SHORT, "--json").document
    assert len(document["failed"]) == 1


def test_nothing_but_photos_that_cannot_be_read(run):
    Path("bad.jpg").write_bytes(b"no picture")
    result = run("evaluate", "bad.jpg", *TINY, *SHORT)
    assert (result.exit_code, result.out) == (1, "")
    assert "bad.jpg" in result.err
    assert not Path("whycam-out/evaluation.csv").exists()


def test_photos_of_one_name_and_of_many_sizes(run):
    photo(Path("one/cat.png"), 1)
    photo(Path("two/cat.png"), 2, (20, 10))
    arguments = ["evalnets:any_size" if each == "evalnets:build" else each for each in TINY]
    result = run("evaluate", "one", "two", *arguments, *SHORT)
    assert result.exit_code == 0
    assert whycam.Evaluation.load("whycam-out/evaluation.json").samples == ["cat", "cat-2"]


def test_a_metric_that_cannot_be_is_no_photo(run):
    result = run("evaluate", "photos/a.png", *TINY[:-1], "grid_pointing_game,entropy", "--json")
    assert result.exit_code == 1  # one photo makes no mosaic
    assert result.document["failed"] == []
    assert "grid_pointing_game: " in result.err
    assert "tiny over 1 image" in run("evaluate", "photos/a.png", *TINY[:-1], "grid_pointing_game,entropy").out


def test_a_method_that_cannot_be_is_said_and_counts_if_it_was_named(run, monkeypatch):
    named = run("evaluate", "photos", *TINY[:-4], "-m", "grad_cam,attention_rollout", "-M", "entropy")
    assert named.exit_code == 1
    assert "attention_rollout at" in named.err
    monkeypatch.setattr(module, "METHODS", ("grad_cam", "attention_rollout"))
    usual = run("evaluate", "photos", *TINY[:-4], "-o", "usual")
    assert usual.exit_code == 0
    assert "attention_rollout at" in usual.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-m", "gradcan"], "no method 'gradcan'"),
        (["-M", "insertoin"], "no metric 'insertoin'.* Did you mean 'insertion'"),
        (["-M", "pointing_game"], "asks where the targets are; pass masks=, or boxes="),
        (["-l", "nope"], "no layer 'nope'"),
        (["-t", "zebra"], "no class is called"),
        (["-O", "insertion.stepz=3"], "insertion has no option 'stepz'"),
        (["-O", "steps=3"], "with several methods and metrics an option is written METHOD.NAME=VALUE"),
        (["-O", "road.steps=3"], "is not among the methods and metrics"),
        (["-o", "evalnets.py"], "evalnets.py is a file"),
        (["--boxes", "0.3"], "Detected boxes are targets: -t boxes:0.3"),
        (["--masks", "nowhere"], "--masks is a folder"),
    ],
)
def test_mistakes(run, args, said):
    result = run("evaluate", "photos", *TINY, *args)
    assert result.exit_code == 2
    assert re.search(said, result.err.replace("\n", " "))


def test_an_empty_folder_is_a_mistake(run):
    Path("empty").mkdir()
    result = run("evaluate", "empty", *TINY)
    assert result.exit_code == 2
    assert "the folder holds no photo" in result.err


# --- Where the targets are


def test_boxes_and_masks_are_brought_to_the_input(tmp_path):
    wide = photo(tmp_path / "wide.png", 1, (16, 32))
    plain = photo(tmp_path / "plain.png", 2, (16, 16))
    lost = tmp_path / "lost.png"
    lost.write_bytes(b"")
    vision = whycam.VisionModel(torch.nn.Conv2d(3, 2, 1), whycam.Preprocess.imagenet(8, 8), ["a", "b"], "tiny")
    file = tmp_path / "boxes.json"
    # 16 x 32 becomes 8 x 16, of which the middle 8 x 8 are seen: 8 to 24 of the photo, at half the size
    file.write_text(json.dumps({"wide.png": [[12, 4, 40, 8], [0, 0, 7, 16]], "plain": [2, 4, 6, 16]}))
    assert read_boxes(file, [wide, plain, lost], vision) == [[[2.0, 2.0, 8.0, 4.0]], [[1.0, 2.0, 3.0, 8.0]], []]
    (tmp_path / "masks").mkdir()
    drawn = np.zeros((16, 32), dtype=np.uint8)
    drawn[4:8, 12:40] = 1
    Image.fromarray(drawn).save(tmp_path / "masks" / "wide.png")
    masks = read_masks(tmp_path / "masks", [wide, plain], vision)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:4, 2:8] = True
    assert torch.equal(masks[0], expected)
    assert not masks[1].any()
    Image.fromarray(drawn[:8]).save(tmp_path / "masks" / "plain.png")
    with pytest.raises(whycam.WhycamError, match=r"plain\.png is 8 x 32 and its photo 16 x 16"):
        read_masks(tmp_path / "masks", [wide, plain], vision)


@pytest.mark.parametrize("held", ["[]", '{"a.png": [1, 2, 3]}', '{"a.png": "x"}', '{"a.png": [5, 1, 3, 3]}', "{"])
def test_boxes_of_another_form_are_refused(held, tmp_path):
    (tmp_path / "boxes.json").write_text(held)
    with pytest.raises(whycam.WhycamError, match=r"--boxes"):
        read_boxes(tmp_path / "boxes.json", [], whycam.VisionModel(torch.nn.Identity()))


def test_as_many_targets_as_photos_are_all_asked_of_all(run):
    asked = ("-m", "grad_cam", "-M", "entropy", "--sanity", "0", "--no-controls", "--model", "evalnets:build", "--json")
    made = run("evaluate", "photos/a.png", "photos/b.png", "photos/c.png", "-t", "a,b,c", *asked)
    assert made.exit_code == 0
    assert [(row["target"], row["count"]) for row in made.document["summary"]] == [("a", 3), ("b", 3), ("c", 3)]


def test_files_that_cannot_be_written_cost_no_table(run, tmp_path):
    (tmp_path / "out" / "evaluation.csv").mkdir(parents=True)
    asked = ("-m", "grad_cam", "-M", "entropy", "--sanity", "0", "--model", "evalnets:build", "-o", "out")
    made = run("evaluate", "photos", *asked)
    assert made.exit_code == 1
    assert "tiny over 7 images" in made.out
    assert "entropy" in made.out
    assert "the files in out cannot be written: Is a directory." in made.err
    (tmp_path / "out" / "evaluation.csv").rmdir()
    assert run("evaluate", "photos", *asked).exit_code == 0


def test_pointing_games_take_boxes_of_a_file(run):
    Path("boxes.json").write_text(json.dumps({f"{name}.png": [2, 2, 14, 10] for name in "abcdef"}))
    arguments = [*TINY[:-1], "pointing_game", "--boxes", "boxes.json"]
    assert run("evaluate", "photos", *arguments).exit_code == 0
    made = whycam.Evaluation.load("whycam-out/evaluation.json")
    values = {row["sample"]: row["value"] for row in made.rows if row["method"] == "grad_cam"}
    assert {name for name, value in values.items() if value == value} == set("abcdef")
    Path("other.json").write_text(json.dumps({"zebra.png": [0, 0, 1, 1]}))
    assert "names none of the photos; it has zebra.png" in run("evaluate", "photos", *arguments[:-1], "other.json").err


# --- metrics


def test_metrics_lists_the_registry(run):
    result = run("metrics")
    assert [line.split()[0] for line in result.out.splitlines()[1:]] == list(metrics())
    made = {each["name"]: each for each in run("metrics", "--json").document["metrics"]}
    assert made["insertion"]["better"] == "higher"
    assert made["entropy"]["high"] is None
    assert made["deletion"]["options"]["steps"] == 28
    assert made["average_drop"]["family"] == "faithfulness"


def test_metrics_at_80_columns(run, monkeypatch):
    for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    out = re.sub("\x1b\\[[0-9;]*m", "", run("metrics").out)
    assert all(name in out for name in metrics())
    assert max(map(len, out.splitlines())) <= 80


# --- compare


COMPARED = ("compare", "photos/a.png", "--model", "evalnets:build", "-M", "insertion,entropy", *SHORT)


def test_compare_shows_what_evaluate_measures(run):
    result = run(*COMPARED, "-m", "grad_cam,layer_cam", "-l", "relu1,relu2", "-o", "c.png", "--json")
    assert result.exit_code == 0
    run("evaluate", "photos/a.png", "--model", "evalnets:build", "-m", "grad_cam,layer_cam", "-l", "relu1,relu2",
        "-M", "insertion,entropy", *SHORT, "--sanity", "0")  # fmt: skip
    rows = whycam.Evaluation.load("whycam-out/evaluation.json").rows
    expected = {(each["method"], each["layer"], each["metric"]): each["value"] for each in rows}
    made = result.document["explained"]
    assert len(made) == 4
    for each in made:
        assert list(each["metrics"]) == ["insertion", "entropy"]
        for name, value in each["metrics"].items():
            assert value == pytest.approx(expected[each["method"], each["layer"]["name"], name], rel=1e-9)


def test_compare_has_the_figures_in_its_table_and_below_each_overlay(run, monkeypatch):
    drawn = {}
    real = whycam.Comparison.figure

    def figure(self, **given):
        drawn.update(given["said"])
        return real(self, **given)

    monkeypatch.setattr(whycam.Comparison, "figure", figure)
    result = run(*COMPARED, "-m", "grad_cam,eigen_cam", "-t", "a,b", "-l", "relu2", "-o", "c.png")
    head, *rows = [line for line in result.out.splitlines() if "relu2" in line or "Score" in line]
    assert head.split() == ["Method", "Layer", "Target", "Score", "insertion", "entropy", "Status"]
    assert [row.split()[0] for row in rows] == ["Grad-CAM", "Grad-CAM", "Eigen-CAM"]
    assert [key[2] for key in drawn] == ["a", "b", None]
    for row, said in zip(rows, drawn.values(), strict=True):
        insertion, entropy = re.findall(r"(?:insertion|entropy) (\S+)", said)
        assert f"  {insertion} " in row
        assert f"  {entropy} " in row
    assert "(of a)" in drawn["eigen_cam", "relu2", None]
    assert "Maps of no class are measured by the first target, a." in result.out
    texts = [text for axes in figure_axes(drawn) for text in axes]
    assert any("insertion" in each for each in texts)


def figure_axes(said):
    """What stands below the overlays of a figure with these words."""
    import nets

    made = whycam.compare(nets.plain(), nets.images(1), ["grad_cam", "eigen_cam"], ["relu2"], [0, 1])
    words = dict(zip(made, said.values(), strict=True))
    return [[each.get_xlabel()] for each in made.figure(said=words).axes]


def test_compare_of_more_metrics_than_fit_lists_them(run, monkeypatch):
    for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    many = "insertion,average_drop,average_gain,increase_in_confidence,sparseness,entropy"
    result = run("compare", "photos/a.png", "--model", "evalnets:build", "-M", many, *SHORT, "-o", "c.png")
    plain = re.sub("\x1b\\[[0-9;]*m", "", result.out)
    assert max(map(len, plain.splitlines())) <= 80
    assert all(plain.count(f"{name} ") == 3 for name in many.split(","))


def test_compare_measures_what_methods_make_and_nothing_else(run):
    result = run(*COMPARED, "--smoothing", "component")
    assert result.exit_code == 2
    assert "leave --smoothing out" in result.err
    assert "no metric 'x'" in run("compare", "photos/a.png", "-M", "x", "--model", "evalnets:build").err
    refused = run("compare", "photos/a.png", "-M", "pointing_game", "--model", "evalnets:build")
    assert "asks where the targets are" in refused.err
