"""Preprocessing in other libraries' words: the numbers are the library's own, on photos of every shape."""

import itertools

import numpy as np
import pytest
import torch
import torchvision_shim

torchvision_shim.register()

import timm.data  # noqa: E402
import torchvision  # noqa: E402
from PIL import Image  # noqa: E402
from preprocessed import PHOTOS, assert_agree  # noqa: E402
from torchvision import transforms as v1  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

import whycam  # noqa: E402
from whycam.models.composed import from_timm_config  # noqa: E402
from whycam.models.conversion import Foreign, NoPhotos, understood  # noqa: E402
from whycam.models.vision_model import VisionModel  # noqa: E402
from whycam.pictures.preprocess import Preprocess  # noqa: E402

BICUBIC, NEAREST = v1.InterpolationMode.BICUBIC, v1.InterpolationMode.NEAREST
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

CONFIGS = [
    {"input_size": (3, *size), "crop_pct": share, "crop_mode": mode, "interpolation": way, "mean": (0.5, 0.4, 0.3),
     "std": (0.2, 0.3, 0.4)}
    for size, share, (mode, way) in itertools.product(
        [(48, 48), (40, 64), (65, 41)], [1.0, 0.875, 0.95],
        [("center", "bicubic"), ("squash", "bilinear"), ("border", "bicubic"), ("center", "nearest")])
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c['crop_mode']}-{c['input_size']}-{c['crop_pct']}")
def test_a_timm_configuration(config):
    transform = timm.data.create_transform(**config, is_training=False)
    made = from_timm_config(config)
    assert_agree(made, transform)
    assert_agree(understood(transform), transform)
    height, width = config["input_size"][1:]
    assert made.geometry((300, 451)).input_size == (height, width)


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_tiny.fb_in22k_ft_in1k_384", "vit_tiny_patch16_384", "efficientnet_b1.ft_in1k",
             "vit_base_patch16_siglip_256.webli", "inception_v3.tv_in1k"]
)  # fmt: skip
def test_the_configuration_of_a_model_of_timm_s(name):
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    assert_agree(from_timm_config(config), timm.data.create_transform(**config, is_training=False))


def presets():
    models = torchvision.models
    found = {}
    for name in models.list_models(module=models):
        for entry in models.get_model_weights(name):
            found.setdefault(repr(entry.transforms()), entry)
    return list(found.values())


@pytest.mark.parametrize("entry", presets(), ids=str)
def test_a_preset_of_torchvision_s(entry):
    preset = entry.transforms()
    assert_agree(understood(preset), preset)


NORMALIZE = v1.Normalize(**IMAGENET)
CHAINS = {
    "usual": v1.Compose([v1.Resize(64), v1.CenterCrop(48), v1.ToTensor(), NORMALIZE]),
    "stretched": v1.Compose([v1.Resize((48, 40), BICUBIC), v1.ToTensor()]),
    "one number in a list": v1.Compose([v1.Resize([50]), v1.CenterCrop([48]), v1.ToTensor(), NORMALIZE]),
    "nearest": v1.Compose([v1.Resize((31, 48), NEAREST), v1.ToTensor()]),
    "no crop": v1.Compose([v1.Resize(40), v1.ToTensor(), NORMALIZE]),
    "crop alone": v1.Compose([v1.CenterCrop(40), v1.ToTensor(), NORMALIZE]),
    "bytes, then floats": v1.Compose(
        [v1.Resize(64), v1.PILToTensor(), v1.CenterCrop(47), v1.ConvertImageDtype(torch.float32), NORMALIZE]
    ),
    "version 2": v2.Compose(
        [v2.ToImage(), v2.Resize(64, BICUBIC), v2.CenterCrop(47), v2.ToDtype(torch.float32, scale=True), NORMALIZE]
    ),
    "version 2 of a picture": v2.Compose(
        [
            v2.Resize(64),
            v2.CenterCrop(48),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(**IMAGENET),
        ]
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_torchvision_s_steps(name):
    chain = CHAINS[name]
    assert_agree(understood(chain), lambda photo: torch.as_tensor(chain(photo)))


UNREADABLE = {
    "a random step": v1.Compose([v1.Resize(64), v1.RandomCrop(48), v1.ToTensor()]),
    "a longest side": v1.Compose([v1.Resize(40, max_size=64), v1.ToTensor()]),
    "floats, then a resize": v1.Compose([v1.ToTensor(), v1.Resize((48, 48)), NORMALIZE]),
    "bytes through floats and back": v1.Compose(
        [v1.PILToTensor(), v1.Resize(64), v1.CenterCrop(47), v1.ConvertImageDtype(torch.float32)]
    ),
    "two resizes": v1.Compose([v1.Resize(64), v1.Resize((40, 40)), v1.ToTensor()]),
    "padding": v1.Compose([v1.Resize(64), v1.Pad(4), v1.CenterCrop(48), v1.ToTensor()]),
    "unscaled": v2.Compose([v2.Resize((40, 40)), v2.ToImage(), v2.ToDtype(torch.float32)]),
    "two means": v1.Compose([v1.Resize((40, 40)), v1.ToTensor(), NORMALIZE, NORMALIZE]),
    "turned": v1.Compose([v1.Resize((40, 40)), v1.RandomHorizontalFlip(p=1.0), v1.ToTensor()]),
    "the user's own": v1.Compose([v1.Resize((40, 40)), lambda picture: picture.rotate(90), v1.ToTensor()]),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_off_is_used_as_it_is(name):
    chain = UNREADABLE[name]
    made = understood(chain)
    assert isinstance(made, Foreign), made
    torch.manual_seed(0)
    wanted = chain(PHOTOS["landscape"])
    torch.manual_seed(0)
    assert torch.equal(made(PHOTOS["landscape"]), wanted)
    note = "photos are prepared by Compose itself, so where the input lies on the photo is not known"
    assert VisionModel(torch.nn.Flatten(), chain).preprocess_note == str(made) == note


def test_a_step_of_the_user_s_own_that_looks_like_a_known_one_is_not_believed():
    class Resize(v1.Resize):
        def forward(self, picture):
            return super().forward(picture.rotate(180))

    Resize.__module__ = v1.Resize.__module__
    assert isinstance(understood(v1.Compose([Resize((40, 40)), v1.ToTensor()])), Foreign)


def test_other_functions_and_preprocesses_are_left_alone():
    def mine(picture):
        raise AssertionError  # nobody tries it

    assert understood(mine) is mine
    known = Preprocess.imagenet()
    assert understood(known) is known
    assert understood(None) is None
    assert VisionModel(torch.nn.Flatten(), mine).preprocess_note == ""


def test_a_library_that_cannot_prepare_a_photo_is_named():
    chain = v1.Compose([v1.Grayscale(), v1.RandomCrop(400), v1.ToTensor()])
    with pytest.raises(whycam.WhycamError, match=r"^Compose cannot prepare this photo: ValueError: Required crop size"):
        understood(chain)(PHOTOS["tiny"])


def test_a_chain_changed_later_is_read_anew():
    chain = v1.Compose([v1.Resize((40, 30)), v1.ToTensor()])
    assert understood(chain).size == (40, 30)
    assert understood(chain) is understood(chain)
    chain.transforms[0].size = (30, 40)
    assert understood(chain).size == (30, 40)
    chain.transforms.insert(1, v1.RandomCrop(20))
    assert isinstance(understood(chain), Foreign)


def test_no_photos_says_why():
    with pytest.raises(whycam.WhycamError, match=r"^it takes sound$"):
        NoPhotos("it takes sound")(PHOTOS["tiny"])


def test_explain_reads_a_transform_and_says_nothing_of_it():
    chain = CHAINS["usual"]
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    e = whycam.explain(module.eval(), PHOTOS["landscape"], preprocess=chain)
    assert torch.allclose(e.context.inputs[0], chain(PHOTOS["landscape"]), atol=1e-5)
    assert e.context.geometries is not None
    assert not any("prepared" in note for note in e.notes)


def test_explain_says_that_it_does_not_know_where_the_input_lies():
    chain = UNREADABLE["two resizes"]
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    e = whycam.explain(module.eval(), PHOTOS["landscape"], preprocess=chain)
    assert torch.allclose(e.context.inputs[0], chain(PHOTOS["landscape"]), atol=1e-5)
    assert e.context.geometries is None
    assert "photos are prepared by Compose itself, so where the input lies on the photo is not known" in e.notes


def test_gray_photos_are_made_rgb_before_any_of_this():
    gray = Image.fromarray(np.asarray(PHOTOS["landscape"])[..., 0])
    chain = CHAINS["usual"]
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    e = whycam.explain(module.eval(), gray, preprocess=chain)
    assert torch.allclose(e.context.inputs[0], chain(gray.convert("RGB")), atol=1e-5)
