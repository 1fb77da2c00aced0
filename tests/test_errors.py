"""Errors can be told apart by kind, are one tree, and say what to do."""

import nets
import pytest
import torch
from torch import nn

import whycam
from whycam import errors

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.WhycamError)]


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.plain = nets.plain()

    def forward(self, inputs):
        return self.plain(inputs).detach()


@pytest.mark.parametrize(
    ("kind", "ask"),
    [
        (whycam.LayerNotFound, lambda: whycam.explain(nets.plain(), nets.images(), layer="conv9")),
        (whycam.LayerNotFound, lambda: whycam.explain(nets.plain(), nets.images(), layer="conv2#7")),
        (whycam.LayerRefused, lambda: whycam.explain(nets.plain(), nets.images(), layer="head")),
        (whycam.NoGradient, lambda: whycam.explain(Detached(), nets.images(), layer="plain.conv2", target=1)),
        (whycam.TargetError, lambda: whycam.explain(nets.plain(), nets.images(), target=77)),
        (whycam.TargetError, lambda: whycam.explain(nets.plain(), nets.images(), target="cat")),
        (whycam.OutputError, lambda: whycam.explain(nets.plain(), nets.images(), output="aux")),
        (whycam.InputError, lambda: whycam.explain(nets.plain(), nets.images()[0])),
        (whycam.PhotoError, lambda: whycam.read_photo("there is none.jpg")),
        (whycam.MethodNotFound, lambda: whycam.explain(nets.plain(), nets.images(), "grad_cat")),
        (whycam.OptionError, lambda: whycam.explain(nets.plain(), nets.images(), "fem", k=-1.0)),
        (whycam.ModelError, lambda: whycam.load("no such thing")),
    ],
)
def test_each_kind_is_raised_and_is_a_whycam_error(kind, ask):
    with pytest.raises(kind) as caught:
        ask()
    assert isinstance(caught.value, whycam.WhycamError)
    assert type(caught.value) is kind


def test_they_are_one_tree_and_public():
    for kind in KINDS:
        assert kind.__doc__
        assert getattr(whycam, kind.__name__, kind) is kind


def test_reason_and_advice():
    error = whycam.WhycamError("the layer is gone; there are a, b. Name another, or none.")
    assert (error.reason, error.advice) == ("the layer is gone; there are a, b", "Name another, or none.")
    error = whycam.WhycamError("it is a tensor; pass a photo.")
    assert (error.reason, error.advice) == ("it is a tensor", "pass a photo.")
    error = whycam.WhycamError("no class 7")
    assert (error.reason, error.advice) == ("no class 7", "")


def test_one_kind_survives_a_comparison_of_which_nothing_is_left():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    with pytest.raises(whycam.WhycamError, match="CAM needs"):
        whycam.explain(model, torch.rand(1, 3, 8, 8), "cam", layer="0")
