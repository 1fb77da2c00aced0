"""`hf:NAME`: transformers' own loading, from its cache, a folder or a file, never with code that comes along."""

import json
import os

import pytest
import torch
import torchvision_shim
from weights import assert_same_weights

torchvision_shim.register()

import towers  # noqa: E402
import transformers  # noqa: E402
from preprocessed import PHOTOS, assert_agree, size_of  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import whycam  # noqa: E402
from whycam.models.conversion import NoPhotos  # noqa: E402

TEXTS = {0: "cat", 1: "dog", 2: "cow"}
REPOSITORY = "someone/tiny-vit"


def config(texts=TEXTS, **more):
    return transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label=dict(texts), **more,
    )  # fmt: skip


def build(texts=TEXTS):
    torch.manual_seed(3)
    return transformers.ViTForImageClassification(config(texts)).eval()


def processor():
    return transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_std=[0.2, 0.3, 0.4])


@pytest.fixture
def folder(tmp_path):
    """What `save_pretrained` writes."""
    build().save_pretrained(tmp_path / "saved")
    processor().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def cached(folder, hf_home):
    """The same, in the Hugging Face cache under the repository's name."""
    return hf_home(REPOSITORY, {path.name: path.read_bytes() for path in folder.iterdir()})


def assert_whole(vision, name):
    assert_same_weights(vision.module, build())
    assert not vision.module.training
    assert (vision.name, vision.labels) == (name, ("cat", "dog", "cow"))
    own = processor()
    assert_agree(vision.preprocess, lambda photo: own(images=photo, return_tensors="pt")["pixel_values"][0])


def test_a_repository_in_the_cache_needs_no_network(cached, internet):
    assert_whole(whycam.load(f"hf:{REPOSITORY}"), f"hf:{REPOSITORY}")
    assert internet.asked == []


def test_a_folder(folder, internet):
    assert_whole(whycam.load(f"hf:{folder}"), f"hf:{folder}")
    assert_whole(whycam.load(str(folder)), str(folder))
    assert internet.asked == []


def test_a_folder_beside_the_caller(folder, internet, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert_whole(whycam.load("saved"), "saved")
    assert_whole(whycam.load("hf:saved"), "hf:saved")


def test_it_can_be_explained_by_name(cached, internet):
    e = whycam.explain(f"hf:{REPOSITORY}", PHOTOS["portrait"], "hires_cam", target="cow")
    with torch.no_grad():
        score = build()(**processor()(images=PHOTOS["portrait"], return_tensors="pt")).logits[0, 2]
    assert e.scores.item() == pytest.approx(score.item(), abs=1e-4)


def test_without_a_network_the_repository_is_named(internet, hf_home):
    with pytest.raises(whycam.WhycamError) as caught:
        whycam.load(f"hf:{REPOSITORY}")
    assert str(caught.value) == (
        f"'hf:{REPOSITORY}' would fetch {REPOSITORY}/config.json from huggingface.co, since it is not on this machine, "
        "and huggingface.co cannot be reached. Connect to the network, or do without: name the architecture, as "
        "'hf:vit', and give a file of weights (--weights FILE, weights=FILE), best beside its config.json, or look at "
        "the structure alone (--weights random, weights='random')."
    )
    assert len(internet.asked) == 1


def test_a_cache_that_lacks_the_weights_asks_for_them(cached, internet):
    (cached / "model.safetensors").unlink()
    with pytest.raises(whycam.WhycamError, match=f"would fetch {REPOSITORY} from huggingface.co"):
        whycam.load(f"hf:{REPOSITORY}")
    assert len(internet.asked) == 1


def test_offline_is_offline(internet, hf_home, monkeypatch):
    from huggingface_hub import constants

    internet.how = "answer"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(whycam.WhycamError, match="and HF_HUB_OFFLINE is set"):
        whycam.load(f"hf:{REPOSITORY}")
    assert internet.asked == []


def test_what_the_hub_answers_is_told_in_one_line(internet, hf_home, monkeypatch):
    internet.how = "answer"
    real = transformers.AutoConfig.from_pretrained

    def answered(name, **given):
        if given.get("local_files_only"):
            return real(name, **given)
        raise OSError(f"{name} is not a valid model identifier\nIf this is a private one, ...")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", answered)
    with (
        pytest.warns(UserWarning, match=f"^hf:{REPOSITORY}: fetching {REPOSITORY}/config.json from huggingface.co$"),
        pytest.raises(whycam.WhycamError, match=r"could not be had from the Hugging Face hub: .* model identifier$"),
    ):
        whycam.load(f"hf:{REPOSITORY}")


def test_placeholders_are_no_labels(tmp_path):
    build({0: "LABEL_0", 1: "LABEL_1"}).save_pretrained(tmp_path / "saved")
    assert whycam.load(str(tmp_path / "saved")).labels is None


@pytest.mark.parametrize("spec", [f"hf:{REPOSITORY}", "hf:vit", "the folder"])
def test_a_file_beside_its_configuration(folder, internet, hf_home, spec):
    other = {**TEXTS, 3: "hen"}
    build(other).save_pretrained(folder.parent / "other")
    file = folder.parent / "other" / "model.safetensors"
    vision = whycam.load(str(folder) if spec == "the folder" else spec, weights=file)
    assert_same_weights(vision.module, build(other))
    assert internet.asked == []
    # the folder that is named says what the classes are called, and it knows three
    assert vision.labels == (None if spec == "the folder" else ("cat", "dog", "cow", "hen"))
    assert vision.name.endswith(" (model.safetensors)")


def test_a_file_alone_needs_the_configuration_to_be_here(cached, internet, tmp_path):
    state = load_file(cached / "model.safetensors")
    (tmp_path / "alone").mkdir()
    save_file(state, tmp_path / "alone" / "w.safetensors")
    vision = whycam.load(f"hf:{REPOSITORY}", weights=tmp_path / "alone" / "w.safetensors")
    assert_same_weights(vision.module, build())
    assert size_of(vision.preprocess) == (32, 32)
    with pytest.raises(whycam.WhycamError, match=r"'hf:no/such': no/such/config.json is not on this machine, and no"):
        whycam.load("hf:no/such", weights=tmp_path / "alone" / "w.safetensors")
    assert internet.asked == []


def test_names_of_today_and_of_older_files(folder, tmp_path):
    (tmp_path / "alone").mkdir()
    for number, state in enumerate((build().state_dict(), load_file(folder / "model.safetensors"))):
        path = tmp_path / "alone" / f"w{number}.pt"
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
        assert_same_weights(whycam.load(str(folder), weights=path).module, build())


def test_weights_of_another_network_are_refused(folder, tmp_path):
    (tmp_path / "alone").mkdir()
    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "alone" / "w.safetensors")
    with pytest.raises(whycam.WhycamError, match=r"w.safetensors does not fit this ViTForImageClassification: \d+"):
        whycam.load(str(folder), weights=tmp_path / "alone" / "w.safetensors")


def test_random_weights(folder, internet, hf_home):
    vision = whycam.load(str(folder), weights="random")
    assert (vision.name, vision.labels) == (f"{folder} (random weights)", ("cat", "dog", "cow"))
    assert size_of(vision.preprocess) == (32, 32)
    vision = whycam.load("hf:resnet", weights="random")
    assert (vision.name, vision.labels) == ("hf:resnet (random weights)", None)
    assert type(vision.module).__name__ == "ResNetForImageClassification"
    with pytest.raises(whycam.WhycamError, match="'hf:resnet' is an architecture alone, which does not say how"):
        whycam.explain(vision, PHOTOS["tiny"])
    assert internet.asked == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("vti", r"models of the Hugging Face hub are named OWNER/NAME; .* Did you mean 'hf:vit' or"),
     ("no-such-thing-at-all", r"an architecture of transformers'\.$"),
     ("vit", r"is an architecture, which has no weights of its own\. Name a model"),
     ("a/b/c", "Repo id must be in the form"), ("", "named OWNER/NAME")],
)  # fmt: skip
def test_a_name_that_names_no_model(internet, hf_home, name, words):
    with pytest.raises(whycam.WhycamError, match=words):
        whycam.load(f"hf:{name}")


def test_a_model_without_its_classifier_is_refused(tmp_path):
    torch.manual_seed(3)
    transformers.ViTModel(config()).save_pretrained(tmp_path / "saved")
    with pytest.raises(whycam.WhycamError, match=r"has no weights for classifier\.bias, classifier\.weight: as an"):
        whycam.load(str(tmp_path / "saved"))


def test_a_model_of_words_is_refused(tmp_path):
    (tmp_path / "saved").mkdir()
    transformers.BertConfig().save_pretrained(tmp_path / "saved")
    with pytest.raises(whycam.WhycamError, match="is a 'bert' model, and of these transformers has no image"):
        whycam.load(str(tmp_path / "saved"))


def test_code_that_comes_with_a_model_is_not_run(folder):
    told = json.loads((folder / "config.json").read_text())
    told |= {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "mine.Mine"},
    }
    (folder / "config.json").write_text(json.dumps(told))
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(folder / 'made')!r})\n")
    with pytest.raises(whycam.WhycamError, match="brings code of its own, and whycam runs no code that comes with"):
        whycam.load(str(folder))
    assert not (folder / "made").exists()


class Creates:
    """Unpickling this makes a folder: a checkpoint that does something."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_pickled_weights_is_not_run(folder):
    (folder / "model.safetensors").unlink()
    torch.save({**build().state_dict(), "note": Creates(folder / "made")}, folder / "pytorch_model.bin")
    with pytest.raises(whycam.WhycamError, match="its weights hold more than tensors, and reading them would run code"):
        whycam.load(str(folder))
    assert not (folder / "made").exists()


def test_a_folder_without_an_image_processor_takes_ready_batches(folder):
    (folder / "preprocessor_config.json").unlink()
    vision = whycam.load(str(folder))
    assert isinstance(vision.preprocess, NoPhotos)
    assert whycam.explain(vision, torch.zeros(1, 3, 32, 32)).maps.shape[0] == 1
    with pytest.raises(whycam.WhycamError) as caught:
        whycam.explain(vision, PHOTOS["tiny"])
    message = str(caught.value)
    assert message.startswith("how a photo becomes the input of this model is not known: ")
    assert "preprocessor_config.json cannot be read from it" in message
    assert message.endswith("Else pass preprocess=, for example whycam.Preprocess.imagenet(), or a ready batch.")
    e = whycam.explain(vision, PHOTOS["tiny"], preprocess=whycam.Preprocess((32, 32), "stretch"))
    assert e.context.inputs.shape == (1, 3, 32, 32)


def test_a_processor_that_rounds_sizes_up(folder):
    transformers.TextNetImageProcessor(size={"shortest_edge": 32}).save_pretrained(folder)
    vision = whycam.load(str(folder))
    e = whycam.explain(vision, PHOTOS["landscape"].crop((0, 0, 90, 90)))
    assert e.context.geometries is not None


def test_a_repository_of_timm_s_is_built_by_timm(tmp_path, hf_home, internet):
    import timm

    wanted = timm.create_model("test_resnet", num_classes=3)
    timm.models.save_for_hf(wanted, tmp_path / "t", {"label_names": list(TEXTS.values())}, safe_serialization=True)
    hf_home("someone/resnet", {path.name: path.read_bytes() for path in (tmp_path / "t").iterdir()})
    vision = whycam.load("hf:someone/resnet")
    assert_same_weights(vision.module, wanted)
    assert (vision.labels, size_of(vision.preprocess)) == (("cat", "dog", "cow"), (160, 160))
    assert internet.asked == []


def test_a_revision_is_asked_for(cached, internet, monkeypatch):
    with pytest.raises(whycam.WhycamError, match=f"would fetch {REPOSITORY}@v2/config.json from huggingface.co"):
        whycam.load(f"hf:{REPOSITORY}@v2")
    internet.how, asked = "answer", []

    def answered(name, **given):
        asked.append((name, given["revision"]))
        raise OSError("no")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", answered)
    with pytest.warns(UserWarning, match="fetching"), pytest.raises(whycam.WhycamError, match="could not be had"):
        whycam.load(f"hf:{REPOSITORY}@v2")
    assert asked == [(REPOSITORY, "v2")]


def test_weights_in_half_precision_are_computed_with_in_full(folder):
    build().half().save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    vision = whycam.load(str(folder))
    assert {value.dtype for value in vision.module.parameters()} == {torch.float32}


def test_bars_for_files_are_left_as_they_were(folder, capfd):
    assert transformers.utils.logging.is_progress_bar_enabled()
    whycam.load(str(folder))
    assert transformers.utils.logging.is_progress_bar_enabled()
    assert "Loading weights" not in capfd.readouterr().err


@pytest.fixture
def reader(tmp_path):
    """A CLIP with its image processor and its tokenizer, as `save_pretrained` writes them."""
    towers.made(towers.clip)[0].float().save_pretrained(tmp_path / "clip")
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path / "clip")
    towers.tokenizer().save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_a_model_with_two_towers_brings_its_tokenizer_by_name_and_as_an_object(reader, internet):
    target = whycam.targets.Text("a red disc", "a blue disc")
    model = transformers.CLIPModel.from_pretrained(reader).eval()
    found = whycam.explain(model, PHOTOS["portrait"], target=target)
    by_name = whycam.explain(f"hf:{reader}", PHOTOS["portrait"], target=target)
    torch.testing.assert_close(by_name.maps, found.maps)
    asked = {"images": PHOTOS["portrait"], "return_tensors": "pt"}
    pixels = transformers.CLIPImageProcessor.from_pretrained(reader)(**asked)["pixel_values"]
    with torch.no_grad():
        texts = [towers.ids(each)[None] for each in ("a red disc", "a blue disc")]
        one, other = (model(pixel_values=pixels, input_ids=each).logits_per_image[0, 0] for each in texts)
    assert float(found.scores[0]) == pytest.approx(float(one - other), abs=1e-4)
    assert "photos are prepared as the image processor beside the model's files says" in found.notes
    assert internet.asked == []


def test_a_folder_without_a_tokenizer_asks_for_one_where_words_come(reader, internet):
    for path in reader.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(whycam.WhycamError, match=r"none of its tokenizer's files .* Pass the target its tokenizer="):
        whycam.explain(f"hf:{reader}", PHOTOS["portrait"], target=whycam.targets.Text("a red disc"))
    ids = whycam.targets.Text(towers.ids("a red disc"))
    assert whycam.explain(f"hf:{reader}", PHOTOS["portrait"], target=ids).scores.shape == (1,)


def test_weights_may_be_random_for_a_model_that_reads(reader, internet):
    vision = whycam.load(f"hf:{reader}", weights="random")
    assert type(vision.module).__name__ == "CLIPModel"
    assert_same_weights(
        whycam.load(f"hf:{reader}", weights=reader / "model.safetensors").module, towers.made(towers.clip)[0].float()
    )


@pytest.mark.parametrize("family", ["detr", "rt_detr", "yolos"])
def test_a_detector_with_its_labels(tmp_path, internet, family):
    import detectors

    module, _ = detectors.made(getattr(detectors, family))
    module.config.id2label = dict(enumerate(["cat", "dog", "cow", "hen", "pig"]))
    module.save_pretrained(tmp_path / "saved")
    vision = whycam.load(str(tmp_path / "saved"))
    assert type(vision.module) is type(module)
    found = whycam.explain(vision, torch.rand(1, 3, 64, 96), target=whycam.targets.Box(0))
    assert found.target[0].split(", ")[1].split()[0] in vision.labels
    passed = whycam.explain(module, torch.rand(1, 3, 64, 96), target=whycam.targets.Box(0))
    assert passed.target[0].split(", ")[1].split()[0] in vision.labels
    assert internet.asked == []


def test_a_segmenter_with_its_labels(tmp_path, internet):
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8,
        id2label={0: "road", 1: "sky", 2: "car"}, label2id={"road": 0, "sky": 1, "car": 2},
    )  # fmt: skip
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "saved")
    vision = whycam.load(str(tmp_path / "saved"))
    found = whycam.explain(vision, torch.rand(1, 3, 64, 64), target=whycam.targets.Region("road", "everywhere"))
    assert "road" in found.target[0]
    assert internet.asked == []
