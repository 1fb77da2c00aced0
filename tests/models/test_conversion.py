"""What callers pass as preprocess=: transforms, image processors and functions, whose numbers are used as they are."""

import warnings

import numpy as np
import pytest
import torch
import torchvision_shim

torchvision_shim.register()

import timm  # noqa: E402
import transformers  # noqa: E402
from PIL import Image  # noqa: E402
from preprocessed import PHOTOS, assert_agree  # noqa: E402
from torch import nn  # noqa: E402
from torchvision import transforms as v1  # noqa: E402
from transformers.models.auto import image_processing_auto  # noqa: E402

import whycam  # noqa: E402
from whycam.models.conversion import NoPhotos, as_function  # noqa: E402
from whycam.models.vision_model import VisionModel  # noqa: E402

USUAL = v1.Compose([v1.Resize(64), v1.CenterCrop(48), v1.ToTensor(), v1.Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])])


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def build(name, backend="torchvision", **settings):
    return image_processing_auto.get_image_processor_class_from_name(name + ("Pil" if backend == "pil" else ""))(
        **settings
    )


def prepared(processor):
    return lambda photo: processor(images=photo, return_tensors="pt")["pixel_values"][0]


def test_functions_and_preprocesses_are_left_alone():
    def mine(picture):
        raise AssertionError  # nobody tries it

    for each in (mine, USUAL, whycam.Preprocess.imagenet(), None):
        assert as_function(each) is each
        assert VisionModel(nn.Flatten(), each).preprocess is each


@pytest.mark.parametrize("backend", ["torchvision", "pil"])
@pytest.mark.parametrize("name", ["ViTImageProcessor", "LevitImageProcessor", "MobileViTImageProcessor"])
def test_a_processor_is_a_function(name, backend):
    processor = build(name, backend)
    assert_agree(as_function(processor), prepared(processor))
    assert isinstance(VisionModel(nn.Flatten(), processor).preprocess(PHOTOS["tiny"]), torch.Tensor)


def test_a_timm_model_s_processor_in_transformers():
    config = timm.get_pretrained_cfg("resnet18").to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processor = transformers.TimmWrapperImageProcessor(config, architecture="resnet18")
    assert_agree(as_function(processor), prepared(processor), {"tiny": PHOTOS["tiny"]})


def test_the_image_half_of_a_processor_of_pictures_and_text():
    half = build("CLIPImageProcessor", size={"shortest_edge": 61}, crop_size=48)

    class CLIPProcessor:
        """Without a tokenizer, which needs a vocabulary."""

        image_processor = half

    assert_agree(as_function(CLIPProcessor()), prepared(half), {"tiny": PHOTOS["tiny"]})


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [("Siglip2ImageProcessor", {}, r"makes no picture of a photo \(patches\)"),
     ("ImageGPTImageProcessor", {"clusters": np.zeros((4, 3))}, r"makes no picture of a photo \(other numbers\)")],
)  # fmt: skip
def test_a_processor_that_makes_no_picture(name, settings, words):
    with pytest.raises(whycam.WhycamError, match=f"{name} {words}; pass ready inputs, as a dict"):
        whycam.explain(network(), PHOTOS["tiny"], preprocess=build(name, **settings))


@pytest.mark.parametrize("backend", ["torchvision", "pil"])
def test_a_bare_model_and_its_processor_explain_a_photo(backend):
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "cow"},
    )  # fmt: skip
    torch.manual_seed(0)
    vit = transformers.ViTForImageClassification(config).eval()
    processor = build("ViTImageProcessor", backend, size={"height": 32, "width": 32})
    photo = PHOTOS["landscape"]
    e = whycam.explain(vit, photo, preprocess=processor, target="dog")
    wanted = processor(images=photo, return_tensors="pt")
    assert torch.equal(e.context.inputs, torch.as_tensor(wanted["pixel_values"]))
    with torch.no_grad():
        logits = vit(**wanted).logits
    assert e.scores.item() == pytest.approx(logits[0, 1].item(), abs=1e-4)
    assert e.predictions[0].name == vit.config.id2label[logits.argmax().item()]
    assert e.overlay().size == photo.size


def test_a_library_s_own_failure_is_named():
    processor = transformers.ViTImageProcessor(size={"longest_edge": 32})
    with pytest.raises(whycam.WhycamError, match=r"^ViTImageProcessor cannot prepare this photo: ValueError: "):
        whycam.explain(network(), PHOTOS["tiny"], preprocess=processor)
    chain = v1.Compose([v1.RandomCrop(400), v1.ToTensor()])
    with pytest.raises(whycam.WhycamError, match=r"^Compose cannot prepare this photo: ValueError: Required crop size"):
        whycam.explain(network(), PHOTOS["tiny"], preprocess=chain)


def test_no_photos_says_why():
    with pytest.raises(whycam.WhycamError, match=r"^it takes sound$"):
        NoPhotos("it takes sound")(PHOTOS["tiny"])


def test_a_transform_s_numbers_and_geometry_are_used_and_nothing_is_said_of_it():
    e = whycam.explain(network(), PHOTOS["landscape"], preprocess=USUAL)
    assert torch.equal(e.context.inputs[0], USUAL(PHOTOS["landscape"]))
    height, width = PHOTOS["landscape"].size[::-1]
    (found,) = e.context.geometries
    assert found.input_size == (48, 48)
    assert found.scale == pytest.approx((height / 64, width / int(64 * width / height)), rel=2e-3)
    assert not any("prepared" in note for note in e.notes)
    seen = USUAL.transforms[1](USUAL.transforms[0](PHOTOS["landscape"]))
    assert np.abs(np.asarray(e.context.preprocess.undo(e.context.inputs[0]), float) - np.asarray(seen)).max() <= 1


def test_it_is_said_where_the_place_of_the_input_is_not_known():
    chain = v1.Compose([v1.Resize((40, 40)), lambda picture: picture.rotate(90), v1.ToTensor()])
    e = whycam.explain(network(), PHOTOS["landscape"], preprocess=chain)
    assert torch.equal(e.context.inputs[0], chain(PHOTOS["landscape"]))
    assert e.context.geometries is None
    assert (
        "photos are prepared by Compose, and where the input lies on the photo is not known: it turns, mirrors or "
        "bends photos" in e.notes
    )
    assert e.overlay(caption=False).size == (40, 40) or e.overlay(caption=False)


def test_photos_of_several_sizes_and_a_chain_changed_later():
    photos = [PHOTOS["landscape"], PHOTOS["portrait"]]
    chain = v1.Compose([v1.Resize((40, 30)), v1.ToTensor()])
    for size in ((40, 30), (30, 40)):
        chain.transforms[0].size = size
        geometries = whycam.explain(network(), photos, preprocess=chain).context.geometries
        for photo, found in zip(photos, geometries, strict=True):
            assert found.photo_size == photo.size[::-1]
            assert found.input_size == size
            assert found.scale == pytest.approx((photo.height / size[0], photo.width / size[1]), rel=2e-3)


def test_a_model_is_measured_once_for_each_size_and_setting(monkeypatch):
    runs = []
    chain = v1.Compose([v1.Resize((40, 30)), lambda image: runs.append(image.size) or image, v1.ToTensor()])
    explainer = whycam.Explainer(network(), preprocess=chain)
    for size in ((40, 30), (40, 30), (30, 40)):
        chain.transforms[0].size = size
        before = len(runs)
        found = explainer.explain(PHOTOS["landscape"]).context.geometries[0]
        assert found.input_size == size
        again = len(runs) - before == 1
    assert len(runs) == 7 + 1 + 7
    assert not again


def test_gray_photos_are_made_rgb_before_any_of_this():
    gray = Image.fromarray(np.asarray(PHOTOS["landscape"])[..., 0])
    e = whycam.explain(network(), gray, preprocess=USUAL)
    assert torch.equal(e.context.inputs[0], USUAL(gray.convert("RGB")))
