"""Networks passed as objects: the texts and the preprocessing that they carry are used, as far as they still hold."""

import numpy as np
import pytest
import torch
import torchvision_shim

torchvision_shim.register()

import timm  # noqa: E402
import transformers  # noqa: E402
from preprocessed import PHOTOS, size_of  # noqa: E402
from torch import nn  # noqa: E402

import whycam  # noqa: E402
from whycam.models.adopt import as_vision_model  # noqa: E402
from whycam.models.conversion import NoPhotos  # noqa: E402

TEXTS = {0: "cat", 1: "dog", 2: "cow"}
NOTE = "photos are prepared as the model's own pretrained_cfg says"


def resnet(**options):
    torch.manual_seed(3)
    return timm.create_model("test_resnet", pretrained=False, **options).eval()


def vit(texts=TEXTS):
    torch.manual_seed(3)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label=texts,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config).eval()


def test_a_timm_model_brings_its_preprocessing_and_that_is_said():
    module = resnet()
    e = whycam.explain(module, PHOTOS["landscape"], target="tabby")
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(module), is_training=False)
    assert torch.allclose(e.context.inputs[0], transform(PHOTOS["landscape"]), atol=1e-5)
    assert e.target[0] == "tabby"
    assert NOTE in e.notes
    assert e.overlay(caption=False).size == PHOTOS["landscape"].size


def test_nothing_is_said_of_it_where_it_is_not_used():
    module = resnet()
    assert NOTE not in whycam.explain(module, torch.zeros(1, 3, 64, 64)).notes
    own = whycam.Preprocess.imagenet(64, 72)
    e = whycam.explain(module, PHOTOS["landscape"], preprocess=own)
    assert NOTE not in e.notes
    assert e.context.preprocess == own


def test_a_timm_model_built_for_another_size_is_given_it():
    module = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=1, num_classes=3)
    assert size_of(as_vision_model(module).preprocess) == (64, 64)


def test_a_timm_model_of_one_channel():
    module = resnet(in_chans=1)
    assert isinstance(as_vision_model(module).preprocess, NoPhotos)
    assert whycam.explain(module, torch.zeros(1, 1, 64, 64)).maps.shape[0] == 1


def replaced(module, classes):
    module.fc = nn.Linear(module.fc.in_features, classes)
    return module


@pytest.mark.parametrize(
    ("make", "known"),
    [(resnet, True), (lambda: resnet(num_classes=10), False), (lambda: replaced(resnet(), 10), False),
     (lambda: replaced(resnet(), 1000), True), (lambda: resnet(num_classes=0), False)],
    ids=["as it came", "built for ten", "replaced by hand", "by hand, of as many", "none"],
)  # fmt: skip
def test_labels_of_a_timm_model_hold_while_the_classifier_has_as_many_classes(make, known):
    module = make()
    labels = as_vision_model(module).labels
    assert (labels is not None) == known
    e = whycam.explain(module, torch.rand(1, 3, 64, 64), target=torch.tensor([3]) if known else lambda out: out[:, 0])
    assert not known or e.target[0] == labels[3]


def test_labels_of_a_transformers_model():
    e = whycam.explain(vit(), torch.rand(2, 3, 32, 32), target=["cow", "dog"])
    assert list(e.target) == ["cow", "dog"]
    assert as_vision_model(vit({0: "LABEL_0", 1: "LABEL_1"})).labels is None


def test_labels_of_a_transformers_model_with_another_classifier():
    module = vit()
    module.classifier = nn.Linear(16, 5)
    assert as_vision_model(module).labels is None
    assert whycam.explain(module, torch.rand(1, 3, 32, 32)).maps.shape[0] == 1


def test_a_transformers_model_that_classifies_nothing_has_no_labels():
    assert as_vision_model(vit().vit).labels is None


def test_what_the_caller_says_comes_first():
    own = ("a", "b", "c")
    assert as_vision_model(vit(), labels=own).labels == own
    assert as_vision_model(resnet(num_classes=3), labels=own).labels == own


def test_a_model_of_the_user_s_own_brings_nothing():
    class Mine(nn.Module):
        pretrained_cfg = {"num_classes": 1000}  # noqa: RUF012
        config = type("Config", (), {"id2label": TEXTS})

    vision = as_vision_model(Mine())
    assert (vision.labels, vision.preprocess, vision.preprocess_note) == (None, None, "")


def test_a_model_inside_a_wrapper():
    vision = as_vision_model(nn.DataParallel(resnet()))
    assert vision.labels[281] == "tabby"
    assert size_of(vision.preprocess) == (160, 160)
    compiled = torch.compile(resnet(), backend="eager")
    vision = as_vision_model(compiled)
    assert vision.labels[281] == "tabby"
    assert vision.module is compiled


def test_a_subclass_of_a_library_s_model():
    class Mine(transformers.ViTForImageClassification):
        pass

    assert as_vision_model(Mine(vit().config)).labels == ("cat", "dog", "cow")


def test_a_configuration_that_says_nothing_of_use_stands_in_nobody_s_way():
    module = resnet()
    module.pretrained_cfg = {"input_size": None, "mean": "gray"}
    assert whycam.explain(module, torch.zeros(1, 3, 64, 64)).maps.shape[0] == 1
    with pytest.raises(whycam.WhycamError, match="pretrained_cfg does not say how a photo becomes its input"):
        whycam.explain(module, np.zeros((9, 9, 3), np.uint8))


def test_looking_costs_next_to_nothing():
    import time

    module = resnet()
    as_vision_model(module)
    started = time.perf_counter()
    for _ in range(20):
        as_vision_model(module)
    assert (time.perf_counter() - started) / 20 < 0.05


def test_a_timm_model_that_says_nothing_of_photos_is_not_prepared_by_guesswork():
    module = resnet()
    module.pretrained_cfg = {}
    with pytest.raises(whycam.WhycamError, match="no input_size, mean, std"):
        whycam.explain(module, PHOTOS["landscape"])


class Lightning(nn.Module):
    """A wrapper with the network in an attribute and no weights of its own."""

    def __init__(self, model, then=None):
        super().__init__()
        self.loss, self.model, self.then = nn.CrossEntropyLoss(), model, then

    def forward(self, x):
        made = self.model(x)
        made = getattr(made, "logits", made)
        return made if self.then is None else self.then(made)


@pytest.mark.parametrize("deep", [1, 3])
def test_a_wrapper_brings_what_the_model_inside_has(deep):
    inside = resnet()
    model = inside
    for _ in range(deep):
        model = Lightning(model)
    found, plain = as_vision_model(model), as_vision_model(inside)
    assert found.module is model
    assert found.labels == plain.labels
    assert found.labels is not None
    assert str(found.preprocess) == str(plain.preprocess)
    assert found.preprocess_note == plain.preprocess_note


def test_labels_from_inside_a_wrapper_count_where_their_number_fits():
    inside = resnet()
    x = torch.randn(1, 3, 64, 64)
    whole = whycam.explain(Lightning(inside).eval(), x, target=5)
    part = whycam.explain(Lightning(inside, lambda made: made[:, :7]).eval(), x, target=5)
    assert whole.target == (as_vision_model(inside).labels[5],)
    assert part.target == ("class 5",)
    assert part.predictions[0].label is None


def test_a_wrapper_with_a_head_of_its_own_has_no_labels():
    model = Lightning(resnet(), nn.Linear(1000, 3))
    assert as_vision_model(model).labels is None
