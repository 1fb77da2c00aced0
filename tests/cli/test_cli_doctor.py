"""`whycam doctor`, and `whycam layers` with its thumbnails, in this process."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import skimage
from few import OF_ANY
from one_pass import BACKWARDS, FORWARDS
from PIL import Image
from typer.testing import CliRunner

from whycam.cli import app
from whycam.cli.inputs import find
from whycam.kit.quantities import FUNCTIONS
from whycam.kit.registry import methods

CHELSEA = Path(skimage.__file__).parent / "data" / "chelsea.png"

NETWORKS = """
import torch
import whycam
from torch import nn

LABELS = list("abcde")

class Net(nn.Module):
    def __init__(self, cut=False):
        super().__init__()
        self.cut = cut
        self.conv1, self.relu1 = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU()
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return self.head((x.detach() if self.cut else x).mean((2, 3)))

class Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, 8, 2, stride=2), nn.Linear(8, 5)
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))

    def forward(self, x):
        x = self.embed(x).flatten(2).mT.flip(1)
        for norm in self.norms:
            x = norm(x)
        return self.head(x.relu().mean(1))

def made(net):
    torch.manual_seed(0)
    for weight in net.parameters():
        weight.data = torch.randn(weight.shape) * 0.5
    return net

def build():
    return whycam.VisionModel(made(Net()).eval(), whycam.Preprocess.imagenet(8, 8), LABELS, "tiny")

def cut():
    return whycam.VisionModel(made(Net(cut=True)).eval(), whycam.Preprocess.imagenet(8, 8), LABELS, "cut")

def bare():
    return made(Net())

def signed():
    net = made(Net())
    net.relu2 = nn.Identity()
    return net

def turned():
    return made(Turned())
"""


class Result(NamedTuple):
    """What a call printed and how it ended."""

    exit_code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Leave out what runs the network many times, unless `every_method` is asked for: estimates add time alone."""
    if "every_method" not in request.fixturenames:
        some = {name: each for name, each in methods().items() if not each.needs & FUNCTIONS}
        monkeypatch.setattr("whycam.checkup.doctor.methods", lambda: some)


@pytest.fixture
def every_method() -> None:
    """Have no method left out."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Call `whycam` in a folder that holds a photo and a file of networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tinynets.py").write_text(NETWORKS)
    with Image.open(CHELSEA) as opened:
        opened.resize((90, 60)).save("cat.png")

    def call(*args: object) -> Result:
        made = CliRunner().invoke(app, [str(each) for each in args])
        if made.exception is not None and not isinstance(made.exception, SystemExit):
            raise made.exception
        return Result(made.exit_code, made.stdout, made.stderr)

    return call


# --- doctor


def test_a_healthy_network(run):
    result = run("doctor", "tinynets:build", "--photo", "cat.png")
    lines = result.out.splitlines()
    assert result.exit_code == 0
    assert lines[0] == "tiny: no problem"
    assert "input   1x3x8x8, cat.png" in lines
    assert any(line.startswith("answer  5 classes, says ") for line in lines)
    assert any(line.startswith("layer   conv2 (4x4, channels first): the last feature") for line in lines)
    assert any(line.startswith("Fine: weights, training mode, precision,") for line in lines)
    assert lines[-1].startswith(f"This took {FORWARDS + 8} forwards, {BACKWARDS + 6} backwards, ")
    assert "Problem" not in lines
    assert "Worth knowing" not in lines


def test_the_table_holds_one_row_for_methods_that_are_alike(run, every_method):
    lines = run("doctor", "tinynets:build").out.splitlines()
    rows = [line for line in lines if re.match(r"[\d,]+ \+ ", line)]
    table = [row.split(maxsplit=6) for row in rows]
    assert ["1", "+", "1", "1.0", "conv2", "ok", "grad_cam"] in table
    assert ["1", "+", "1", "2.0", "-", "pixel", "detail  guided_backprop"] in table
    assert ["2", "+", "2", "3.0", "conv2", "pixel", "detail  guided_grad_cam"] in table
    told = [" ".join(row.split()) for row in rows]
    assert "4,004 + 0 4,004.0 - not run rise" in told
    assert "1 + 0 + 12 1.0 relu2 not run ablation_cam" in told
    named = {name for row in rows for name in row.replace(",", "").split()}
    assert set(OF_ANY) <= named
    assert len(table) < len(OF_ANY)
    assert (
        "Passes: forwards + backwards + runs of the part above the layer. FLOPs: in predictions of one sample. "
        "The first map of all takes 2 more"
    ) in "\n".join(lines)
    (said,) = [line for line in lines if "not run: it runs the network many times" in line]
    assert said.startswith("ablation_cam, ")


def test_a_problem_makes_the_exit_status_one(run):
    result = run("doctor", "tinynets:cut")
    assert result.exit_code == 1
    lines = result.out.splitlines()
    assert lines[0] == "cut: 1 problem"
    told = lines[lines.index("Problem") + 1 : lines.index("Problem") + 3]
    assert told[0].split()[:2] == ["cut", "gradient"]
    assert "which calls detach, behind 'relu2'." in told[0]
    assert told[1].strip() == "Let gradients through there, or use a method that needs none, such as eigen_cam."
    refused = next(line for line in lines if "not possible: the score does not depend on 'conv2', 'relu2'" in line)
    assert refused.startswith("bag_cam, eigen_grad_cam, grad_cam, grad_cam_elementwise, ")
    assert any(line.split()[:5] == ["-", "-", "-", "not", "possible"] for line in lines)


def test_a_status_that_several_methods_share_is_explained_once(run):
    lines = run("doctor", "tinynets:signed", "--size", "8x8").out.splitlines()
    (said,) = [line for line in lines if "signed activations: " in line]
    assert said.startswith(
        "deep_feature_factorization, fem, grad_cam_plus_plus, layer_cam, xgrad_cam: signed activations: the "
    )


def test_what_is_worth_knowing_is_no_problem(run):
    result = run("doctor", "--model", "tinynets:bare", "--size", "8x10")
    assert result.exit_code == 0
    lines = result.out.splitlines()
    assert lines[0] == "tinynets:bare: no problem, 2 things worth knowing"
    assert "input   1x3x8x10, noise, since no --photo came" in lines
    at = lines.index("Worth knowing")
    assert lines[at + 1].split()[0] == "preprocessing"
    assert lines[at + 3].split()[0] == "labels"


def test_a_network_that_raises_is_a_finding_and_no_traceback(run):
    result = run("doctor", "tinynets:bare", "--size", "1x8x8")
    assert result.exit_code == 1
    assert "forward" in result.out
    assert "cannot be run on inputs of shape (1, 1, 8, 8)" in result.out
    assert "Passes" not in result.out
    assert "This took 1 forward, 0 backwards, " in result.out


def test_everything_in_one_document(run):
    result = run("doctor", "tinynets:cut", "--json")
    made = result.document
    assert result.exit_code == 1
    assert (made["ok"], made["verdict"], made["model"]) == (False, "1 problem", "cut")
    assert made["findings"][0]["severity"] == "problem"
    assert made["findings"][0]["kind"] == "cut gradient"
    assert made["findings"][1] == {
        "severity": "fine", "kind": "weights", "module": "", "text": "every weight is a finite number", "advice": "",
    }  # fmt: skip
    assert made["layer"]["name"] == "relu2"
    assert made["output"]["classes"] == 5
    assert made["flops"] == 2 * (64 * 27 * 6 + 16 * 54 * 8 + 8 * 5)
    assert made["inputs"] == [1, 3, 8, 8]
    by_name = {each["name"]: each for each in made["methods"]}
    assert by_name["fem"]["flops"] == 1.0
    assert by_name["grad_cam"]["forwards"] is None
    assert made["cost"]["forwards"] == 24


def test_quiet_prints_problems_alone(run):
    assert run("doctor", "tinynets:build", "-q") == (0, "", "")
    result = run("doctor", "tinynets:cut", "-q")
    assert (result.exit_code, result.out) == (1, "")
    assert result.err.startswith("whycam: cut gradient: No map can be made from gradients")


def test_mistakes_in_the_command(run):
    for args, sentence in (
        (("tinynets:build", "--model", "tinynets:cut"), "two models came, 'tinynets:build' and --model 'tinynets:cut'"),
        (("tinynets:bare",), "does not say what size its input has; pass --size"),
        (("tinynets:bare", "--photo", "cat.png"), "is a network alone"),
        (("tinynets:nothing",), "has no 'nothing'"),
        (("tinynets:build", "--size", "8x8", "--photo", "cat.png"), "give one of them"),
        (("tinynets:build", "--size", "8"), "--size is height x width"),
        (("tinynets:build", "--photo", "none.png"), "none.png"),
    ):
        result = run("doctor", *args)
        assert result.exit_code == 2, args
        assert sentence in result.err, args
    assert run("doctor", "tinynets:build", "--model", "tinynets:build").exit_code == 0


def test_without_a_model_the_built_in_one_is_examined(run):
    made = run("doctor", "--photo", CHELSEA, "--json").document
    assert made["model"] == "EfficientNet-Lite0 (ImageNet)"
    assert made["output"]["prediction"]["label"] == "tiger cat"
    assert [each["kind"] for each in made["findings"] if each["severity"] != "fine"] == ["repeated"]


# --- layers


def test_layers_of_a_named_model(run):
    result = run("layers", "tinynets:build")
    assert result.out.startswith("tiny: 4 layers, all channels first\n")
    marked = [line.split()[1] for line in result.out.splitlines() if line.startswith("* ") and "chosen" not in line]
    assert marked == ["conv2", "relu2"]
    assert "Where positions lie" not in result.out
    assert result.out == run("layers", "--model", "tinynets:build").out


def test_where_the_last_features_lie_elsewhere_the_list_says_so_and_an_earlier_one_is_chosen(run):
    result = run("layers", "tinynets:turned", "--size", "8x8")
    lines = result.out.splitlines()
    assert result.exit_code == 0
    refused = [line.split() for line in lines if "tokens 4x4 after 0 !" in line]
    assert [each[0] for each in refused] == ["norms.0", "norms.1", "norms.2"]
    assert "Where positions lie: 3 refuted !, 1 by construction." in lines
    assert "* chosen when no layer is named:" in lines
    made = run("layers", "tinynets:turned", "--size", "8x8", "--json").document["layers"]
    assert [each["location"] for each in made] == ["by construction", "refuted", "refuted", "refuted"]


def test_thumbnails_are_drawn_and_said(run):
    result = run("layers", "tinynets:build", "--photo", "cat.png", "--thumbnails", "-o", "sheet.png")
    assert result.exit_code == 0
    assert result.out.splitlines()[-2].split() == ["thumbnails", "sheet.png"]
    assert result.out.splitlines()[-1].startswith("drawn       4 layers, 1 forward, 1 backward, ")
    with Image.open("sheet.png") as opened:
        assert min(opened.size) > 200


def test_thumbnails_by_another_method_into_a_folder(run):
    result = run("layers", "tinynets:build", "-p", "cat.png", "-T", "-m", "cam", "-o", "out", "--json", "--all")
    made = result.document["thumbnails"]
    assert made["file"] == str(Path("out") / "cat.layers.png")
    assert Path(made["file"]).is_file()
    assert made["method"] == "cam"
    assert {each["layer"]: each["kind"] for each in made["drawn"]} == {
        "conv1": "not possible", "relu1": "not possible", "conv2": "not possible", "relu2": "ok",
    }  # fmt: skip
    assert made["left_out"] == []
    assert (made["cost"]["forwards"], made["cost"]["backwards"]) == (1, 0)
    assert len(result.document["layers"]) == 4


def test_what_is_left_out_is_said_to_people(run):
    result = run("layers", "--photo", "cat.png", "-T", "-o", "sheet.png")
    assert result.out.splitlines()[-2].startswith("drawn       24 layers")
    assert result.out.splitlines()[-1].startswith("left out    1")
    assert result.out.splitlines()[-1].endswith(" (--all draws every layer that can be)")


def test_a_drawn_sheet_is_no_photo_of_a_folder(run, tmp_path):
    run("layers", "tinynets:build", "-p", "cat.png", "-T", "-o", ".")
    run("explain", "cat.png", "--model", "tinynets:build", "-o", ".")
    assert Path("cat.layers.png").is_file()
    assert [path.name for path in find([str(tmp_path)]).photos] == ["cat.png"]


def test_mistakes_about_thumbnails(run, monkeypatch):
    for args, sentence in (
        (("-T",), "--thumbnails draws maps on a photo; name one with --photo."),
        (("-m", "fem"), "are about thumbnails; add --thumbnails"),
        (("--all",), "are about thumbnails; add --thumbnails"),
        (("-o", "x.png"), "are about thumbnails; add --thumbnails"),
        (("-T", "-p", "cat.png", "-m", "fam"), "no method 'fam'"),
        (("-T", "-p", "cat.png", "-m", "guided_backprop"), "works at the input"),
        (("-T", "-p", "cat.png", "--colormap", "infrno"), "infrno"),
        (("-T", "-p", "cat.png", "-o", "sheet.xyz"), "give the file such a suffix"),
    ):
        result = run("layers", "tinynets:build", *args)
        assert result.exit_code == 2, args
        assert sentence in result.err, args
    assert not list(Path().glob("*.layers.png"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None if name == "matplotlib" else name)
    assert "pip install 'whycam[plot]'" in run("layers", "tinynets:build", "-T", "-p", "cat.png").err
