"""Boxes, regions, similarities and sentences on the command line, on small networks."""

import json
import sys
from pathlib import Path

import pytest
import torchvision_shim
from PIL import Image
from typer.testing import CliRunner

from whycam.cli import app

torchvision_shim.register()
torchvision_shim.detectors()
TOYS = Path(__file__).parents[2] / "examples" / "toys"
sys.path.insert(0, str(TOYS))

NETWORKS = """
import torch, whycam, shapes, sentences
from torch import nn

PLAIN = whycam.Preprocess((128, 128), "stretch", mean=(0, 0, 0), std=(1, 1, 1))

def detector():
    return whycam.VisionModel(shapes.detector(), PLAIN, shapes.NAMES)

def segmenter():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    return whycam.VisionModel(net, PLAIN, ["road", "sky"])

def reader():
    return whycam.VisionModel(sentences.clip(), sentences.PREPARE, tokenizer=lambda: sentences.tokenizer)

def encoder():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return whycam.VisionModel(net, PLAIN)
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Call `whycam` in a folder with a drawn scene and a file of networks; what it printed as JSON, or said."""
    import shapes

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tasknets.py").write_text(NETWORKS)
    picture, _ = shapes.scene(3)
    for name, pixels in (("scene.png", picture), ("other.png", picture.flip(2))):
        Image.fromarray((pixels * 255).byte().permute(1, 2, 0).contiguous().numpy()).save(name)

    def call(command, *args, model="detector"):
        made = CliRunner().invoke(app, [command, "scene.png", "--model", f"tasknets:{model}", *args])
        if made.exception is not None and not isinstance(made.exception, SystemExit):
            raise made.exception
        return made

    return call


def explained(made):
    assert made.exit_code == 0, made.stderr
    return json.loads(made.stdout)["explained"]


def test_one_box_with_the_method_that_tells_boxes_apart(run):
    for asked in (("--box", "1"), ("-t", "box:1")):
        (one,) = explained(run("explain", *asked, "--json"))
        assert one["method"] == "layer_cam"
        assert one["target"].startswith("box 1, ")
    (one,) = explained(run("explain", "--json"))
    assert one["method"] == "layer_cam"
    assert one["target"].startswith("box 0, ")


def test_every_box_has_files_of_its_own(run, tmp_path):
    every = explained(run("explain", "--boxes", "0.5", "--json"))
    assert [each["target"].split(",")[0] for each in every] == [f"box {k}" for k in range(len(every))]
    assert len(every) > 1
    for number in range(len(every)):
        assert (tmp_path / "whycam-out" / f"scene.{number}.layer_cam.overlay.png").exists()
    assert every[0]["target"] in run("explain", "--boxes", "0.5").stdout


def test_a_region_and_a_point_of_it(run):
    (whole,) = explained(run("explain", "--region", "road", "--json", model="segmenter"))
    assert "road" in whole["target"]
    (part,) = explained(run("explain", "--region", "road", "--point", "64,100", "--json", model="segmenter"))
    assert part["target"] != whole["target"]
    made = run("explain", "--point", "64,100", model="segmenter")
    assert made.exit_code == 2
    assert "--point is a pixel of the region that is meant; say with --region" in made.stderr


def test_a_similar_photo(run):
    (one,) = explained(run("explain", "--similar", "other.png", "--json", model="encoder"))
    assert one["target"].startswith("similarity ")


def test_compare_takes_several_and_explain_one(run):
    every = explained(run("compare", "--box", "0", "--boxes", "0.9", "-m", "layer_cam", "--json"))
    assert every[0]["target"].startswith("box 0")
    made = run("explain", "--box", "0", "--text", "a dog")
    assert made.exit_code == 2
    assert "explain has one target, and 2 came: box:0, text:a dog" in made.stderr


def test_a_sentence_for_a_network_that_reads_none_is_a_sentence(run):
    made = run("explain", "--text", "a dog", model="encoder")
    assert made.exit_code == 2
    assert "Traceback" not in made.output


def test_a_sentence_alone_and_against_another(run):
    (alone,) = explained(run("explain", "--text", "a red disc", "--json", model="reader"))
    assert alone["target"].startswith("'a red disc', similarity ")
    (spelled,) = explained(run("explain", "-t", "text:a red disc/a blue square", "--json", model="reader"))
    assert spelled["target"].startswith("'a red disc' rather than 'a blue square', log-odds ")
