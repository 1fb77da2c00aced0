"""Guided backprop's rule, for rectifiers however they are spelled."""

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import whycam


def guided_by_hand(model, x, low=0.0, high=None):
    """The gradient of class 1 with respect to the input, from the two convolutions and the rule written out."""
    z1 = F.conv2d(x, model.conv1.weight, model.conv1.bias, padding=1)
    z2 = F.conv2d(z1.clamp(low, high), model.conv2.weight, model.conv2.bias, stride=2, padding=1)
    passes = [((z > low) & (z < (torch.inf if high is None else high))).double() for z in (z1, z2)]
    g = model.head.weight[1][:, None, None].expand_as(z2[0]) / z2[0, 0].numel()
    g = g.clamp(min=0) * passes[1]
    g = F.conv_transpose2d(g, model.conv2.weight, stride=2, padding=1, output_padding=1)
    g = g.clamp(min=0) * passes[0]
    return F.conv_transpose2d(g, model.conv1.weight, padding=1).detach()


RECTIFIERS = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": Tensor.relu,
    "Tensor.relu_": Tensor.relu_,
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "clamp": lambda x: x.clamp(min=0),
    "clamp positional": lambda x: x.clamp(0),
    "torch.clamp": lambda x: torch.clamp(x, 0.0),
    "clamp_": lambda x: x.clamp_(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp_min_": lambda x: x.clamp_min_(0),
    "clip": lambda x: x.clip(min=0),
    "torch.clip": lambda x: torch.clip(x, min=0),
}


@pytest.mark.parametrize("rectify", RECTIFIERS.values(), ids=RECTIFIERS)
def test_every_spelling_of_relu_counts(rectify):
    model, inputs = nets.fixed(nets.Functional(rectify)), nets.images()
    found = whycam.explain(model, inputs, "guided_backprop", target=1)
    expected = guided_by_hand(model, inputs).sum(1).float()
    torch.testing.assert_close(found.maps, expected)
    assert (expected != 0).any()


@pytest.mark.parametrize(
    "rectify", [F.relu6, nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(0, 6), lambda x: x.clamp(0, 6)]
)
def test_relu6_is_a_rectifier_with_a_lid(rectify):
    model, inputs = nets.fixed(nets.Functional(rectify)), 4 * nets.images()
    found = whycam.explain(model, inputs, "guided_backprop", target=1)
    torch.testing.assert_close(found.maps, guided_by_hand(model, inputs, 0, 6).sum(1).float())


def test_residual_sums_and_shared_modules_follow_the_rule_too():
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    leaf = inputs.clone().requires_grad_()
    (expected,) = torch.autograd.grad(nets.guided(model)(leaf)[:, 1].sum(), leaf)
    found = whycam.explain(model, inputs, "guided_backprop", target=1)
    torch.testing.assert_close(found.maps, expected.sum(1).float())


OTHERS = {
    "gelu": F.gelu,
    "silu": nn.SiLU(),
    "silu in place": nn.SiLU(inplace=True),
    "sigmoid": torch.sigmoid,
    "sigmoid_": Tensor.sigmoid_,
    "tanh": Tensor.tanh,
    "elu": nn.ELU(),
    "leaky_relu": nn.LeakyReLU(),
    "hardtanh": nn.Hardtanh(),
    "hardswish": nn.Hardswish(),
    "softplus": F.softplus,
    "prelu": nn.PReLU().double(),
    "softmax": lambda x: x.softmax(1),
    "multi_head_attention_forward": lambda x: nn.MultiheadAttention(2, 1, dtype=torch.float64)(
        *[x.reshape(len(x), -1, 2)] * 3
    )[0].reshape_as(x),
}


@pytest.mark.parametrize(("name", "activate"), OTHERS.items(), ids=OTHERS)
def test_other_activations_are_refused_by_name(name, activate):
    model = nets.fixed(nets.Functional(activate))
    before = nets.state(model)
    with pytest.raises(
        whycam.WhycamError, match=f"defined for ReLU alone, and this network uses {name.split()[0].strip('_')}"
    ):
        whycam.explain(model, nets.images(), "guided_backprop")
    assert nets.differences(before, nets.state(model)) == []
    made = whycam.compare(model, nets.images(), ["guided_backprop", "guided_grad_cam", "grad_cam"], ["conv2"], [1])
    assert list(made) == [("grad_cam", "conv2", 1)]
    assert {reason[:15] for reason in made.failures.values()} == {"guided backprop"}


GATES = {
    "sigmoid": lambda m, x: torch.sigmoid(m.head(m.conv2(m.conv1(x).relu()).relu().mean((2, 3)))),
    "softmax": lambda m, x: m.head(m.conv2(m.conv1(x).relu()).relu().mean((2, 3))).softmax(1),
    "sigmoid, tanh": lambda m, x: m.head(gated(m.conv2(m.conv1(x).relu()).relu()).mean((2, 3)).tanh()),
    "gelu": lambda m, x: m.head(F.gelu(m.conv2(m.conv1(x).relu())).mean((2, 3))),
}


def gated(x):
    return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


class Rule(torch.autograd.Function):
    """ReLU with the rule written out."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g.clamp(min=0) * (ctx.saved_tensors[0] > 0)


@pytest.mark.parametrize(("left", "forward"), GATES.items(), ids=GATES)
@pytest.mark.parametrize("method", ["guided_backprop", "guided_grad_cam"])
def test_relus_are_guided_and_the_rest_is_left_as_it_is(left, forward, method, monkeypatch):
    class Gated(nets.Plain):
        def forward(self, x):
            return forward(self, x)

    model, inputs = nets.fixed(Gated()), nets.images()
    found = whycam.explain(model, inputs, method, target=1, layer="conv2" if "cam" in method else None)
    assert f"ReLUs are guided; {left} pass gradients as they are" in found.notes
    if method == "guided_backprop":
        leaf = inputs.clone().requires_grad_()
        monkeypatch.setattr(Tensor, "relu", lambda x: Rule.apply(x))
        (expected,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
        torch.testing.assert_close(found.maps, expected.sum(1).float())


def test_modules_stay_what_they_were_and_relus_are_ordinary_again():
    model, inputs = nets.plain(inplace=True), nets.images()
    kinds = [type(module) for module in model.modules()]
    leaf = inputs.clone().requires_grad_()
    (before,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    whycam.explain(model, inputs, "guided_backprop")
    assert [type(module) for module in model.modules()] == kinds
    assert model.relu1.inplace
    assert torch.equal(torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)[0], before)


def test_an_exception_midway_leaves_relus_ordinary():
    model, leaf = nets.fixed(nets.Raising()), nets.images().requires_grad_()
    (before,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    model.error = RuntimeError("midway")
    with pytest.raises(RuntimeError, match="midway"):
        whycam.explain(model, nets.images(), "guided_backprop")
    model.error = None
    assert torch.equal(torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)[0], before)


def test_ordinary_gradients_of_the_same_comparison_are_not_guided():
    model, inputs = nets.plain(), nets.images()
    together = whycam.compare(model, inputs, ["grad_cam", "guided_backprop"], ["conv1"], [1])
    alone = whycam.explain(model, inputs, "grad_cam", target=1, layer="conv1")
    assert torch.equal(together["grad_cam"].maps, alone.maps)
