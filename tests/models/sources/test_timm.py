"""`timm:NAME`: the network, its weights from the cache or a file, its own preprocessing and its label texts."""

import os

import pytest
import torch
import torchvision_shim
from weights import assert_same_weights

torchvision_shim.register()

import timm  # noqa: E402
from preprocessed import PHOTOS, assert_agree, size_of  # noqa: E402
from safetensors.torch import save, save_file  # noqa: E402

import whycam  # noqa: E402

#: Timm's own model for tests: a twentieth of a ResNet-18, for inputs of 160 x 160.
NAME, FULL = "test_resnet", "test_resnet.r160_in1k"


def build(classes=1000, name=NAME, **options):
    torch.manual_seed(3)
    return timm.create_model(name, pretrained=False, num_classes=classes, **options).eval()


def transform_of(module):
    return timm.data.create_transform(**timm.data.resolve_model_data_config(module), is_training=False)


@pytest.fixture
def cached(hf_home):
    """The model's own weights, in the Hugging Face cache."""
    made = build()
    hf_home(f"timm/{FULL}", {"model.safetensors": save(made.state_dict())})
    return made


@pytest.mark.parametrize("spec", [f"timm:{NAME}", f"timm:{FULL}"])
def test_weights_in_the_cache_are_taken_without_a_network(cached, internet, spec):
    vision = whycam.load(spec)
    assert_same_weights(vision.module, cached)
    assert not vision.module.training
    assert vision.name == f"timm:{FULL}"
    assert vision.labels[282] == "tiger cat"
    assert_agree(vision.preprocess, transform_of(cached))
    assert internet.asked == []


def test_it_can_be_explained_by_name(cached, internet):
    e = whycam.explain(f"timm:{NAME}", PHOTOS["landscape"], "hires_cam", target="tabby")
    with torch.no_grad():
        score = cached(transform_of(cached)(PHOTOS["landscape"])[None])[0, 281]
    assert e.scores.item() == pytest.approx(score.item(), rel=1e-4, abs=1e-5)
    assert (e.model, e.target[0]) == (f"timm:{FULL}", "tabby")
    assert not any("prepared" in note for note in e.notes)


@pytest.mark.parametrize("spec", [f"timm/{NAME}", f"timm:timm/{NAME}"])
def test_the_hub_s_way_to_write_it_is_understood_and_corrected(cached, internet, spec):
    with pytest.warns(UserWarning, match=f"^'{spec}' is read as 'timm:{NAME}'$"):
        vision = whycam.load(spec)
    assert vision.name == f"timm:{FULL}"


def test_without_a_network_the_repository_is_named(internet, hf_home):
    with pytest.raises(whycam.WhycamError) as caught:
        whycam.load(f"timm:{NAME}")
    assert str(caught.value).startswith(
        f"'timm:{NAME}' would fetch timm/{FULL}/model.safetensors from huggingface.co, since it is not on this machine"
    )
    assert len(internet.asked) == 1


def test_random_weights_are_said_to_be_random(internet, hf_home):
    vision = whycam.load(f"timm:{NAME}", weights="random")
    assert vision.name == f"timm:{NAME} (random weights)"
    assert size_of(vision.preprocess) == (160, 160)
    assert not vision.module.training
    assert internet.asked == []


@pytest.mark.parametrize("form", ["safetensors", "pt", "prefixed", "nested"])
def test_a_file_decides_how_many_classes_there_are(tmp_path, internet, hf_home, form):
    wanted = build(7)
    state = wanted.state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file(state, path)
    else:
        state = {f"module.{name}": value for name, value in state.items()} if form == "prefixed" else state
        torch.save({"state_dict": state, "epoch": 3} if form == "nested" else state, path)
    vision = whycam.load(f"timm:{NAME}", weights=path)
    assert_same_weights(vision.module, wanted)
    assert vision.labels is None
    assert vision.name == f"timm:{NAME} ({path.name})"
    assert size_of(vision.preprocess) == (160, 160)
    assert internet.asked == []


def test_a_file_of_as_many_classes_keeps_the_labels(tmp_path):
    save_file(build().state_dict(), tmp_path / "w.safetensors")
    assert whycam.load(f"timm:{NAME}", weights=tmp_path / "w.safetensors").labels[282] == "tiger cat"


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_classifiers_by_other_names(tmp_path, name):
    wanted = build(5, name)
    save_file(wanted.state_dict(), tmp_path / "w.safetensors")
    assert_same_weights(whycam.load(f"timm:{name}", weights=tmp_path / "w.safetensors").module, wanted)


def test_names_of_another_origin_are_translated_by_timm(tmp_path):
    wanted = build(5, "test_vit")
    state = {**wanted.state_dict(), "mask_token": torch.zeros(1, 64)}  # as in DINOv2's own files
    torch.save(state, tmp_path / "w.pt")
    module = whycam.load("timm:test_vit", weights=tmp_path / "w.pt").module
    assert_same_weights(module, wanted)
    assert "state_dict" not in module.pretrained_cfg


def test_positions_for_another_size_are_not_resampled_unasked(tmp_path):
    save_file(build(5, "test_vit", img_size=192).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(whycam.WhycamError, match=r"w.safetensors does not fit 'test_vit' of timm: pos_embed has shape"):
        whycam.load("timm:test_vit", weights=tmp_path / "w.safetensors")


def test_weights_of_another_network_are_refused(tmp_path):
    save_file(build(5, "test_convnext").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(whycam.WhycamError, match=r"w.safetensors does not fit 'test_resnet' of timm: \d+ weights of"):
        whycam.load(f"timm:{NAME}", weights=tmp_path / "w.safetensors")


class Creates:
    """Unpickling this makes a folder: a checkpoint that does something."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_the_hub_s_weights_is_not_run(tmp_path, internet, hf_home):
    path = tmp_path / "hostile.bin"
    torch.save({**build().state_dict(), "note": Creates(tmp_path / "made")}, path)
    hf_home(f"timm/{FULL}", {"pytorch_model.bin": path.read_bytes()})
    with pytest.raises(whycam.WhycamError, match=r"pytorch_model.bin holds more than tensors .*it was not read"):
        whycam.load(f"timm:{NAME}")
    assert not (tmp_path / "made").exists()


def test_weights_at_an_address_and_not_in_a_repository(tmp_path, internet, torch_home, monkeypatch):
    config = timm.get_pretrained_cfg(NAME)
    url = "https://download.example.org/test_resnet-0123abcd.pth"
    monkeypatch.setattr(config, "hf_hub_id", None)
    monkeypatch.setattr(config, "url", url)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: config)
    wanted = build()
    torch_home.mkdir(parents=True)
    torch.save(wanted.state_dict(), torch_home / "test_resnet-0123abcd.pth")
    assert_same_weights(whycam.load(f"timm:{NAME}").module, wanted)
    assert internet.asked == []
    (torch_home / "test_resnet-0123abcd.pth").unlink()
    with pytest.raises(whycam.WhycamError, match=f"would fetch {url} from download.example.org"):
        whycam.load(f"timm:{NAME}")


def test_a_network_that_nobody_trained(internet):
    with pytest.raises(whycam.WhycamError, match=r"'timm:botnet50ts_256' has no weights of its own anywhere\. Give a"):
        whycam.load("timm:botnet50ts_256")
    assert internet.asked == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("resnt18", r"has no such model\. Did you mean 'timm:resnet18' or "),
     ("ResNet-50", "Did you mean 'timm:resnet50'"),
     ("quite_another_thing", r"has no such model\.$"), ("", r"has no such model\.$"),
     ("resnet18.a9_in1k", r"resnet18 has no weights of the name 'a9_in1k'\. It has a1_in1k, a2_in1k, "),
     ("someone/resnet18", r"A repository of the Hugging Face hub is 'hf:someone/resnet18'\.$")],
)  # fmt: skip
def test_a_name_that_timm_does_not_know(internet, name, words):
    with pytest.raises(whycam.WhycamError, match=f"^'timm:{name}': .*{words}"):
        whycam.load(f"timm:{name}", weights="random")
    assert internet.asked == []


def test_a_network_without_a_classifier_has_no_labels():
    assert whycam.load("timm:vit_small_patch14_dinov2", weights="random").labels is None
