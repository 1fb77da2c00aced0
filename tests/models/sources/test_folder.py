"""The path of a folder: transformers' layout is tested with `hf:`; here timm's, and folders of no layout."""

import json

import pytest
import torch
import torchvision_shim
from weights import assert_same_weights

torchvision_shim.register()

import timm  # noqa: E402
from preprocessed import PHOTOS, assert_agree, size_of  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import whycam  # noqa: E402
from whycam.models.conversion import NoPhotos  # noqa: E402


def build(classes=4, **options):
    torch.manual_seed(3)
    return timm.create_model("test_resnet", pretrained=False, num_classes=classes, **options).eval()


def saved(path, module, **more):
    """As timm pushes a model to a hub."""
    timm.models.save_for_hf(module, path, model_config=more, safe_serialization=True)
    return path


@pytest.fixture
def folder(tmp_path):
    return saved(tmp_path / "mine", build(), label_names=["ant", "bee", "cat", "dog"])


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_a_folder_of_timm_s(folder, internet, prefix):
    vision = whycam.load(f"{prefix}{folder}")
    assert_same_weights(vision.module, build())
    assert not vision.module.training
    assert (vision.name, vision.labels) == (f"{prefix}{folder}", ("ant", "bee", "cat", "dog"))
    config = timm.data.resolve_model_data_config(build())
    assert_agree(vision.preprocess, timm.data.create_transform(**config, is_training=False))
    assert internet.asked == []


def test_a_folder_that_is_named_like_a_library_is_a_folder(tmp_path, monkeypatch):
    (tmp_path / "timm").mkdir()
    saved(tmp_path / "timm" / "resnet18", build())
    monkeypatch.chdir(tmp_path)
    assert_same_weights(whycam.load("timm/resnet18").module, build())


def test_its_own_preprocessing(folder):
    path = folder / "config.json"
    told = json.loads(path.read_text())
    told["pretrained_cfg"] |= {
        "mean": [0.1, 0.2, 0.3],
        "crop_mode": "border",
        "crop_pct": 1.0,
        "input_size": [3, 96, 128],
    }
    path.write_text(json.dumps(told))
    made = whycam.load(str(folder)).preprocess
    config = {"input_size": (3, 96, 128), "crop_mode": "border", "crop_pct": 1.0, "mean": (0.1, 0.2, 0.3),
              "std": build().pretrained_cfg["std"], "interpolation": "bilinear"}  # fmt: skip
    assert_agree(made, timm.data.create_transform(**config, is_training=False))


def test_arguments_that_it_was_built_with(tmp_path):
    torch.manual_seed(3)
    wanted = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=64, depth=1)
    saved(tmp_path / "mine", wanted)
    vision = whycam.load(str(tmp_path / "mine"))
    assert_same_weights(vision.module, wanted)
    assert size_of(vision.preprocess) == (64, 64)
    assert vision.labels is None


def test_a_network_of_one_channel_takes_no_photo(tmp_path):
    saved(tmp_path / "mine", build(in_chans=1))
    vision = whycam.load(str(tmp_path / "mine"))
    assert isinstance(vision.preprocess, NoPhotos)
    with pytest.raises(whycam.WhycamError, match="this network takes 1 channels, and photos have 3; pass a ready"):
        whycam.explain(vision, PHOTOS["tiny"])
    assert whycam.explain(vision, torch.zeros(1, 1, 64, 64)).maps.shape[0] == 1


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth"])
def test_older_files_of_weights(folder, name):
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": build().state_dict()}, folder / name)
    assert_same_weights(whycam.load(str(folder)).module, build())


def test_other_weights_and_random_ones(folder, tmp_path):
    wanted = build(6)
    save_file(wanted.state_dict(), tmp_path / "w.safetensors")
    vision = whycam.load(str(folder), weights=tmp_path / "w.safetensors")
    assert_same_weights(vision.module, wanted)
    assert (vision.labels, vision.name) == (None, f"{folder} (w.safetensors)")
    vision = whycam.load(str(folder), weights="random")
    assert (vision.labels[3], vision.name) == ("dog", f"{folder} (random weights)")
    assert not torch.equal(vision.module.conv1[0].weight, build().conv1[0].weight)


def test_weights_to_be_translated_are_the_file_s_and_not_the_folder_s(tmp_path):
    made = {seed: torch.manual_seed(seed) and timm.create_model("test_vit", num_classes=3) for seed in (3, 4)}
    saved(tmp_path / "mine", made[3])
    torch.save({**made[4].state_dict(), "mask_token": torch.zeros(1, 64)}, tmp_path / "w.pt")
    assert_same_weights(whycam.load(str(tmp_path / "mine"), weights=tmp_path / "w.pt").module, made[4])


def test_folders_that_hold_no_model(tmp_path):
    def told(**config):
        (tmp_path / "config.json").write_text(json.dumps(config))

    def refused(words, spec=str(tmp_path)):
        with pytest.raises(whycam.WhycamError, match=words):
            whycam.load(spec)

    refused("has no config.json, as transformers and timm save it with a model")
    (tmp_path / "config.json").write_text("{")
    refused("config.json is no JSON: Expecting")
    told(layers=3)
    refused("says neither model_type, as transformers' do, nor architecture, as timm's do")
    told(architecture="resnet_of_mine", pretrained_cfg={})
    refused(r"Unknown model \(resnet_of_mine\), says timm")
    told(architecture="test_resnet", pretrained_cfg={"input_size": [3, 64, 64], "num_classes": 4})
    refused("has no weights; looked for model.safetensors, pytorch_model.bin")
    told(model_type="no_such_type")
    refused("config.json cannot be read from it: ")


@pytest.mark.parametrize(
    ("config", "said"),
    [([3], r"\(AttributeError: .*'list'"), ({"input_size": [5, 64, 64], "num_classes": "many"}, r"\(TypeError: ")],
)
def test_values_of_which_timm_can_build_nothing(tmp_path, config, said):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": config}))
    with pytest.raises(whycam.WhycamError, match=rf"config.json describes {said}.*look at the values in it"):
        whycam.load(str(tmp_path))


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(whycam.WhycamError, match="is a file; weights alone do not say what network they are of"):
        whycam.load(str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("spec", ["./nowhere", "/no/such/folder", "~/no/such/folder"])
def test_a_folder_that_is_not_there(spec):
    with pytest.raises(whycam.WhycamError, match=f"^no folder '{spec}'"):
        whycam.load(spec)
