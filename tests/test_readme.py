"""The README's code runs as it is printed, and its links lead somewhere."""

import re
from pathlib import Path

import detectors
import nibabel
import numpy as np
import pytest
import torch
import torchvision_shim
import towers
import trainers
from torch import nn

import whycam

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def networks():
    """What the page has no room to build: a network for each kind of target, and two pictures."""
    detector, photo = detectors.made(detectors.retinanet)
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)
    ends = [nn.Sequential(*layers[:2], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, size)) for size in (20, 1)]
    volumes, clips = (
        nn.Sequential(nn.Conv3d(colors, 4, 3, padding=1), nn.AdaptiveAvgPool3d(1), nn.Flatten()) for colors in (1, 3)
    )
    signals = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    words = [*towers.WORDS[:5], "dog"]
    return {
        "volume_network": volumes,
        "video_network": clips,
        "ecg_network": signals,
        "writer": trainers.Pictures(),
        "clip": torch.rand(1, 3, 4, 8, 8),
        "ecg": torch.rand(1, 2, 500),
        "detector": detector,
        "segmenter": nn.Sequential(*layers),
        "encoder": ends[0],
        "estimator": ends[1],
        "clip_model": whycam.VisionModel(towers.Pooled().eval(), tokenizer=towers.tokenizer),
        "clip_vit": whycam.VisionModel(towers.clip().eval(), tokenizer=towers.tokenizer),
        "picture": torch.rand(1, 3, towers.SIDE, towers.SIDE),
        "captioner": whycam.VisionModel(towers.Writer().eval(), tokenizer=lambda: towers.tokenizer(words)),
        "caption": torch.tensor([[1, 4, 5, 2]]),
        "photo": photo,
        "other": 1 - photo,
    }


def test_the_code_runs_as_printed_and_says_what_it_claims(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torchvision_shim.register()  # which timm imports
    names: dict[str, object] = networks()
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 14
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 4), np.float32), np.eye(4)), tmp_path / "scan.nii.gz")
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    written = {
        "chelsea.png",
        "chelsea.html",
        "panels.png",
        "print.png",
        "heat.png",
        "trust.csv",
        "maps",
        "scan.nii.gz",
        "map.nii.gz",
        "clip.gif",
    }
    assert {path.name for path in tmp_path.iterdir()} == written
    made = names["c"]
    assert names["usual"].method == "generic_attention"
    assert str(names["usual"].layer) == "blocks.5 (10x10, tokens on a grid of 10x10 after 1)"
    assert names["usual"].layer.location == "verified"
    layer = names["layer"]
    assert str(layer) == "blocks.5.norm1 (10x10, tokens on a grid of 10x10 after 1)"  # as the comments say
    assert "at 'norm' the gradient is zero" in layer.why
    assert layer.location == "verified"
    assert len(made) == 10  # "all ten": two methods at two layers and CAM at one, for two targets
    assert (made.cost.forwards, made.cost.backwards) == (1, 2)
    assert {(method, layer) for method, layer, _ in made.failures} == {("cam", "0")}
    assert names["e"].target == ("c",)
    assert names["build"]().name == "Sequential"
    assert "photos are prepared as keras.applications does for vgg16" in names["why"].notes
    assert (names["why"].layer.name, tuple(names["why"].maps.shape)) == ("block5_conv3", (1, 4, 4))
    assert [key[:2] for key in names["both"].failures] == [("cam", "block5_conv3")]
    assert names["box"].method == "layer_cam"
    assert (names["boxes"].cost.forwards, names["boxes"].cost.backwards) == (1, 5)
    assert names["alike"].target[0].startswith("similarity")
    assert names["dog"].target[0].startswith("'a dog', similarity")
    assert names["rather"].target[0].startswith("'a dog' rather than 'a cat' or 'a car', log-odds")
    assert names["word"].target[0].startswith("'dog', log-probability -")
    assert names["less"].target[0].startswith("less of value 0")
    assert [layer for _, layer, _ in names["strip"]] == [f"blocks.{number}" for number in range(6)]
    assert [(tag, step) for tag, _, step in names["writer"].seen[1:3]] == [("whycam/sample1", 0), ("whycam/sample0", 5)]
    assert names["surgery"].target[0].startswith("'a dog' rather than")


def test_what_the_page_for_those_who_come_from_elsewhere_says_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "migrating.md").read_text(), flags=re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "migrating.md", "exec"), names)
    assert len(blocks) == 4


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/benchmarks.md",
        "docs/compatibility.md",
        "docs/migrating.md",
        "docs/resuming.md",
        "examples/README.md",
    ],
)
def test_links_to_files_lead_to_files(page):
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        if "://" not in link:
            assert ((ROOT / page).parent / link).exists(), link
