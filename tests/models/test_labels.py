"""Label texts from what models say of themselves: texts and not ids, one for each class, no two alike."""

import pytest
import torchvision_shim

torchvision_shim.register()

import timm  # noqa: E402

from whycam.models.labels import from_id2label, from_timm, unique  # noqa: E402


@pytest.mark.parametrize(
    ("given", "texts"),
    [({0: "cat", 1: "dog"}, ("cat", "dog")), ({"1": "dog", "0": "cat"}, ("cat", "dog")),
     ({0: "crane", 1: "dog", 2: "crane"}, ("crane", "dog", "crane (2)")), ({0: 7, 1: 8}, ("7", "8")),
     ({0: "LABEL_0", 1: "LABEL_1"}, None), ({0: "cat", 1: "LABEL_1"}, None), ({1: "cat", 2: "dog"}, None),
     ({"a": "cat"}, None), ({}, None), (None, None)],
)  # fmt: skip
def test_id2label(given, texts):
    assert from_id2label(given) == texts


def test_unique_takes_the_first_text_that_is_free():
    assert unique([["a", "b"], ["a", "b"], ["a", "b"], [""], ["c"]]) == ("a", "b", "a (2)", " (3)", "c")


def test_imagenet_s_texts():
    texts = from_timm(timm.get_pretrained_cfg("resnet18").to_dict())
    assert len(texts) == len(set(texts)) == 1000
    assert [texts[i] for i in (0, 134, 282, 517, 638, 639)] == [
        "tench", "crane", "tiger cat", "crane (517)", "maillot", "tank suit"
    ]  # fmt: skip


@pytest.mark.parametrize("classes", [11221, 11821, 21841, 21842, 21843])
def test_the_larger_imagenets(classes):
    texts = from_timm({"num_classes": classes})
    assert len(texts) == len(set(texts)) == classes
    assert not any(text[0] == "n" and text[1:].isdigit() for text in texts)


@pytest.mark.parametrize("classes", [0, None, 5, 999, 768])
def test_other_numbers_of_classes_have_no_texts(classes):
    assert from_timm({"num_classes": classes}) is None


def test_texts_of_another_number_of_classes_are_not_taken():
    assert from_timm({"num_classes": 1000}, 10) is None
    assert from_timm({"num_classes": 1000}, 1000) is not None


@pytest.mark.parametrize(
    ("more", "texts"),
    [({"label_names": ["a", "b", "c"]}, ("a", "b", "c")),
     ({"label_names": {"2": "c", 0: "a", 1: "b"}}, ("a", "b", "c")),
     ({"label_names": ["x", "y", "z"], "label_descriptions": {"x": "Anna, Ann", "y": "Ben"}}, ("Anna", "Ben", "z")),
     ({"label_names": ["x", "y", "z"], "label_descriptions": {"x": "Anna, Ann", "y": "Anna"}},
      ("Anna", "Anna (1)", "z")),
     ({"label_names": ["n02123159", "n02123045", "n01440764"]}, ("tiger cat", "tabby", "tench")),
     ({"label_names": ["a", "b"]}, None), ({"label_names": {0: "a", 1: "b"}}, None)],
    ids=["list", "mapping", "described", "described alike", "synsets", "too few", "gaps"],
)  # fmt: skip
def test_a_configuration_s_own_names(more, texts):
    assert from_timm({"num_classes": 3, **more}) == texts
