"""`torchvision:NAME[/WEIGHTS]`: what the builder would build, with the weights' own preprocessing and categories."""

import os

import pytest
import torch
import torchvision_shim
from weights import assert_same_weights

torchvision_shim.register()

from preprocessed import PHOTOS, assert_agree  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torchvision import models  # noqa: E402

import whycam  # noqa: E402
from whycam.models.conversion import NoPhotos  # noqa: E402
from whycam.models.sources import torchvision as torchvision_source  # noqa: E402

#: A small one, whose classifier is a convolution.
NAME, ENTRY = "squeezenet1_1", models.SqueezeNet1_1_Weights.IMAGENET1K_V1


def build(classes=1000, name=NAME, **options):
    torch.manual_seed(3)
    return models.get_model(name, weights=None, num_classes=classes, **options).eval()


@pytest.fixture
def cached(torch_home):
    """`cached(entry, state)` puts an entry's file where torch's hub keeps it."""

    def put(entry, state):
        torch_home.mkdir(parents=True, exist_ok=True)
        torch.save(state, torch_home / entry.url.rpartition("/")[2])

    return put


@pytest.mark.parametrize(
    "spec", [NAME, f"{NAME}/IMAGENET1K_V1", f"{NAME}/DEFAULT", f"{NAME}/SqueezeNet1_1_Weights.IMAGENET1K_V1"]
)
def test_weights_in_the_cache_are_taken_without_a_network(cached, internet, spec):
    wanted = build()
    cached(ENTRY, wanted.state_dict())
    vision = whycam.load(f"torchvision:{spec}")
    assert_same_weights(vision.module, wanted.state_dict())
    assert not vision.module.training
    assert vision.name == f"torchvision:{NAME}/IMAGENET1K_V1"
    assert list(vision.labels) == ENTRY.meta["categories"]
    assert_agree(vision.preprocess, ENTRY.transforms())
    assert internet.asked == []


def test_each_entry_has_its_own_preprocessing(internet):
    old, new = (
        whycam.load(f"torchvision:resnet18{entry}", weights="random").preprocess for entry in ("", "/IMAGENET1K_V1")
    )
    assert_agree(old, new)
    first, second = (
        whycam.load(f"torchvision:regnet_y_400mf/{entry}", weights="random").preprocess
        for entry in ("IMAGENET1K_V1", "IMAGENET1K_V2")
    )
    assert (first.resize_size, second.resize_size) == ([256], [232])


def test_it_can_be_explained_by_name(cached, internet):
    wanted = build()
    cached(ENTRY, wanted.state_dict())
    e = whycam.explain(f"torchvision:{NAME}", PHOTOS["portrait"], target="espresso")
    with torch.no_grad():
        score = wanted(ENTRY.transforms()(PHOTOS["portrait"])[None])[0, 967]
    assert e.scores.item() == pytest.approx(score.item(), rel=1e-4)


def test_without_a_network_the_address_is_named(internet, torch_home):
    with pytest.raises(whycam.WhycamError) as caught:
        whycam.load(f"torchvision:{NAME}")
    assert str(caught.value).startswith(
        f"'torchvision:{NAME}' would fetch {ENTRY.url} from download.pytorch.org, since it is not on this machine, and "
        "download.pytorch.org cannot be reached."
    )
    assert len(internet.asked) == 1


class Creates:
    """Unpickling this makes a folder: a checkpoint that does something."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_cached_weights_is_not_run(cached, internet, tmp_path):
    cached(ENTRY, {**build().state_dict(), "note": Creates(tmp_path / "made")})
    with pytest.raises(whycam.WhycamError, match=r"holds more than tensors .*it was not read"):
        whycam.load(f"torchvision:{NAME}")
    assert not (tmp_path / "made").exists()


def test_random_weights_are_said_to_be_random(internet, torch_home):
    vision = whycam.load(f"torchvision:{NAME}", weights="random")
    assert vision.name == f"torchvision:{NAME} (random weights)"
    assert vision.labels[967] == "espresso"
    assert internet.asked == []


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small", "regnet_x_400mf"])
def test_a_file_decides_how_many_classes_there_are(tmp_path, internet, torch_home, name):
    wanted = build(7, name)
    save_file(wanted.state_dict(), tmp_path / "w.safetensors")
    vision = whycam.load(f"torchvision:{name}", weights=tmp_path / "w.safetensors")
    assert_same_weights(vision.module, wanted.state_dict())
    assert vision.labels is None
    assert vision.name == f"torchvision:{name} (w.safetensors)"
    given = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(vision.module(given), wanted(given))
    assert internet.asked == []


def test_a_file_of_as_many_classes_keeps_the_labels(tmp_path):
    save_file(build().state_dict(), tmp_path / "w.safetensors")
    assert whycam.load(f"torchvision:{NAME}", weights=tmp_path / "w.safetensors").labels[967] == "espresso"


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_network_that_asks_for_the_version_of_its_layers(tmp_path, suffix):
    wanted = build(5, "mnasnet0_5")
    if suffix == "pt":
        torch.save(wanted.state_dict(), tmp_path / "w.pt")
    else:
        save_file(wanted.state_dict(), tmp_path / "w.safetensors")
    module = whycam.load("torchvision:mnasnet0_5", weights=tmp_path / f"w.{suffix}").module
    assert_same_weights(module, wanted.state_dict())


def test_heads_for_training_may_be_absent(tmp_path):
    """As in a file saved from `googlenet(weights=...)`, which drops its auxiliary heads."""
    wanted = build(5, "googlenet", aux_logits=False, init_weights=False)
    save_file(wanted.state_dict(), tmp_path / "w.safetensors")
    module = whycam.load("torchvision:googlenet", weights=tmp_path / "w.safetensors").module
    assert_same_weights(module, wanted.state_dict())
    assert module.transform_input  # as the builder does for weights: its input is scaled as those were trained


def test_weights_of_another_network_are_refused(tmp_path):
    save_file(build(5, "shufflenet_v2_x0_5").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(
        whycam.WhycamError, match=r"^w.safetensors does not fit 'squeezenet1_1' of torchvision: 52 weights of the model"
    ):
        whycam.load(f"torchvision:{NAME}", weights=tmp_path / "w.safetensors")


def test_a_transformer_is_built_for_the_size_that_its_weights_are_for():
    builder, entries = models.vit_b_16, models.ViT_B_16_Weights
    for entry, size in ((entries.IMAGENET1K_V1, 224), (entries.IMAGENET1K_SWAG_E2E_V1, 384)):
        with torch.device("meta"):
            module = torchvision_source._plain(builder, entry, 3)
        assert module.image_size == entry.transforms().crop_size[0] == size


def test_every_classifier_is_known_by_its_metadata():
    """Of images and of clips: an entry, its categories, and a preprocessing or the reason why there is none."""
    images, clips = models.list_models(module=models), models.list_models(module=models.video)
    assert (len(images), len(clips)) == (80, 9) or len(images) > 80
    for name in [*images, *clips]:
        torchvision_source._check(models, f"torchvision:{name}", name)
        entry = torchvision_source._member(models, f"torchvision:{name}", name, "")
        assert len(set(entry.meta["categories"])) == len(entry.meta["categories"])
        assert isinstance(torchvision_source._preprocess(entry), NoPhotos) == (name in clips)


def test_a_detector_by_name_and_from_a_file(tmp_path, internet, torch_home):
    name = "ssdlite320_mobilenet_v3_large"
    vision = whycam.load(f"torchvision:{name}", weights="random")
    assert vision.labels[1] == "person"
    vision.module.score_thresh = 0.0
    found = whycam.explain(vision, PHOTOS["tiny"], target=whycam.targets.Box(0))
    assert found.method == "layer_cam"
    assert found.shown[0].box is not None
    save_file(vision.module.state_dict(), tmp_path / "w.safetensors")
    again = whycam.load(f"torchvision:{name}", weights=tmp_path / "w.safetensors")
    assert_same_weights(again.module, vision.module.state_dict())
    assert again.labels == vision.labels
    assert internet.asked == []


def test_a_segmenter_by_name_and_from_a_file(tmp_path, internet, torch_home):
    name = "lraspp_mobilenet_v3_large"
    vision = whycam.load(f"torchvision:{name}", weights="random")
    assert vision.labels[8] == "cat"
    found = whycam.explain(vision, PHOTOS["tiny"], target=whycam.targets.Region("cat", "everywhere"))
    assert "cat" in found.target[0]
    save_file(vision.module.state_dict(), tmp_path / "w.safetensors")
    again = whycam.load(f"torchvision:{name}", weights=tmp_path / "w.safetensors")
    assert_same_weights(again.module, vision.module.state_dict())
    assert internet.asked == []


def test_every_detector_and_segmenter_is_known_by_its_metadata():
    rooms = [*models.list_models(module=models.detection), *models.list_models(module=models.segmentation)]
    assert len(rooms) >= 15
    for name in rooms:
        torchvision_source._check(models, f"torchvision:{name}", name)
        assert torchvision_source._member(models, f"torchvision:{name}", name, "").meta["categories"]


def test_a_network_of_clips_takes_no_photo():
    vision = whycam.load("torchvision:s3d", weights="random")
    assert vision.labels[0] == "abseiling"
    with pytest.raises(whycam.WhycamError, match="this network takes clips, and a photo is none; pass a ready batch"):
        whycam.explain(vision, PHOTOS["tiny"])


@pytest.mark.parametrize(
    ("name", "words"),
    [("resnet5", r"has no such model\. Did you mean 'torchvision:resnet50' or"),
     ("Res-Net50", "Did you mean 'torchvision:resnet50'"),
     ("quite_another_thing", r"has no such model\.$"), ("", r"has no such model\.$"),
     ("raft_small", "is one of torchvision's optical_flow models, and those are not explained by name"),
     ("quantized_resnet18", "one of torchvision's quantization models"),
     ("resnet50/IMAGENET1K_V9", r"has no weights of the name 'IMAGENET1K_V9'; it has IMAGENET1K_V1, IMAGENET1K_V2\."),
     ("vgg16/IMAGENET1K_FEATURES", "these weights have no classifier")],
)  # fmt: skip
def test_a_name_that_is_no_classifier_s(internet, name, words):
    with pytest.raises(whycam.WhycamError, match=f"^'torchvision:{name}'.*{words}"):
        whycam.load(f"torchvision:{name}", weights="random")
    assert internet.asked == []
