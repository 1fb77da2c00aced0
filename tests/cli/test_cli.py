"""The command line, mostly in this process and at a few places in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import whycam
from whycam.cli import app
from whycam.cli.arguments import split_list
from whycam.cli.inputs import find
from whycam.cli.output import Output, text
from whycam.engine.session import Session
from whycam.kit.files import Names
from whycam.kit.registry import methods
from whycam.models.load import load
from whycam.models.vision_model import VisionModel

PACKAGED = Path(skimage.__file__).parent / "data"


class Result:
    """What a call printed and how it ended."""

    def __init__(self, exit_code: int, out: str, err: str) -> None:
        self.exit_code, self.out, self.err = exit_code, out, err

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="module")
def builtin() -> VisionModel:
    return load("builtin")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, builtin: VisionModel) -> Callable[..., Result]:
    """Call `whycam` in an empty folder, with the built-in network loaded once for all tests."""
    monkeypatch.chdir(tmp_path)
    real = load
    monkeypatch.setattr(
        "whycam.models.load.load",
        lambda spec, **given: builtin if spec == "builtin" and not given.get("weights") else real(spec, **given),
    )

    def call(*args: object) -> Result:
        made = CliRunner().invoke(app, [str(each) for each in args])
        if made.exception is not None and not isinstance(made.exception, SystemExit):
            raise made.exception
        return Result(made.exit_code, made.stdout, made.stderr)

    return call


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    return _small("chelsea.png", tmp_path / "cat.png")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with two photos among four files that are none."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    _small("chelsea.png", folder / "cat.png")
    _small("coffee.png", folder / "zcoffee.jpg")
    (folder / "text.jpg").write_text("not a photo")
    (folder / "empty.jpg").touch()
    whole = _small("rocket.jpg", folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no suffix of a photo")
    return folder


def _small(name: str, path: Path) -> Path:
    with Image.open(PACKAGED / name) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((480, 480))
    picture.save(path)
    return path


def _width(path: str) -> int:
    with Image.open(path) as picture:
        return picture.width


# --- explain


def test_one_photo_says_what_it_is_and_why(run: Callable[..., Result], cat: Path) -> None:
    result = run("explain", cat)
    assert result.exit_code == 0
    assert result.err == ""
    for said in ("tiger cat (", "Grad-CAM", "_bn1 (7x7", "the last feature with spatial axes", "status", "1 photo"):
        assert said in result.out
    assert "\x1b" not in result.out
    assert not any(line.endswith(" ") for line in result.out.splitlines())
    written = sorted(path.name for path in Path("whycam-out").iterdir())
    assert written == ["cat.grad_cam.json", "cat.grad_cam.map.npy", "cat.grad_cam.overlay.png"]
    assert np.load("whycam-out/cat.grad_cam.map.npy").shape == (7, 7)


def test_photos_that_cannot_be_read_cost_no_other(run: Callable[..., Result], mixed: Path) -> None:
    result = run("explain", mixed, "-o", "maps")
    assert result.exit_code == 1
    assert sorted(path.name for path in Path("maps").glob("*.png")) == [
        "cat.grad_cam.overlay.png",
        "zcoffee.grad_cam.overlay.png",
    ]
    assert "3 not explained" in result.err
    for name, reason in (("text.jpg", "not a JPEG"), ("empty.jpg", "empty (zero bytes)"), ("cut.jpg", "truncated")):
        (line,) = [line for line in result.err.splitlines() if name in line]
        assert reason in line
        assert line.count(name) == 1  # the path is not said twice
    assert "notes.txt" not in result.err


def test_json_is_one_document_with_the_failures(run: Callable[..., Result], mixed: Path) -> None:
    result = run("explain", mixed, "-o", "maps", "--json")
    made = result.document
    assert result.exit_code == 1
    assert [Path(each["photo"]).name for each in made["explained"]] == ["cat.png", "zcoffee.jpg"]
    assert {Path(each["photo"]).name for each in made["failed"]} == {"cut.jpg", "empty.jpg", "text.jpg"}
    first = made["explained"][0]
    assert first["prediction"]["index"] == 282
    assert 0 < first["prediction"]["probability"] <= 1
    assert first["layer"]["name"] == "_bn1"
    assert first["status"]["kind"] == "ok"
    assert all(Path(file).is_file() for each in made["explained"] for file in each["files"])
    assert made["interrupted"] is False
    assert made["cost"]["backwards"] == 2


def test_quiet_prints_problems_only(run: Callable[..., Result], mixed: Path, cat: Path) -> None:
    assert run("explain", cat, "-q").out == ""
    result = run("explain", mixed, "-q")
    assert result.out == ""
    assert "truncated" in result.err


def test_a_status_that_is_not_ok_counts_as_explained_and_shows(run: Callable[..., Result], cat: Path) -> None:
    aim = ("-t", "contrast:281/282")  # the network prefers 282 everywhere
    result = run("explain", cat, *aim)
    assert result.exit_code == 0
    assert "no positive evidence: no location" in result.out
    result = run("explain", cat, *aim, "-q")
    assert (result.exit_code, result.out) == (0, "")
    assert "cat.png: no positive evidence" in result.err


def test_a_map_of_nan_is_no_explanation(
    run: Callable[..., Result], cat: Path, builtin: VisionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        bias = builtin.module.get_parameter("_bn1.bias")
        kept = bias.clone()
        bias.fill_(torch.nan)
    try:
        result = run("explain", cat, "--json")
    finally:
        with torch.no_grad():
            bias.copy_(kept)
    assert result.exit_code == 1
    assert result.document["explained"] == []
    (failed,) = result.document["failed"]
    assert "NaN" in failed["reason"]
    assert failed["files"]


def test_globs_folders_and_files_each_once(run: Callable[..., Result], mixed: Path) -> None:
    result = run("explain", mixed / "*.png", mixed / "zcoffee.jpg", mixed / "c*.png", "--json")
    assert result.exit_code == 0
    assert [Path(each["photo"]).name for each in result.document["explained"]] == ["cat.png", "zcoffee.jpg"]


def test_a_missing_file_beside_a_good_one_is_listed(run: Callable[..., Result], cat: Path) -> None:
    result = run("explain", "nowhere.jpg", cat)
    assert result.exit_code == 1
    assert "nowhere.jpg: nothing of that name" in result.err
    assert Path("whycam-out/cat.grad_cam.overlay.png").exists()


def test_nothing_to_explain(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    result = run("explain", "hollow")
    assert result.exit_code == 2
    assert result.err.startswith("whycam: hollow: the folder holds no photo")
    assert run("explain", "hollow", "--json").document == {"error": result.err.removeprefix("whycam: ").strip()}


def test_photos_of_one_name_do_not_overwrite_each_other(run: Callable[..., Result], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    _small("chelsea.png", tmp_path / "a" / "x.png")
    _small("coffee.png", tmp_path / "b" / "X.jpg")
    result = run("explain", "a", "b", "--json")
    stems = [Path(each["files"][0]).name for each in result.document["explained"]]
    assert stems == ["x.grad_cam.overlay.png", "X-2.grad_cam.overlay.png"]


def test_what_whycam_drew_is_not_explained_again(run: Callable[..., Result], cat: Path) -> None:
    for _ in range(2):
        result = run("explain", ".", "-o", ".", "--figure", "--heat", "--mask", "0.5", "--json")
        assert [each["photo"] for each in result.document["explained"]] == ["cat.png"]
    assert "4 pictures that whycam drew earlier" in result.err
    assert run("explain", "cat.grad_cam.overlay.png").exit_code == 0  # named outright


def test_several_layers_are_fused(run: Callable[..., Result], cat: Path) -> None:
    result = run("explain", cat, "-l", "_blocks.10", "-l", "_blocks.15", "--fusion", "maximum", "--json")
    (made,) = result.document["explained"]
    assert made["layer"]["name"] == "_blocks.10 + _blocks.15"
    assert made["layer"]["why"] == "2 layers fused by maximum"


def test_drawing_options_reach_the_pictures(run: Callable[..., Result], cat: Path) -> None:
    def drawn(*args: str) -> bytes:
        assert run("explain", cat, *args).exit_code == 0
        return Path("whycam-out/cat.hires_cam.overlay.png").read_bytes()

    ways = [
        (), ("--colormap", "jet"), ("--opacity", "0.3"), ("--signed",), ("--blend", "even"), ("--contour", "0.5"),
        ("--legend",), ("--caption",), ("--enlarge", "nearest"),
    ]  # fmt: skip
    assert len({drawn("-m", "hires_cam", *way) for way in ways}) == len(ways)


def test_the_figure_is_written_beside_the_map(run: Callable[..., Result], cat: Path) -> None:
    assert ".panels.png" in run("explain", cat, "--figure").out
    assert _width("whycam-out/cat.grad_cam.panels.png") > 500


def test_figures_are_also_pages_to_print(run: Callable[..., Result], cat: Path) -> None:
    for kind, start in (("svg", b"<?xml"), ("pdf", b"%PDF")):
        assert run("explain", cat, "--figure", "--figure-format", kind, "--quiet").exit_code == 0
        assert Path(f"whycam-out/cat.grad_cam.panels.{kind}").read_bytes().startswith(start)
    refused = run("explain", cat, "--figure", "--figure-format", "doc", "-o", "none")
    assert refused.exit_code == 2
    assert "one of" in refused.err
    assert not Path("none").exists()


def test_where_a_map_is_bright_is_said_and_written(run: Callable[..., Result], cat: Path, builtin: VisionModel) -> None:
    box = "20,10,200,150"
    result = run("explain", cat, "--mask", "0.5", "--share", box, "--share", "half.png", "--heat", "--json")
    assert result.exit_code == 2
    assert "--share takes a box L,T,R,B in pixels or a mask's file, and 'half.png' is neither" in result.err
    with Image.open(cat) as photo:
        width, height = photo.size
    half = np.zeros((height, width), np.uint8)
    half[:, : width // 2] = 255
    Image.fromarray(half).save("half.png")
    args = ("explain", cat, "--mask", "0.5", "--share", box, "--share", "half.png", "--heat")
    (made,) = run(*args, "--json").document["explained"]
    e = whycam.explain(builtin, cat)
    mask = np.asarray(Image.open("whycam-out/cat.grad_cam.mask.png"))
    np.testing.assert_array_equal(mask > 0, e.mask(0.5)[0].numpy())
    assert made["bright"]["boxes"] == e.boxes_around(0.5)[0].tolist()
    assert made["bright"]["area"] == pytest.approx((mask > 0).mean())
    shares = {box: float(e.share((20, 10, 200, 150))), "half.png": float(e.share(half > 0))}
    assert made["shares"] == pytest.approx(shares)
    with Image.open("whycam-out/cat.grad_cam.heat.png") as heat:
        assert (heat.mode, heat.size) == ("RGBA", (width, height))
        np.testing.assert_array_equal(np.asarray(heat), np.asarray(e.heat_layer()))
    said = run(*args).out
    assert "of the photo is above 0.5 in" in said
    assert f"{shares[box]:.1%} in {box}; {shares['half.png']:.1%} in half.png" in said


def test_a_region_of_another_size_is_said_and_the_map_kept(run: Callable[..., Result], cat: Path) -> None:
    Image.new("L", (3, 3), 255).save("small.png")
    result = run("explain", cat, "--share", "small.png")
    assert result.exit_code == 2
    assert re.search(
        r"a region is a box .* or a mask of shape \(\d+, \d+\), and what came has shape \(3, 3\)", result.err
    )


def test_method_options_arrive(run: Callable[..., Result], cat: Path) -> None:
    result = run("explain", cat, "-m", "fem", "-O", "k=1.5", "--json")
    assert result.document["explained"][0]["options"] == {"k": 1.5}
    assert result.document["explained"][0]["target"] is None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-m", "gradcan"], "no method 'gradcan'.*Did you mean 'grad_cam'"),
        (["-l", "_bn9"], "no layer '_bn9'.*Did you mean"),
        (["-t", "tabbby"], "no class is called 'tabbby'.*tabby"),
        (["-t", "1000"], "class 1000 is out of range; this model has 1000 classes"),
        (["-t", "-5"], "class -5 is out of range"),
        (["-t", "probabilty:281"], "Did you mean 'probability:281'"),
        (["--colormap", "jett"], "no color map 'jett'; did you mean 'jet'"),
        (["--fusion", "meen"], "no fusion 'meen'.*Did you mean 'mean'"),
        (["-m", "fem", "-O", "k=abc"], "'k' of fem takes a number, 0 or more, not 'abc'"),
        (["-m", "fem", "-O", "kk=1"], "fem has no option 'kk'.*Did you mean 'k'"),
        (["-m", "eigen_cam", "-t", "3"], "Eigen-CAM explains no class"),
        (["-m", "guided_backprop", "-l", "_bn1"], "reads no layer"),
        (["--model", "nothing"], "no model 'nothing'"),
        (["--weights", "absent.pt"], "no weights file absent.pt"),
        (["-o", "cat.png"], "cat.png is a file"),
        (["-o", "cat.png/maps"], "cat.png/maps cannot be made"),
    ],
)
def test_a_mistake_in_the_command_is_a_sentence(
    run: Callable[..., Result], cat: Path, args: list[str], said: str
) -> None:
    result = run("explain", cat, *args)
    assert result.exit_code == 2
    assert result.out == ""
    assert result.err.startswith("whycam: ")
    assert len(result.err.splitlines()) == 1
    assert re.search(said, result.err)
    assert json.loads(run("explain", cat, *args, "--json").out).keys() == {"error"}


def test_a_mistake_for_every_photo_is_said_once(run: Callable[..., Result], mixed: Path) -> None:
    result = run("explain", mixed, "-t", "1000")
    assert result.exit_code == 2
    assert result.err.count("out of range") == 1


@pytest.mark.parametrize("args", [["--opacity", "2"], ["--modle", "x"], []])
def test_mistakes_in_options_exit_with_2(run: Callable[..., Result], args: list[str]) -> None:
    result = run("explain", *args)
    assert result.exit_code == 2
    assert "Error: " in result.err


def test_a_refusal_for_one_photo_alone_is_listed(
    run: Callable[..., Result], mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Session.run

    def picky(session: Session, batch: Any, request: Any) -> Any:
        if "cat" in {photo.name for photo in batch.context.photos}:
            raise whycam.WhycamError("too much like a cat.")
        return real(session, batch, request)

    monkeypatch.setattr(Session, "run", picky)
    result = run("explain", mixed / "cat.png", mixed / "zcoffee.jpg")
    assert result.exit_code == 1
    assert "cat.png: too much like a cat." in result.err
    assert "espresso" in result.out


def test_a_folder_is_explained_in_batches_as_its_photos_alone(
    run: Callable[..., Result], mixed: Path, builtin: VisionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, real = [], Session.run

    def spy(session: Session, batch: Any, request: Any) -> Any:
        sizes.append(len(batch.inputs))
        return real(session, batch, request)

    monkeypatch.setattr(Session, "run", spy)
    for number in range(9):
        _small("coffee.png", mixed / f"more{number}.png")
    made = run("explain", mixed, "-o", "maps", "--json").document["explained"]
    assert sizes == [2, 4, 4, 1]  # of 14 files, read four at once, three are no photos
    assert len(made) == 11
    for each in made:
        path = Path(each["photo"])
        alone = whycam.explain(builtin, path)
        np.testing.assert_allclose(np.load(each["files"][1]), alone.maps[0], rtol=1e-4, atol=1e-5)
        with Image.open(each["files"][0]) as drawn:
            assert np.abs(np.asarray(drawn).astype(int) - np.asarray(alone.overlay())).max() <= 2
    run("explain", mixed, "-o", "maps", "-m", "occlusion", "-O", "window=0.5", "-O", "stride=0.5")
    assert sizes[4:] == [1] * 22  # half of them for what is compared here


def test_a_bug_keeps_its_traceback(run: Callable[..., Result], cat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Session, "run", broken)
    with pytest.raises(ZeroDivisionError):
        run("explain", cat)


def test_a_full_disk_is_a_reason(run: Callable[..., Result], cat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("whycam.results.explanation.Explanation.save", full)
    result = run("explain", cat)
    assert result.exit_code == 2
    assert "its files cannot be written: No space left on device" in result.err


def test_interruption_keeps_what_was_finished(
    run: Callable[..., Result], mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Session.run

    def stop(session: Session, batch: Any, request: Any) -> Any:
        if batch.context.photos[0].name == "zcoffee":
            raise KeyboardInterrupt
        return real(session, batch, request)

    monkeypatch.setattr("whycam.runs.explaining.usual_batch", lambda _: 1)
    monkeypatch.setattr(Session, "run", stop)
    result = run("explain", mixed, "--json")
    assert result.exit_code == 130
    assert "interrupted: 1 of 5 photos explained; what was written stays in whycam-out." in result.err
    assert result.document["interrupted"] is True
    assert Path("whycam-out/cat.grad_cam.map.npy").exists()


def test_a_network_alone_cannot_take_photos(run: Callable[..., Result], cat: Path, tmp_path: Path) -> None:
    (tmp_path / "mynets.py").write_text("from torch import nn\ndef net():\n    return nn.Conv2d(3, 4, 3)\n")
    result = run("explain", cat, "--model", "mynets:net")
    assert result.exit_code == 2
    assert "returns whycam.VisionModel(network, whycam.Preprocess.imagenet()" in result.err


# --- compare


def test_compare_draws_and_lists(run: Callable[..., Result], cat: Path) -> None:
    result = run("compare", cat, "-m", "grad_cam,hires_cam", "-t", "281,tiger cat", "-o", "grid.png")
    assert result.exit_code == 0
    assert _width("grid.png") > 300
    assert [line.split()[0] for line in result.out.splitlines() if line.endswith("ok")] == ["Grad-CAM"] * 2 + [
        "HiResCAM"
    ] * 2
    assert "4 maps with " in result.out
    assert "2 backwards" in result.out


@pytest.mark.parametrize("command", ["explain", "compare"])
def test_auto_is_the_usual_method(command: str, run: Callable[..., Result], cat: Path) -> None:
    made = run(command, cat, "-m", "auto", "--json").document["explained"]
    assert [each["method"] for each in made] == ["grad_cam"]


def test_compare_in_json_with_what_is_not_possible(run: Callable[..., Result], cat: Path) -> None:
    result = run("compare", cat, "-m", "cam", "-m", "grad_cam", "-l", "_bn1,_blocks.1*+_bn1", "--json")
    made = result.document
    assert result.exit_code == 1
    assert made["figure"] == "whycam-out/cat.compare.png"
    assert Path(made["figure"]).exists()
    assert {each["method"] for each in made["explained"]} == {"grad_cam"}
    assert len(made["explained"]) == 2
    assert {(each["method"], each["target"]) for each in made["failed"]} == {("cam", "top")}
    assert all("pooling" in each["reason"] for each in made["failed"])
    assert "2 not possible" in result.err


def test_compare_says_a_shared_status_once(run: Callable[..., Result], cat: Path) -> None:
    result = run("compare", cat, "-m", "layer_cam", "-l", "_bn1", "-t", "281,282,283")
    assert result.out.count("assumes activations of at least zero") == 1
    assert result.out.count("signed activations") == 4


def test_compare_takes_options_by_method(run: Callable[..., Result], cat: Path) -> None:
    result = run("compare", cat, "-m", "fem,eigen_cam", "-O", "fem.k=1.5", "-O", "Eigen-CAM.center=yes", "--json")
    assert [each["options"] for each in result.document["explained"]] == [{"k": 1.5}, {"center": True}]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-m", "gradcan"], "no method"),
        (["-m", ","], "methods, layers and targets each need at least one entry"),
        (["-t", "tabbby"], "no class is called"),
        (["-l", "nope"], "no layer 'nope'"),
        (["-o", "grid.docx"], "a figure is written as one of"),
        (["-m", "fem,cam", "-O", "k=1"], "METHOD.NAME=VALUE"),
        (["-O", "fem.k=1"], "not among the methods"),
    ],
)
def test_mistakes_in_compare(run: Callable[..., Result], cat: Path, args: list[str], said: str) -> None:
    result = run("compare", cat, *args)
    assert result.exit_code == 2
    assert result.err.startswith("whycam: ")
    assert said in result.err


def test_compare_is_for_one_readable_photo(run: Callable[..., Result], mixed: Path) -> None:
    assert "takes one photo" in run("compare", mixed).err
    result = run("compare", mixed / "cut.jpg", "--json")
    assert result.exit_code == 1
    assert "truncated" in result.document["failed"][0]["reason"]


def test_without_matplotlib_a_sentence_names_the_extra(
    run: Callable[..., Result], cat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None if name == "matplotlib" else name)
    for args in (["compare", cat], ["explain", cat, "--figure"]):
        result = run(*args)
        assert result.exit_code == 2
        assert "pip install 'whycam[plot]'" in result.err


# --- layers and methods


def test_layers_marks_the_chosen_ones(run: Callable[..., Result]) -> None:
    result = run("layers")
    marked = [line.split()[1] for line in result.out.splitlines() if line.startswith("* ") and "chosen" not in line]
    assert marked == ["_bn1", "_swish#1"]
    assert "before its activation" in result.out


def test_layers_in_json(run: Callable[..., Result], cat: Path) -> None:
    for args in ((), ("--photo", cat), ("--size", "224x224")):
        made = run("layers", "--json", *args).document
        by_name = {each["name"]: each for each in made["layers"]}
        assert by_name["_bn1"]["stride"] == [32.0, 32.0]
        assert by_name["_bn1"]["chosen_for"] == ["Grad-CAM, Guided Grad-CAM, Integrated Grad-CAM, SESS and ShapleyCAM"]


def test_layers_of_a_network_alone(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "graynets.py").write_text("from torch import nn\nnet = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())\n")
    model = ("--model", "graynets:net")
    assert "pass --size" in run("layers", *model).err
    assert "4x26x26" in run("layers", *model, "--size", "1x28x28").out
    for size in ("224", "0x3", "3x4x5x6", "axb"):
        result = run("layers", "--size", size)
        assert result.exit_code == 2
        assert "--size is height x width" in result.err
    assert "give one of them" in run("layers", "--size", "9x9", "--photo", "x.png").err


def test_methods_lists_the_registry(run: Callable[..., Result]) -> None:
    result = run("methods")
    assert [line.split()[0] for line in result.out.splitlines()[1:]] == list(methods())
    made = {each["name"]: each for each in run("methods", "--json").document["methods"]}
    assert made["fem"]["options"] == {"k": 2.0}
    assert made["eigen_cam"]["class_specific"] is False


def test_methods_at_80_columns(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    out = re.sub("\x1b\\[[0-9;]*m", "", run("methods").out)
    assert all(name in out for name in methods())  # none broken
    assert max(map(len, out.splitlines())) <= 80


# --- the words


def test_lists_hold_commas_in_quotes() -> None:
    assert split_list(['281, "tights, a leotard" ', "finer", ","]) == ["281", "tights, a leotard", "finer"]


def test_names_stay_apart() -> None:
    names = Names()
    assert [names(name) for name in ("a", "a-2", "A", "a")] == ["a", "a-2", "A-3", "a-4"]


def test_file_names_cannot_write_on_the_terminal() -> None:
    assert str(text(Path("a\x1b[31m[red]b.png"))) == "a�[31m[red]b.png"


def test_find_lists_what_names_nothing(tmp_path: Path, cat: Path) -> None:
    found = find([str(cat), str(tmp_path / "x*.png")])
    assert found.photos == [cat]
    assert len(found.failures) == 1


def test_numbers_that_json_lacks_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True).document({"a": [float("nan"), 1.5], "b": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "b": "x"}


# --- in a process of its own


def _whycam(*args: object, **given: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "whycam", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **given)


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from whycam.cli import main\n"
        "try: main()\n"
        "except SystemExit: print([each for each in ('torch', 'numpy', 'PIL') if each in sys.modules])"
    )
    for args in (["--help"], ["explain", "--help"], []):
        command = [sys.executable, "-c", code, *args]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "Usage: whycam" in shown.stdout + shown.stderr
        assert shown.stdout.splitlines()[-1] == "[]"


def test_version() -> None:
    assert _whycam("--version").stdout == f"whycam {whycam.__version__}\n"


def test_a_whole_run(mixed: Path, tmp_path: Path) -> None:
    (mixed / os.fsdecode(b"stray-\xff.jpg")).write_text("no photo, and no UTF-8 in its name")
    done = _whycam("explain", mixed, cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    assert "tiger cat" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "4 not explained" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c(tmp_path: Path) -> None:
    for number in range(200):
        _small("chelsea.png", tmp_path / f"{number:03}.png") if number == 0 else (
            tmp_path / f"{number:03}.png"
        ).write_bytes((tmp_path / "000.png").read_bytes())
    command = [sys.executable, "-m", "whycam", "explain", ".", "-o", "maps"]
    pipes = SimpleNamespace(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    # a shell that starts this test in the background makes its children ignore Ctrl-C, unless they are told otherwise
    hearing = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, **vars(pipes), preexec_fn=hearing) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "maps" / "001.grad_cam.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "of 200 photos explained; what was written stays in maps." in err
    assert "Traceback" not in err


def test_weights_that_need_unpickling_are_refused(run: Callable[..., Result], cat: Path, tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    result = run("explain", cat, "--weights", "whole.pt")
    assert result.exit_code == 2
    assert "--unsafe-pickle" in result.err
