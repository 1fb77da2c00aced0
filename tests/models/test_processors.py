"""transformers' image processors: each becomes a `Preprocess` with the processor's own numbers, in both backends."""

import warnings

import numpy as np
import pytest
import torch
import torchvision_shim

torchvision_shim.register()

import timm  # noqa: E402
import transformers  # noqa: E402
from preprocessed import PHOTOS, assert_agree  # noqa: E402
from torch import nn  # noqa: E402
from transformers.models.auto import image_processing_auto  # noqa: E402

import whycam  # noqa: E402
from whycam.models.conversion import Foreign, NoPhotos, understood  # noqa: E402


def build(name, backend, **settings):
    return image_processing_auto.get_image_processor_class_from_name(name + ("Pil" if backend == "pil" else ""))(
        **settings
    )


def prepared(processor):
    return lambda photo: processor(images=photo, return_tensors="pt")["pixel_values"][0]


SMALL = {"size": {"shortest_edge": 61}, "crop_size": {"height": 48, "width": 54}}
CASES = {
    "ViT": ("ViTImageProcessor", {"size": {"height": 48, "width": 60}}),
    "ViT, no normalizing": ("ViTImageProcessor", {"size": 40, "do_normalize": False}),
    "ViT, normalized bytes": ("ViTImageProcessor", {"size": 40, "do_rescale": False}),
    "ViT, nearest": ("ViTImageProcessor", {"size": {"height": 31, "width": 60}, "resample": 0}),
    "DeiT": ("DeiTImageProcessor", {"size": 61, "crop_size": 48}),
    "BEiT": ("BeitImageProcessor", {"size": 61, "do_center_crop": True, "crop_size": 48}),
    "BEiT as it comes": ("BeitImageProcessor", {}),
    "BiT": ("BitImageProcessor", SMALL),
    "CLIP": ("CLIPImageProcessor", SMALL),
    "CLIP, padded": ("CLIPImageProcessor", {"do_resize": False, "crop_size": {"height": 64, "width": 171}}),
    "CLIP, larger than what was resized": ("CLIPImageProcessor", {"size": {"shortest_edge": 41}, "crop_size": 64}),
    "MobileNetV1": ("MobileNetV1ImageProcessor", SMALL),
    "MobileNetV2": ("MobileNetV2ImageProcessor", SMALL),
    "ConvNeXt below 384": ("ConvNextImageProcessor", {"size": {"shortest_edge": 61}, "crop_pct": 0.9}),
    "ConvNeXt from 384": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}, "crop_pct": 0.9}),
    "PoolFormer": ("PoolFormerImageProcessor", {**SMALL, "crop_pct": 0.9}),
    "PoolFormer, square": ("PoolFormerImageProcessor", {"size": 61, "crop_size": 48}),
    "PoolFormer, oblong": ("PoolFormerImageProcessor", {"size": {"height": 50, "width": 70}, "crop_size": 48}),
    "LeViT": ("LevitImageProcessor", SMALL),
    "LeViT as it comes": ("LevitImageProcessor", {}),
    "LeViT, stretched": ("LevitImageProcessor", {"size": {"height": 61, "width": 70}, "crop_size": 48}),
    "MobileViT": ("MobileViTImageProcessor", {**SMALL, "do_center_crop": True}),
    "MobileViT as it comes": ("MobileViTImageProcessor", {}),
    "MobileViT, RGB": ("MobileViTImageProcessor", {**SMALL, "do_flip_channel_order": False}),
    "EfficientNet": ("EfficientNetImageProcessor", {"size": 61}),
    "EfficientNet, from -1": (
        "EfficientNetImageProcessor",
        {"size": 61, "rescale_factor": 1 / 127.5, "rescale_offset": True, "do_center_crop": True, "crop_size": 50},
    ),
    "EfficientNet, without its top": (
        "EfficientNetImageProcessor", {"size": 61, "include_top": False, "image_std": [0.2, 0.3, 0.4]},
    ),
    "EfficientNet, with it": ("EfficientNetImageProcessor", {"size": 61, "image_std": [0.2, 0.3, 0.4]}),
    "PVT": ("PvtImageProcessor", {"size": 48}),
    "SegFormer": ("SegformerImageProcessor", {"size": 48}),
    "SigLIP": ("SiglipImageProcessor", {"size": {"height": 48, "width": 48}}),
}  # fmt: skip


@pytest.mark.parametrize("backend", ["torchvision", "pil"])
@pytest.mark.parametrize("case", CASES)
def test_a_processor(case, backend):
    name, settings = CASES[case]
    processor = build(name, backend, **settings)
    made = understood(processor)
    assert_agree(made, prepared(processor))
    assert made.resizer == {"torchvision": "torch", "pil": "pillow"}[backend]


@pytest.mark.parametrize("settings", [{}, {"resize_short": 61, "crop_size": 48, "image_std": [0.2, 0.3, 0.4]}])
def test_pp_lcnet_s_processor_flips_after_it_has_normalized(settings):
    processor = build("PPLCNetImageProcessor", "torchvision", **settings)
    made = understood(processor)
    assert_agree(made, prepared(processor))
    assert made.channels == "bgr"


def test_the_two_backends_of_transformers_differ_by_a_level_here_and_there():
    """As documented for transformers 5: torchvision's backend where that is installed. Its pixels are not Pillow's."""
    settings = {"size": {"shortest_edge": 61}, "crop_size": 48, "resample": 2}
    for photo in (PHOTOS["landscape"], PHOTOS["noise"]):
        one, other = (
            torch.as_tensor(prepared(build("BitImageProcessor", each, **settings))(photo))
            for each in ("torchvision", "pil")
        )
        deviation = torch.tensor(build("BitImageProcessor", "pil").image_std)[:, None, None]
        levels = (one - other).abs() * deviation * 255
        assert 0 < levels.max() < 2.5
        assert (levels > 0.5).float().mean() < 0.05


@pytest.mark.parametrize("backend", ["torchvision", "pil"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [("PerceiverImageProcessor", {}), ("TextNetImageProcessor", {}),
     ("ConvNextImageProcessor", {**SMALL, "do_center_crop": True}),
     ("ViTImageProcessor", {"size": 40, "do_normalize": False, "do_rescale": False})],
    ids=["crops first", "rounds sizes up", "crops twice", "bytes"],
)  # fmt: skip
def test_a_way_that_no_preprocess_describes_is_the_processor_s_own(name, settings, backend):
    processor = build(name, backend, **settings)
    made = understood(processor)
    assert isinstance(made, Foreign)
    for photo in (PHOTOS["landscape"], PHOTOS["tiny"]):
        assert torch.equal(torch.as_tensor(made(photo)), torch.as_tensor(prepared(processor)(photo)))
    assert str(made).startswith(f"photos are prepared by {type(processor).__name__} itself")


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [("Siglip2ImageProcessor", {}, "makes patches of a photo and no picture"),
     ("ImageGPTImageProcessor", {"clusters": np.zeros((4, 3))}, "makes no picture of a photo")],
)  # fmt: skip
def test_a_processor_that_makes_no_picture(name, settings, words):
    made = understood(build(name, "torchvision", **settings))
    assert isinstance(made, NoPhotos)
    with pytest.raises(whycam.WhycamError, match=f"{name} {words}; pass ready inputs, as a dict"):
        made(PHOTOS["tiny"])


def test_a_subclass_with_its_own_way_is_not_taken_for_what_it_is_derived_from():
    class Upside(transformers.ViTImageProcessor):
        def resize(self, image, size, **given):
            return super().resize(image, size, **given).flip(-2)

    assert isinstance(understood(Upside()), Foreign)


def test_settings_changed_later_are_read_anew():
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    assert understood(processor).size == (32, 32)
    assert understood(processor) is understood(processor)
    processor.size = {"height": 40, "width": 24}
    assert understood(processor).size == (40, 24)
    assert_agree(understood(processor), prepared(processor), {"tiny": PHOTOS["tiny"]})


def test_a_timm_model_s_processor_in_transformers():
    config = timm.get_pretrained_cfg("resnet18").to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processor = transformers.TimmWrapperImageProcessor(config, architecture="resnet18")
    assert_agree(understood(processor), prepared(processor))


def test_the_image_half_of_a_processor_of_pictures_and_text():
    half = build("CLIPImageProcessor", "torchvision", **SMALL)

    class CLIPProcessor:
        """Without a tokenizer, which needs a vocabulary."""

        image_processor = half

    CLIPProcessor.__module__ = "transformers.models.clip.processing_clip"
    assert_agree(understood(CLIPProcessor()), prepared(half), {"tiny": PHOTOS["tiny"]})


@pytest.fixture
def vit():
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "cow"},
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(config).eval()


@pytest.mark.parametrize("backend", ["torchvision", "pil"])
def test_a_bare_model_and_its_processor_explain_a_photo(vit, backend):
    processor = build("ViTImageProcessor", backend, size={"height": 32, "width": 32})
    photo = PHOTOS["landscape"]
    e = whycam.explain(vit, photo, preprocess=processor, target="dog")
    wanted = processor(images=photo, return_tensors="pt")
    assert torch.allclose(e.context.inputs, wanted["pixel_values"], atol=1e-5)
    with torch.no_grad():
        logits = vit(**wanted).logits
    assert e.scores.item() == pytest.approx(logits[0, 1].item(), abs=1e-4)
    assert e.predictions[0].name == vit.config.id2label[logits.argmax().item()]
    assert e.overlay().size == photo.size


def test_a_vision_model_takes_a_processor(vit):
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    vision = whycam.VisionModel(vit, processor)
    assert isinstance(vision.preprocess, whycam.Preprocess)


def test_a_processor_s_own_failure_shows_when_it_is_used():
    broken = transformers.ViTImageProcessor(size={"longest_edge": 32})
    made = understood(broken)
    assert isinstance(made, Foreign)
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(whycam.WhycamError, match=r"^ViTImageProcessor cannot prepare this photo: ValueError: "):
        whycam.explain(module, PHOTOS["tiny"], preprocess=broken)
