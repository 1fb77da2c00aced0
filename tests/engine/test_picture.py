"""Which of several inputs is explained: guided backprop and occlusion at each of two, by plain autograd and by hand."""

import nets
import pytest
import torch
from torch import nn

import whycam


class Two(nn.Module):
    """A picture and its depth, of which each has a way of its own to the score."""

    def __init__(self):
        super().__init__()
        self.color, self.depth = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, image, depth):
        return self.head((self.color(image).relu() + self.depth(depth).relu()).mean((2, 3)))


class Unnamed(nn.Module):
    """Takes its inputs by position alone."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *inputs):
        return self.inner(*inputs)


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    sizes = (2, 3, 8, 8), (2, 1, 8, 8)
    return nets.fixed(Two()).double(), *(torch.rand(size, dtype=torch.float64) for size in sizes)


@pytest.mark.parametrize(("picture", "number"), [(None, 0), (0, 0), ("image", 0), (1, 1), ("depth", 1), (-1, 1)])
@pytest.mark.parametrize("named", [True, False])
def test_guided_backprop_is_the_gradient_at_that_input(case, picture, number, named):
    """Behind one ReLU the guided gradient is that of the positive gradients alone."""
    model, image, depth = case
    given = {"image": image, "depth": depth} if named else (image, depth)
    found = whycam.explain(model, given, "guided_backprop", target=1, picture=picture)
    leaf = (image, depth)[number].clone().requires_grad_()
    way = (model.color, model.depth)[number]
    weights = model.head.weight[1].detach().clamp(min=0) / 64
    score = ((way(leaf).relu()) * weights[:, None, None]).sum()
    (gradient,) = torch.autograd.grad(score, leaf)
    torch.testing.assert_close(found.maps.double(), gradient.sum(1), rtol=1e-5, atol=1e-8)


def test_occlusion_hides_that_input_alone(case):
    model, image, depth = case
    found = whycam.explain(
        model, (image, depth), "occlusion", target=1, picture="depth", window=8, stride=8, probability=False
    )
    with torch.no_grad():
        fall = model(image, depth)[:, 1] - model(image, torch.zeros_like(depth))[:, 1]
    torch.testing.assert_close(found.maps.double(), fall[:, None, None].expand(-1, 8, 8), rtol=1e-5, atol=1e-7)


def test_what_is_no_input(case):
    model, image, depth = case
    with pytest.raises(whycam.InputError, match="picture='mask' is no input; there are image, depth"):
        whycam.explain(model, (image, depth), "guided_backprop", target=1, picture="mask")
    with pytest.raises(whycam.InputError, match="chooses among several inputs, and one came"):
        whycam.explain(nets.plain(), nets.images(), "guided_backprop", target=1, picture=0)
    with pytest.raises(whycam.WhycamError, match=r"Grad-CAM reads its layer alone.*views="):
        whycam.explain(model, (image, depth), "grad_cam", target=1, layer="color", picture=1)
    with pytest.raises(whycam.OptionError, match="picture is the position or the name of an input, not True"):
        whycam.explain(model, (image, depth), "guided_backprop", target=1, picture=True)
    with pytest.raises(whycam.InputError, match="2 inputs came, and the network takes 0 by name"):
        whycam.explain(Unnamed(model), (image, depth), "guided_backprop", target=1, picture=1)
    with pytest.raises(whycam.InputError, match="picture='size' is no picture"):
        whycam.explain(model, {"image": image, "size": depth[:, 0, 0]}, "guided_backprop", target=1, picture="size")
