"""Models by name on the command line: one sentence and exit code 2 for what cannot be."""

import json
from pathlib import Path

import pytest
import torch
import torchvision_shim
from PIL import Image
from typer.testing import CliRunner

torchvision_shim.register()

import timm  # noqa: E402
from preprocessed import PHOTOS  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from whycam.cli import app  # noqa: E402


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call `whycam` in a folder that holds `cat.png`."""
    monkeypatch.chdir(tmp_path)
    PHOTOS["landscape"].save("cat.png")

    def call(*args):
        made = CliRunner().invoke(app, [str(each) for each in args])
        if made.exception is not None and not isinstance(made.exception, SystemExit):
            raise made.exception
        return made

    return call


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(3)
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_a_network_by_name_with_weights_from_a_file(run, weights, internet):
    made = run("explain", "cat.png", "--model", "timm:test_resnet", "--weights", weights, "-t", "3", "-o", "out")
    assert made.exit_code == 0, made.output
    assert "timm:test_resnet (w.safetensors)" in made.stdout
    record = json.loads(Path("out/cat.grad_cam.json").read_text())
    assert record["target"] == "class 3"
    assert record["model"] == "timm:test_resnet (w.safetensors)"
    assert record["geometry"]["input_size"] == [160, 160]
    with Image.open("out/cat.grad_cam.overlay.png") as overlay:
        assert overlay.width == PHOTOS["landscape"].width
    assert internet.asked == []


def test_random_weights_to_look_at_the_layers(run, internet):
    made = run("layers", "--model", "timm:test_resnet", "--weights", "random")
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith("timm:test_resnet (random weights): ")
    assert "layer4" in made.stdout


@pytest.mark.parametrize(
    ("spec", "words"),
    [("timm:resnt18", "'timm:resnt18': timm "), ("torchvision:resnt18", "Did you mean 'torchvision:resnet18'"),
     ("hf:vti", "Did you mean 'hf:vit'"), ("./nowhere", "no folder './nowhere'."),
     ("keras:x", "there is no file x; 'keras:' takes the path"),
     ("torchvision:raft_small", "those are not explained by name")],
)  # fmt: skip
def test_a_bad_name_is_a_sentence(run, internet, spec, words):
    made = run("explain", "cat.png", "--model", spec)
    assert made.exit_code == 2
    assert words in made.stderr
    assert "Traceback" not in made.output


def test_no_network_is_a_sentence(run, internet, hf_home, torch_home):
    for spec in ("timm:test_resnet", "torchvision:resnet18", "hf:someone/something"):
        made = run("explain", "cat.png", "--model", spec)
        assert made.exit_code == 2
        assert "cannot be reached. Connect to the network, or do without" in made.stderr
    assert len(internet.asked) == 3


def test_a_factory_that_raises_is_a_sentence(run, tmp_path):
    (tmp_path / "factory_that_raises.py").write_text("def build():\n    raise RuntimeError('no weights here')\n")
    made = run("explain", "cat.png", "--model", "factory_that_raises:build")
    assert made.exit_code == 2
    assert (
        "'factory_that_raises:build': calling build() raised RuntimeError: no weights here "
        f"({tmp_path / 'factory_that_raises.py'}, line 2)."
    ) in made.stderr
    assert "Traceback" not in made.output


def test_a_network_of_clips_is_refused_once_and_not_for_each_photo(run, internet):
    made = run("explain", "cat.png", "--model", "torchvision:r3d_18", "--weights", "random")
    assert made.exit_code == 2
    assert made.stderr.count("this network takes clips, and a photo is none") == 1


def test_where_the_input_lies_is_measured_where_the_library_prepares_photos(run, tmp_path, internet):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "saved")
    told = {"image_processor_type": "PerceiverImageProcessor", "size": {"height": 32, "width": 32},
            "crop_size": {"height": 36, "width": 36}}  # fmt: skip
    (tmp_path / "saved" / "preprocessor_config.json").write_text(json.dumps(told))
    made = run("explain", "cat.png", "--model", "saved")
    assert made.exit_code == 0, made.output
    assert "is not known" not in made.stdout
    with Image.open("cat.png") as photo, Image.open(next(tmp_path.rglob("cat*.overlay.png"))) as drawn:
        assert drawn.width == photo.width  # on the photo, and not on the input


def test_help_names_the_sources(run):
    words = " ".join(run("explain", "--help").output.split())
    assert (
        "'builtin', 'timm:NAME', 'torchvision:NAME', 'hf:NAME', 'ultralytics:FILE.pt', 'keras:PATH', "
        "a folder with config.json and weights" in words
    )
    assert "or 'random', to look at its structure" in words
