"""Input invariance: methods that multiply by the picture move with its units, others stay."""

import nets
import pytest
import torch
from metrics_by_hand import FourPixels, by_gradient, drawn
from torch import Tensor, nn

import whycam

input_invariance = whycam.metrics.input_invariance


def slope(module: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = inputs.clone().requires_grad_()
        (found,) = torch.autograd.grad(module(leaf).gather(1, classes[:, None]).sum(), leaf)
    return found.abs().sum(1)


def test_a_gradient_stays_and_its_product_with_the_picture_moves():
    net, pictures, own = nets.plain(), nets.images(3), torch.full((3,), 1)
    still = input_invariance(slope(net, pictures, own), net, pictures, 1, explain=slope)
    assert still.tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    maps = by_gradient(net, pictures, own)
    leaf = pictures.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)
    moved = (gradient * 0.7).sum(1)  # by as much as is added to the picture, times the gradient
    expected = moved.flatten(1).norm(dim=1) / maps.flatten(1).norm(dim=1)
    found = input_invariance(maps, net, pictures, 1, explain=by_gradient, shift=0.7)
    torch.testing.assert_close(found, expected)


def test_four_pixels_by_hand():
    net = FourPixels([[4.0, 3.0, 0.0, 0.0], [0.0] * 4])
    picture = torch.tensor([[[[2.0, 0.0], [7.0, 7.0]]]], dtype=torch.float64)
    # weight times pixel: 8 and 0; and with 1 added to each pixel, 12 and 3
    found = input_invariance(by_gradient(net, picture, torch.tensor([0])), net, picture, 0, explain=by_gradient)
    assert found.item() == pytest.approx(5 / 8)


@pytest.mark.parametrize("method", ["grad_cam", "hires_cam", "eigen_cam", "score_cam"])
def test_methods_at_a_layer_stay_where_nothing_is_hidden_by_a_number(method):
    net, pictures = nets.plain(), nets.images(2)
    found = input_invariance(whycam.explain(net, pictures, method=method), net, pictures)
    if method == "score_cam":  # which shows the picture through masks, and 0 in place of what is hidden
        assert (found > 1e-3).all()
    else:
        assert found.tolist() == pytest.approx([0, 0], abs=1e-5)


def test_a_map_of_zeros_is_not_measured():
    net, pictures = nets.plain(), nets.images(2)
    assert input_invariance(torch.zeros(2, 8, 8), net, pictures, explain=lambda _, x, __: x[:, 0]).isnan().all()


def test_a_map_that_is_another_on_every_call_is_seen():
    net, pictures, calls = nets.plain(), nets.images(1), []

    def other(module: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
        calls.append(module)
        return drawn(1, 8, 8, seed=len(calls))

    found = input_invariance(drawn(1, 8, 8), net, pictures, explain=other)
    assert found.item() > 0.5
    assert calls[-1] is not net
