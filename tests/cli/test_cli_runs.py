"""Methods of many runs on the command line: how they are run, what they say, and what they would cost."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args
from unittest.mock import ANY

import pytest
import skimage
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import whycam
from whycam.checkup.cost import Estimate
from whycam.cli import app
from whycam.cli.arguments import in_bytes
from whycam.cli.output import Output
from whycam.engine.session import Session
from whycam.engine.smoothing import Smoothing
from whycam.kit.progress import Progress
from whycam.kit.registry import methods
from whycam.network.variants.scoring import Precision

CHELSEA = Path(skimage.__file__).parent / "data" / "chelsea.png"

NETWORKS = """
import torch
import whycam
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU()
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.relu2(self.conv2(self.relu1(self.conv1(x)))).mean((2, 3)))

def made(net):
    torch.manual_seed(0)
    for weight in net.parameters():
        weight.data = torch.randn(weight.shape) * 0.5
    return net.eval()

def bare():
    return made(Net())

class Means(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(x).mean((2, 3))

def means():
    return Means().eval()

def build():
    return whycam.VisionModel(bare(), whycam.Preprocess.imagenet(8, 8), list("abcde"), "tiny")
"""


class Result(NamedTuple):
    """What a call printed and how it ended."""

    exit_code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Call `whycam` in a folder that holds two photos and a file of networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "runnets.py").write_text(NETWORKS)
    with Image.open(CHELSEA) as opened:
        for name in ("cat.png", "dog.png"):
            opened.resize((90, 60)).save(name)

    def call(*args: object) -> Result:
        made = CliRunner().invoke(app, [str(each) for each in args])
        if made.exception is not None and not isinstance(made.exception, SystemExit):
            raise made.exception
        return Result(made.exit_code, made.stdout, made.stderr)

    return call


TINY = ("--model", "runnets:build")


# --- explain and compare


@pytest.mark.parametrize("command", ["explain", "compare"])
def test_how_to_run_reaches_the_engine(run, monkeypatch, command):
    given = {}
    real = Session.run

    def spy(session: Session, batch: Any, request: Any) -> Any:
        given.update(vars(request.run), smoothing=request.smoothing, progress=request.run.progress.shown)
        return real(session, batch, request)

    monkeypatch.setattr(Session, "run", spy)
    names = ("precision", "compile", "budget", "smoothing", "progress")
    assert run(command, "cat.png", *TINY).exit_code == 0
    assert [given[name] for name in names] == [None, False, None, None, True]
    monkeypatch.setattr("torch.compile", lambda model, **_: model)
    asked = ("--precision", "float32", "--compile", "--budget", "1GiB", "--smoothing", "augmentations", "--quiet")
    result = run(command, "cat.png", "-m", "score_cam", *TINY, *asked)
    assert (result.exit_code, result.out) == (0, "")
    assert [given[name] for name in names] == ["float32", True, 2**30, "augmentations", False]


def test_the_notes_say_what_was_used(run):
    result = run("explain", "cat.png", "-m", "ablation_cam", *TINY, "--precision", "bfloat16")
    assert result.out.count("scored by a private copy of the network (bfloat16") == 1
    result = run("explain", "cat.png", *TINY, "--smoothing", "augmentations")
    assert "smoothed: the mean over 6 augmentations" in result.out


def test_compare_says_a_note_once_and_of_which_methods(run):
    both = ("grad_cam,layer_cam", "-t", "a,b", "-l", "relu2")
    result = run("compare", "cat.png", *TINY, "-m", *both, "--smoothing", "augmentations")
    (line,) = [line for line in result.out.splitlines() if "smoothed:" in line]
    assert line.startswith("note  smoothed: the mean over 6")
    result = run("compare", "cat.png", *TINY, "-m", "grad_cam,ablation_cam", "--precision", "float32")
    (line,) = [line for line in result.out.splitlines() if line.startswith("note")]
    assert line.startswith("note  Ablation-CAM: scored by a private copy")


@pytest.mark.parametrize("command", ["explain", "compare"])
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--compile"], 'say its precision=, such as "float32".'),
        (["--budget", "much"], "--budget is a size such as 2GB, 500MB or 1GiB, or a number of bytes; not 'much'."),
        (["--precision", "float32"], "precision= is for methods that score variants"),
    ],
)
def test_mistakes(run, command, args, said):
    result = run(command, "cat.png", *TINY, *args)
    assert result.exit_code == 2
    assert result.err.startswith("whycam: ")
    assert said in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["explain", "compare"])
@pytest.mark.parametrize("args", [("--precision", "float8"), ("--smoothing", "components")])
def test_words_that_an_option_does_not_take(run, command, args):
    result = run(command, "cat.png", *TINY, *args)
    assert result.exit_code == 2
    assert f"Invalid value for '{args[0]}'" in result.err


def test_the_help_names_what_there_is(run):
    for command in ("explain", "compare"):
        said = " ".join(run(command, "--help").out.split())
        assert all(each in said for kind in (Precision, Smoothing) for each in get_args(kind))


def test_sizes():
    words = "1", "1000000", "2GB", "500MB", "1GiB", "1.5 GiB", "3k", "2tb", " 4 mib "
    sizes = 1, 10**6, 2 * 10**9, 5 * 10**8, 2**30, 3 * 2**29, 3000, 2 * 10**12, 2**22
    assert tuple(map(in_bytes, words)) == sizes
    for wrong in ("", "0", "0.5", "-1GB", "2GBB", "1e9", "GB", "2 G B", "1,5GB", "infGB"):
        with pytest.raises(whycam.WhycamError, match="--budget is a size such as"):
            in_bytes(wrong)


class Clock:
    """Gains a minute each time it is looked at."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 60
        return self.now


def test_long_work_says_so_on_standard_error(run, monkeypatch):
    monkeypatch.setattr("time.monotonic", Clock())
    asked = ("explain", "cat.png", *TINY, "-m", "rise", "-O", "samples=40", "--budget", "2kB")
    result = run(*asked, "--json")
    (line,) = result.err.splitlines()
    assert line.startswith("RISE: 40 runs of the whole network, about ")
    assert result.document["failed"] == []
    assert run(*asked, "-q").err == ""


def test_the_bar_of_photos_is_the_only_one(monkeypatch):
    monkeypatch.setattr("time.monotonic", Clock())
    out = Output()
    out.results, out.problems = (Console(file=io.StringIO(), force_terminal=True, width=80) for _ in range(2))
    with out.progress("Explaining", 2), Progress(True).of("RISE", 40, "runs of the network") as advance:
        advance(1)
        advance(1)
    said = out.results.file.getvalue()
    assert said.count("RISE") == 1
    assert "\x1b[2KRISE: 40 runs of the network, about 39 min\n" in said
    assert "Explaining" in said
    assert out.problems.file.getvalue() == ""


# --- methods --cost


def few(monkeypatch, *chosen):
    """Let there be these methods alone: all of them would take long."""
    table = {name: methods()[name] for name in chosen}
    monkeypatch.setattr("whycam.engine.request.registered", lambda: table)


def test_what_each_method_would_cost(run, monkeypatch):
    few(monkeypatch, "rise", "ablation_cam", "score_cam", "grad_cam", "fem")
    result = run("methods", "--cost", "runnets:build", "--json")
    assert result.exit_code == 0
    made = result.document
    found = {each["name"]: each for each in made["costs"]}
    assert made["model"] == "tiny"
    assert len(found) == 5
    assert made["refused"] == []
    seconds = [float(f"{each['seconds']:.2g}") for each in made["costs"]]
    assert seconds == sorted(seconds)
    assert found["grad_cam"]["passes"] == "1 forward, 1 backward"
    assert found["rise"]["forwards"] > 4000
    # eight channels, two to see whether the part can be run by itself, and two of variants that ran among others
    assert found["ablation_cam"]["passes"] == "1 forward, 12 runs of the part above relu2"
    assert found["ablation_cam"]["parts"] == [{"part": "the part above relu2", "number": 12, "share": ANY}]
    assert "reason" not in found["rise"]


def test_costs_are_a_table_with_the_cheapest_first_and_the_refused_below(run, monkeypatch):
    few(monkeypatch, "rise", "ablation_cam", "score_cam", "fem")
    result = run("methods", "--cost", "runnets:build", "--layer", "conv9")
    lines = result.out.splitlines()
    assert lines[0] == "tiny, on noise of 3x8x8"
    assert [line.split() for line in lines[2:4]] == [["Forwards'"], ["Method", "worth", "About", "Runs"]]
    assert lines[4].split()[0] == "rise"
    assert lines[5:7] == ["", "Not possible here:"]
    (line,) = lines[7:]  # one reason, said once
    assert line.strip().startswith("ablation_cam, score_cam, fem: no layer 'conv9'")
    assert result.exit_code == 0
    lines = run("methods", "--cost", "runnets:build", "--layer", "relu2").out.splitlines()
    assert lines[-1].split()[0] == "rise"
    assert {line.split()[0] for line in lines[4:-1]} == {"ablation_cam", "score_cam", "fem"}
    assert "Not possible" not in "".join(lines)


def test_costs_on_a_photo_or_of_a_size(run, monkeypatch):
    few(monkeypatch, "occlusion")
    assert run("methods", "--cost", "runnets:build", "--photo", "cat.png").out.startswith("tiny, on cat\n")
    assert run("methods", "--cost", "runnets:bare", "--size", "16x12").out.startswith(
        "runnets:bare, on noise of 3x16x12\n"
    )
    result = run("methods", "--cost", "runnets:bare")
    assert result.exit_code == 2
    assert "pass --size" in result.err


def test_what_cannot_be_run_by_itself_says_so_below(run, monkeypatch):
    found = [
        Estimate("a_cam", "A-CAM", forwards=9, total=9.0, seconds=0.021, fallback="it [branches]."),
        Estimate("b_cam", "B-CAM", forwards=8, total=8.0, seconds=0.0214, fallback="it [branches]."),
        Estimate("c_cam", "C-CAM", forwards=7, total=7.0, seconds=0.03),
        Estimate("d_cam", "D-CAM", reason="no [layer]."),
    ]
    monkeypatch.setattr("whycam.explainer.estimate_cost", lambda *_, **__: found)
    lines = run("methods", "--cost", "runnets:build").out.splitlines()
    assert [line.split()[0] for line in lines[4:7]] == ["b_cam", "a_cam", "c_cam"]  # as far as is shown
    assert [line.strip() for line in lines[7:]] == [
        "",
        "Whole forwards are run where the part above the layer cannot be:",
        "b_cam, a_cam: it [branches].",
        "",
        "Not possible here:",
        "d_cam: no [layer].",
    ]
    made = run("methods", "--cost", "runnets:build", "--json").document
    assert made["refused"] == [{"name": "d_cam", "title": "D-CAM", "reason": "no [layer]."}]


def test_costs_without_operations_that_are_counted(run, monkeypatch):
    few(monkeypatch, "fem")
    result = run("methods", "--cost", "runnets:means", "--size", "8x8")
    assert result.out.splitlines()[4].split()[:2] == ["fem", "-"]


@pytest.mark.parametrize("columns", [80, 140])
def test_costs_fit_the_terminal(run, monkeypatch, columns):
    few(monkeypatch, "deep_feature_factorization", "ablation_cam", "rise", "cam")
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", str(columns)), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    out = re.sub("\x1b\\[[0-9;]*m", "", run("methods", "--cost", "runnets:build").out)
    assert "deep_feature_factorization " in out
    assert max(map(len, out.splitlines())) <= columns


def test_costs_show_how_far_they_are(run, monkeypatch):
    monkeypatch.setattr("time.monotonic", Clock())
    few(monkeypatch, "fem", "cam", "eigen_cam")
    asked = ("methods", "--cost", "runnets:build")
    assert run(*asked, "--json").err == "Estimating: 3 methods, about 2 min\n"
    assert run(*asked, "-q").err == ""


def test_methods_of_no_network_cost_nothing(run):
    for args in (("--photo", "cat.png"), ("--size", "8x8"), ("-l", "relu2"), ("--weights", "random")):
        result = run("methods", *args)
        assert result.exit_code == 2
        assert "name it with --model or --cost" in result.err
    assert "no model 'nothing'" in run("methods", "--cost", "nothing").err


def test_which_methods_a_network_can_be_asked_for(run, monkeypatch):
    few(monkeypatch, "rise", "grad_cam", "generic_attention", "legrad", "attention_rollout")
    made = run("methods", "--model", "runnets:build", "--json").document
    assert [each["name"] for each in made["possible"]] == ["rise", "grad_cam"]
    assert made["possible"][1]["title"] == "Grad-CAM"
    assert [each["name"] for each in made["refused"]] == ["generic_attention", "legrad", "attention_rollout"]
    lines = [line.strip() for line in run("methods", "--model", "runnets:build").out.splitlines()]
    assert lines[0] == "tiny, on noise of 3x8x8"
    assert [line.split() for line in lines[2:5]] == [
        ["Possible", "here:"], ["at", "a", "layer", "grad_cam"], ["at", "the", "input", "rise"],
    ]  # fmt: skip
    (line,) = lines[7:]  # one reason, said once for all three
    assert line.startswith("generic_attention, legrad, attention_rollout: each is for transformers. No attention was")


def test_methods_of_attention_are_among_a_transformer_s(run, monkeypatch):
    # the last two ask for the same quantities, and each folds the blocks in its own way
    names = ["attention_rollout", "raw_attention", "transformer_attribution", "grad_rollout", "generic_attention"]
    few(monkeypatch, "grad_cam", *names)
    made = run("methods", "--model", "small_vit:small_vit", "--size", "8x6", "--json")
    assert made.exit_code == 0, made.err
    assert made.document["refused"] == []
    out = run("methods", "--model", "small_vit:small_vit", "--size", "8x6").out
    of_attention = next(line for line in out.splitlines() if "of attention" in line)
    assert of_attention.removeprefix("of attention").strip() == ", ".join(names)


def test_one_network_is_asked_about_at_a_time(run):
    result = run("methods", "--model", "runnets:build", "--cost", "runnets:build")
    assert result.exit_code == 2
    assert "both name the network" in result.err
