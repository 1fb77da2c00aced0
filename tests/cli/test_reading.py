"""What the command line says of preprocessing, labels, the answer, layouts, views, and targets of one's own."""

import json
import sys

import pytest
import skimage.data
import torch
from PIL import Image
from typer.testing import CliRunner

import whycam
from whycam.cli import app
from whycam.runs.explaining import Worker

NETWORK = """
import torch
from torch import nn


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2))
        self.one, self.other = nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x):
        pooled = self.features(x).mean((2, 3))
        return {"first": self.one(pooled), "second": self.other(pooled)}


def build():
    return Two().eval()


def prepare(image):
    import numpy as np

    return torch.from_numpy(np.array(image.resize((32, 32)))).permute(2, 0, 1) / 255


def margin(output):
    return output[:, 0] - output[:, 1]


limit = 3
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`whycam` in a folder with a network of one's own and a photo."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_network", raising=False)
    (tmp_path / "own_network.py").write_text(NETWORK)
    Image.fromarray(skimage.data.chelsea()).resize((48, 40)).save("cat.png")

    def call(*args, command="explain"):
        head = ["cat.png", "--model", "own_network:build", "--preprocess", "own_network:prepare", "--json"]
        return CliRunner().invoke(app, [command, *head, *args])

    yield call
    sys.modules.pop("own_network", None)


def explained(result):
    assert result.exit_code == 0, result.output
    (one,) = json.loads(result.stdout)["explained"]
    return one


@pytest.mark.parametrize(("answer", "classes"), [("first", 3), ("second", 2)])
def test_the_answer_and_a_target_of_ones_own(run, tmp_path, answer, classes):
    one = explained(run("--answer", answer, "-t", "own_network:margin", "-l", "features.2"))
    import own_network

    inputs = own_network.prepare(Image.open("cat.png").convert("RGB"))[None]
    output = own_network.build()(inputs)[answer]
    assert output.shape == (1, classes)
    assert one["target"] == "margin"
    assert one["score"] == pytest.approx(float(own_network.margin(output).detach()), rel=1e-5)


def test_labels_from_lines_and_from_json(run, tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\ncow\n")
    (tmp_path / "names.json").write_text(json.dumps({"0": "cat", "1": "dog", "2": "cow"}))
    for name in ("names.txt", "names.json"):
        assert explained(run("--answer", "first", "--labels", name, "-t", "dog"))["target"] == "dog"
    assert "cannot be read" in run("--labels", "none.txt").output


def test_a_layout_and_views_are_passed_on(run, monkeypatch):
    seen = {}

    def spy(worker, several):
        seen.update(vars(worker.request))
        raise whycam.WhycamError("seen")

    monkeypatch.setattr(Worker, "_maps", spy)
    run("--layout", "tokens:4x3+1", "--views", "1,left", "--answer", "0")
    assert seen["layout"] == whycam.layouts.Tokens((4, 3), 1)
    assert (seen["views"], seen["output"]) == ([1, "left"], 0)
    for text, layout in (
        ("channels-last", whycam.layouts.ChannelsLast()),
        ("channels_first", whycam.layouts.ChannelsFirst()),
    ):
        run("--layout", text)
        assert seen["layout"] == layout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--layout", "tokens"], "--layout is channels-first, channels-last, or tokens"),
        (["--preprocess", "resnet"], "--preprocess is imagenet, imagenet:SIZE"),
        (["-t", "own_network:nothing"], "has no 'nothing'"),
        (["-t", "own_network:limit"], "is a int; a function output -> scores was expected"),
    ],
)
def test_mistakes_are_sentences(run, args, said):
    result = run("--answer", "first", *args)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_photos_for_a_network_alone_need_a_preprocessing(run):
    result = CliRunner().invoke(app, ["explain", "cat.png", "--model", "own_network:build"])
    assert "--preprocess imagenet" in " ".join(result.output.split())


def test_imagenet_of_another_size(run, monkeypatch):
    from whycam.cli.arguments import load_model

    made = load_model("own_network:build", None, False, preprocess="imagenet:320")
    assert made.preprocess == whycam.Preprocess.imagenet(320, 366)
    assert (
        load_model("own_network:build", None, False, preprocess="imagenet").preprocess == whycam.Preprocess.imagenet()
    )
    assert torch.is_tensor(made.preprocess(whycam.read_photo("cat.png"))[0])


def test_compare_takes_them_too(run):
    result = run("--answer", "second", "-t", "own_network:margin", "-m", "grad_cam,layer_cam", command="compare")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["explained"]) == 2
