"""Quantized networks: where gradients go through they are explained, and elsewhere refused with what to do."""

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whycam
from whycam import WhycamError

# torch.ao.quantization goes on working under these
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*quantization:DeprecationWarning", "ignore:.*quantize:UserWarning", "ignore:.*reduce_range:UserWarning"
)


class Static(nn.Module):
    """Quantized by hand up to its features; its head computes with decimals."""

    def __init__(self):
        super().__init__()
        self.quant, self.dequant = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
        self.net = nets.plain().float()

    def forward(self, x):
        features = self.net.features(self.quant(x))
        return self.net.head(nets.spatial_mean(self.dequant(features)))


@pytest.fixture
def static():
    model = Static().eval()
    model.qconfig = torch.ao.quantization.get_default_qconfig("fbgemm")
    model.net.head.qconfig = None
    prepared = torch.ao.quantization.prepare(model)
    prepared(images())
    return torch.ao.quantization.convert(prepared)


def images():
    return nets.images().float()


def test_a_quantized_layer_has_no_gradient_and_is_refused_with_what_to_do(static):
    for layer in ("net.conv1", "net.relu2", "quant"):
        with pytest.raises(WhycamError, match=rf"'{layer}' is quantized \(torch\.quint8\).*before it was quantized"):
            whycam.explain(static, images(), layer=layer)


def test_a_quantized_layer_has_activations_all_the_same(static):
    kept = []
    static.net.conv2.register_forward_hook(lambda _, __, output: kept.append(output.dequantize()))
    found = whycam.explain(static, images(), lambda activations: activations.sum(1), layer="net.conv2")
    torch.testing.assert_close(found.maps, kept[0].sum(1))
    assert torch.equal(found.scores, static(images()).amax(1))


def test_what_comes_behind_the_quantized_part_is_explained(static):
    activations = static.dequant(static.net.features(static.quant(images()))).requires_grad_()
    score = static.net.head(nets.spatial_mean(activations))[:, 1].sum()
    (gradients,) = torch.autograd.grad(score, activations)
    expected = (activations * gradients).sum(1).detach()
    for layer in ("dequant", None):
        found = whycam.explain(static, images(), "hires_cam", layer=layer, target=1)
        assert found.layer.name == "dequant"
        torch.testing.assert_close(found.maps, expected)


def test_the_gradient_at_the_input_ends_where_the_quantized_part_begins(static):
    with pytest.raises(WhycamError, match="ends at 'quant', which is quantized"):
        whycam.explain(static, images(), "guided_backprop")


def test_a_head_that_quantizes_as_it_runs_is_named():
    model = torch.ao.quantization.quantize_dynamic(nets.plain().float(), {nn.Linear})
    with pytest.raises(WhycamError, match=r"ends at 'head', which is quantized \(Linear\)"):
        whycam.explain(model, images(), layer="conv2")
    found = whycam.explain(model, images(), "eigen_cam", layer="conv2")
    expected = whycam.explain(nets.plain().float(), images(), "eigen_cam", layer="conv2")
    assert torch.equal(found.maps, expected.maps)


class WeightOnly(nn.Module):
    """A layer whose weights are kept as bytes and made decimals as it runs, as weight-only quantization does."""

    def __init__(self, layer, function):
        super().__init__()
        scale = layer.weight.detach().abs().amax() / 127
        self.register_buffer("bytes", (layer.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", layer.bias.detach())
        self.function = function

    def forward(self, x):
        return self.function(x, self.bytes.to(x) * self.scale, self.bias)


def test_weights_kept_as_bytes_are_no_hindrance():
    model, plain = nets.plain(), nets.plain()
    model.conv2 = WeightOnly(plain.conv2, lambda x, weight, bias: F.conv2d(x, weight, bias, 2, 1))
    model.head = WeightOnly(plain.head, F.linear)
    for name in ("conv2", "head"):
        layer = getattr(model, name)
        getattr(plain, name).weight.data = layer.bytes.double() * layer.scale
    before = nets.state(model)
    for layer in ("conv2", "relu1", None):
        found = whycam.explain(model, nets.images(), layer=layer, target=1)
        torch.testing.assert_close(found.maps, whycam.explain(plain, nets.images(), layer=layer, target=1).maps)
    assert nets.differences(before, nets.state(model)) == []
