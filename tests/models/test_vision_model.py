"""What a caller may say of a network: labels and preprocessing, and what is refused in words."""

import pytest
from torch import nn

import whycam
from whycam.models.vision_model import as_labels


@pytest.mark.parametrize("labels", [5, 1.5, True, "abc", ["a", 2], iter([1, 2])])
def test_labels_that_are_no_texts(labels):
    with pytest.raises(whycam.WhycamError, match="in order of their index: a list of strings"):
        as_labels(labels)


def test_labels_may_come_one_by_one():
    assert as_labels(text for text in ("a", "b")) == ("a", "b")


@pytest.mark.parametrize("kind", [whycam.Preprocess, nn.Identity])
def test_a_class_is_no_preprocessing(kind):
    with pytest.raises(whycam.WhycamError, match=f"preprocess= is the class {kind.__name__} itself; pass one that was"):
        whycam.VisionModel(nn.Identity(), preprocess=kind)
