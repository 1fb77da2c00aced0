"""Rules of relevance: each function's, conservation at every block of real networks, and what has no rule."""

import detectors
import nets
import pytest
import torch
import torch.nn.functional as F
import torchvision_shim
from lrp_by_hand import relevances, start, vit
from small_vit import pictures
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import whycam
from whycam.network.layer_refs import LayerRef
from whycam.network.layouts import ChannelsFirst
from whycam.network.outputs import OutputSelector
from whycam.network.recording.record import record
from whycam.network.recording.relevance import Relevance
from whycam.targets import resolve

torchvision_shim.register()
import timm  # noqa: E402

RULES = pytest.mark.parametrize("rules", ["cp_lrp", "attn_lrp"])


def shares(mode, function, *given):
    """What a function returned, and the relevance of what it was given for a relevance of `1, 2, 3...` of its result.

    That of the function without rules has to be the same.
    """
    leaves = [each.clone().requires_grad_() for each in given]
    starts = [each.clone() for each in leaves]  # as a network may write to what it is given
    with mode:
        made = function(*starts)
    torch.testing.assert_close(made, function(*[each.clone() for each in given]), rtol=1e-12, atol=1e-14)
    relevance = torch.arange(1, made.numel() + 1).to(made).reshape(made.shape)
    gradients = torch.autograd.grad(made, leaves, relevance / made.detach(), allow_unused=True)
    return relevance, [0 * x if g is None else x.detach() * g for x, g in zip(leaves, gradients, strict=True)]


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ACTIVATIONS = {
    "F.gelu": F.gelu,
    "F.gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "F.silu": F.silu,
    "F.silu in place": lambda x: F.silu(x, inplace=True),
    "nn.SiLU in place, read where it was written": lambda x: (nn.SiLU(inplace=True)(x), x)[1],
    "F.mish": F.mish,
    "F.elu in place": lambda x: F.elu(x, 0.5, True),
    "torch.tanh": torch.tanh,
    "Tensor.tanh_": lambda x: x.tanh_(),
    "F.hardswish": F.hardswish,
    "F.relu6": lambda x: F.relu6(9 * x.abs()),
    "F.hardtanh in place": lambda x: F.hardtanh(9 * x, -2, 2, inplace=True),
    "clamp": lambda x: (9 * x).clamp(-2, 2),
    "torch.clamp by name": lambda x: torch.clamp(input=9 * x, min=-2, max=2),
    "F.softplus": F.softplus,
    "square": torch.square,
    "**": lambda x: x**3,
    "x * x": lambda x: x * x,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "mish written out": lambda x: x * F.softplus(x).tanh(),
    "F.leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "abs": torch.abs,
    "F.dropout in eval": lambda x: F.dropout(x, training=False),
}


@RULES
@pytest.mark.parametrize("function", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations_pass_relevance_on(function, rules):
    mode = Relevance(rules)
    relevance, (found,) = shares(mode, function, numbers(4, 5))
    torch.testing.assert_close(found, relevance, rtol=1e-12, atol=0)
    assert not mode.left


def test_an_activation_of_zero_hands_back_nothing():
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    with Relevance():
        made = F.gelu(x + 0)
    assert torch.autograd.grad(made.sum(), x)[0].tolist() == [0, 0, 0]


NORMS = {
    "layer_norm": (lambda x: F.layer_norm(x, (6,), eps=1e-3), (-1,), True),
    "nn.LayerNorm of two axes": (nn.LayerNorm((3, 6), eps=1e-3, bias=False).double(), (-2, -1), True),
    "group_norm": (lambda x: F.group_norm(x, 2, eps=1e-3), None, True),
    "instance_norm": (lambda x: F.instance_norm(x, eps=1e-3), (-1,), True),
    "batch_norm in training": (lambda x: F.batch_norm(x, None, None, training=True, eps=1e-3), (0, 2), True),
    "rms_norm": (lambda x: F.rms_norm(x, (6,), eps=1e-3), (-1,), False),
    "written out": (
        lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-3).sqrt(),
        (-1,),
        True,
    ),
    "rsqrt": (lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3), (-1,), False),
    "rsqrt in place": (lambda x: x * (x.pow(2).mean(-1, keepdim=True) + 1e-3).rsqrt_(), (-1,), False),
    "power": (lambda x: x * (x.pow(2).mean(-1, keepdim=True) + 1e-3).pow(-0.5), (-1,), False),
}


@pytest.mark.parametrize(("function", "axes", "centered"), NORMS.values(), ids=NORMS)
def test_normalizations_divide_by_a_constant(function, axes, centered):
    x = numbers(2, 4, 3, 6)[:, :, 0] if axes != (-2, -1) else numbers(2, 3, 6)
    relevance, (found,) = shares(Relevance(), function, x)
    parts, axes = (x.unflatten(1, (2, 2)), (2, 3)) if axes is None else (x, axes)
    deviation = parts - parts.mean(axes, keepdim=True) if centered else parts
    deviation = (deviation.square().mean(axes, keepdim=True) + 1e-3).sqrt()
    slope = (relevance / function(x)).detach().reshape(parts.shape)
    slope = (slope - slope.mean(axes, keepdim=True) if centered else slope) / deviation
    torch.testing.assert_close(found, (parts * slope).reshape(x.shape), rtol=1e-10, atol=1e-12)


def test_lengths_are_constants():
    x = numbers(3, 4)
    for function in (F.normalize, lambda x: x / x.norm(dim=1, keepdim=True), lambda x: x / x.square().sum(1)[:, None]):
        relevance, (found,) = shares(Relevance(), function, x)
        torch.testing.assert_close(found, relevance)


PRODUCTS = {
    "*": (lambda a, b: a * b, 2),
    "*=": (lambda a, b: a.__imul__(b), 2),
    "mul_": (lambda a, b: a.mul_(b), 2),
    "torch.mul by name": (lambda a, b: torch.mul(input=a, other=b), 2),
    "matmul": (torch.matmul, 2),
    "@": (lambda a, b: a @ b, 2),
    "einsum": (lambda a, b: torch.einsum("ij,jk->ik", a, b), 2),
    "einsum of three": (lambda a, b: torch.einsum("ij,jk,kl->il", a, b, a), 3),
    "addmm": (lambda a, b: torch.addmm(torch.zeros(3, 3).to(a), a, b), 2),
    "linear": (F.linear, 2),
}


@pytest.mark.parametrize(("function", "factors"), PRODUCTS.values(), ids=PRODUCTS)
def test_factors_share_equally(function, factors):
    relevance, (one, other) = shares(Relevance(), function, numbers(3, 3), numbers(3, 3, seed=1))
    assert float(other.sum()) == pytest.approx(float(relevance.sum()) / factors)
    assert float(one.sum() + other.sum()) == pytest.approx(float(relevance.sum()))


def test_a_factor_that_is_none_of_the_inputs_takes_nothing():
    weight = nn.Parameter(numbers(3, 3, seed=1))
    for function in (
        lambda x: x * weight,
        lambda x: x @ weight,
        lambda x: x.mul_(weight),
        lambda x: F.linear(x, weight),
    ):
        relevance, (found,) = shares(Relevance(), function, numbers(3, 3))
        assert float(found.sum()) == pytest.approx(float(relevance.sum()))


@RULES
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_multihead_attention_is_its_parts(rules, need_weights, frozen):
    module = nets.fixed(nn.MultiheadAttention(4, 2, batch_first=True, bias=False))
    if frozen:
        nets.frozen(module)

    def parts(x: Tensor) -> Tensor:
        q, k, v = (each.unflatten(-1, (2, 2)).transpose(1, 2) for each in (x @ module.in_proj_weight.T).chunk(3, -1))
        mixed = (q @ k.mT / 2**0.5).softmax(-1) @ v
        return mixed.transpose(1, 2).flatten(2) @ module.out_proj.weight.T

    x = numbers(2, 5, 4)
    one, (found,) = shares(Relevance(rules), lambda x: module(x, x, x, need_weights=need_weights)[0], x)
    _, (expected,) = shares(Relevance(rules), parts, x)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)
    assert (float(found.sum()) == pytest.approx(float(one.sum()))) == (rules == "cp_lrp")


def test_encoder_layers_have_rules_too():
    layer = nets.fixed(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, bias=False, activation="gelu"))
    relevance, (found,) = shares(Relevance(), layer, numbers(2, 5, 4))
    assert float(found.sum()) == pytest.approx(float(relevance.sum()))


def test_queries_that_are_learned_take_no_share():
    """A pool by attention: keys and values alone depend on the input, so they share once."""
    asks = nn.Parameter(numbers(1, 2, 1, 3, seed=3))
    value, x = numbers(1, 2, 5, 3, seed=4), numbers(1, 2, 5, 3)

    def written(x: Tensor) -> Tensor:
        return (asks @ x.mT / 3**0.5).softmax(-1) @ value

    fused = lambda x: F.scaled_dot_product_attention(asks, x, value)  # noqa: E731
    (_, (one,)), (_, (other,)) = (shares(Relevance("attn_lrp"), each, x) for each in (fused, written))
    torch.testing.assert_close(one, other)


def test_gated_linear_units_hold_their_gate_constant():
    relevance, (found,) = shares(Relevance(), lambda x: F.glu(x, 1), numbers(3, 4))
    torch.testing.assert_close(found, torch.cat([relevance, 0 * relevance], 1))


def gamma_by_hand(contributions, bias, relevance, gamma):
    """`(in, out)` contributions: those that agree in sign with their sum count `1 + gamma` times, like the bias."""
    signs = (contributions.sum(0) + bias).sign()
    grown = contributions + gamma * torch.where(contributions * signs > 0, contributions, torch.zeros(()).to(bias))
    own = bias + gamma * torch.where(bias * signs > 0, bias, torch.zeros(()).to(bias))
    return (grown / (grown.sum(0) + own) * relevance).sum(1)


@pytest.mark.parametrize("gamma", [0.25, 100.0])
def test_gamma_of_convolutions(gamma):
    weight, bias, x = numbers(4, 3, 2, 2), numbers(4, seed=5), numbers(1, 3, 5, 5, seed=6)
    mode = Relevance(conv_gamma=gamma, linear_gamma=3.0)
    relevance, (found,) = shares(mode, lambda x: F.conv2d(x, nn.Parameter(weight), nn.Parameter(bias), stride=2), x)
    columns = torch.stack(
        [F.conv2d(one[None], weight, stride=2).flatten() for one in torch.eye(75).to(x).view(75, 3, 5, 5)]
    )
    expected = gamma_by_hand(columns * x.flatten()[:, None], bias.repeat_interleave(4), relevance.flatten(), gamma)
    torch.testing.assert_close(found.flatten(), expected, rtol=1e-9, atol=1e-12)
    _, (plain,) = shares(Relevance(linear_gamma=gamma), lambda x: F.conv2d(x, weight, bias, stride=2), x)
    assert not torch.allclose(found, plain)


def at(model, images, names, target=1, rules="cp_lrp", **options):
    """The score, the relevance of the images, and what each module is given with its relevance."""
    mode = Relevance(rules, **options)
    taps = [LayerRef(name, side="input") for name in names]
    recording = record(
        model,
        images,
        taps,
        [OutputSelector(lambda output, **known: resolve(target, output, **known))],
        input_gradients=True,
        layouts=dict.fromkeys(taps, ChannelsFirst()),
        relevance=mode,
    )
    layers = [each.activations * each.gradients[0] for each in recording.layers.values()]
    return recording.scores[0], images * recording.input_gradients[0], layers, mode


@RULES
@pytest.mark.parametrize("options", [{}, {"linear_gamma": 0.3, "conv_gamma": 2.0}], ids=str)
def test_every_block_of_a_vit_is_given_what_the_papers_say(rules, options):
    model = vit(prefix=2)
    images = pictures(model)
    expected, blocks = relevances(model, images, start(model, images, torch.tensor([1, 1])), rules, **options)
    _, found, layers, mode = at(model, images, ["blocks.0", "blocks.1"], rules=rules, **options)
    for one, other in zip([found, *layers], [expected, *blocks], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10 * float(other.abs().max()))
    assert not mode.left


NETWORKS = {
    "vit": ("vit_tiny_patch16_224", {"img_size": 32, "depth": 2}, "blocks"),
    "eva02: rotary embeddings, SwiGLU": ("eva02_tiny_patch14_224", {"img_size": 28, "depth": 2}, "blocks"),
    "deit3: layer scale": ("deit3_small_patch16_224", {"img_size": 32, "depth": 2, "embed_dim": 96}, "blocks"),
    "swin: windows, softmax written out": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 56, "depths": (2, 2), "embed_dim": 24, "num_heads": (2, 2), "window_size": 7},
        "blocks",
    ),
    "convnext": ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}, "blocks"),
    "clip: quick_gelu": (
        "vit_base_patch32_clip_quickgelu_224",
        {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 4},
        "blocks",
    ),
    "resnet: max pooling, batch normalization": ("resnet18", {}, "layer"),
    "mobilenet: hardswish, gates": ("mobilenetv3_small_050", {}, "blocks"),
    "cait: talking heads": ("cait_xxs24_224", {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 4}, "blocks"),
}


def network(name, options):
    """A network of timm's whose biases, and embeddings that are added, are zero."""
    model = nets.fixed(timm.create_model(name, num_classes=5, **options))
    for key, parameter in model.named_parameters():
        last = key.rpartition(".")[2]
        if last in ("bias", "q_bias", "v_bias", "pos_embed", "cls_token"):
            parameter.data.zero_()
        elif parameter.ndim == 1:
            parameter.data = 1 + parameter.data / 4
    for key, buffer in model.named_buffers():
        if key.endswith("running_var"):
            buffer.copy_(1 + numbers(*buffer.shape).abs())
    return model


@pytest.mark.parametrize(("name", "options", "stem"), NETWORKS.values(), ids=NETWORKS)
def test_cp_lrp_conserves_relevance_at_every_block(name, options, stem):
    model = network(name, options)
    images = nets.images(2, side=options.get("img_size", 64))
    blocks = [
        key
        for key, _ in model.named_modules()
        if stem in key and key.rpartition(".")[2].isdigit() and "downsample" not in key and "blocks_token" not in key
    ]
    score, found, layers, mode = at(model, images, blocks)
    torch.testing.assert_close(score, model(images)[:, 1].detach(), rtol=1e-12, atol=0)
    assert not mode.left
    assert len(layers) >= 2
    for each in (found, *layers):
        torch.testing.assert_close(each.flatten(1).sum(1) / score, torch.ones(2).double(), rtol=0, atol=1e-9)


def test_biases_keep_their_share():
    model, images = nets.plain(), nets.images(1)
    score, found, (middle,), _ = at(model, images, ["conv2"])
    biases = [model.head.bias, model.conv2.bias, model.conv1.bias]
    slopes = torch.autograd.grad(model(images)[:, 1].sum(), biases)
    kept = [float((bias.detach() * slope).sum()) for bias, slope in zip(biases, slopes, strict=True)]
    assert float(middle.sum()) == pytest.approx(float(score) - sum(kept[:2]))
    assert float(found.sum()) == pytest.approx(float(score) - sum(kept))
    assert abs(sum(kept)) > 0.1


def test_a_batch_norm_by_running_statistics_is_linear():
    model = nets.fixed(nets.Training(act=False))
    images = nets.images()
    _, found, _, _ = at(model, images, [])
    leaf = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    torch.testing.assert_close(found, images * slope)


WITHOUT_A_RULE = {
    "sin": torch.sin,
    "exp": torch.exp,
    "log_softmax": lambda x: x.log_softmax(1),
    "cumprod": lambda x: x.cumprod(1),
}


@pytest.mark.parametrize(("name", "function"), WITHOUT_A_RULE.items(), ids=WITHOUT_A_RULE)
def test_what_has_no_rule_passes_its_gradient_and_is_named(name, function):
    model, images = nets.fixed(nets.Functional(function)), nets.images()
    found = whycam.explain(model, images, "cp_lrp", target=1)
    leaf = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    torch.testing.assert_close(found.maps, (images * slope).sum(1).float())
    assert f"no rule of relevance is known for {name}: gradients pass there as they are" in found.notes


def test_a_function_that_no_mode_sees_is_named_too():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, gradient):
            return 3 * gradient * ctx.saved_tensors[0] ** 2

    found = whycam.explain(nets.fixed(nets.Functional(Cube.apply)), nets.images(), "attn_lrp", target=1)
    assert "no rule of relevance is known for cube: gradients pass there as they are" in found.notes


ENDS = {"softmax": lambda x: x.softmax(1), "sigmoid": torch.sigmoid, "sigmoid in place": lambda x: x.sigmoid_()}


@pytest.mark.parametrize(("name", "end"), ENDS.items(), ids=ENDS)
def test_what_gates_nothing_passes_its_gradient(name, end):
    class Ending(nets.Plain):
        def forward(self, x):
            return end(super().forward(x))

    model, images = nets.fixed(Ending()), nets.images()
    leaf = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    found = whycam.explain(model, images, "cp_lrp", target=lambda output: output[:, 1])
    torch.testing.assert_close(found.maps, (images * slope).sum(1).float())
    assert f"no rule of relevance is known for {name.split()[0]}: gradients pass there as they are" in found.notes


GATES = {
    "sigmoid": lambda x, g: x * g.sigmoid(),
    "before": lambda x, g: g.sigmoid() * x,
    "sigmoid in place": lambda x, g: x * (g + 0).sigmoid_(),
    "in place": lambda x, g: x.mul_(torch.sigmoid(g)),
    "hardsigmoid, expanded": lambda x, g: x * F.hardsigmoid(g.mean(1, keepdim=True)).expand_as(g),
    "two": lambda x, g: x * (0.5 * g.sigmoid() + g.softmax(-1).flip(0)),
    "softmax": lambda x, g: g.softmax(-1) @ x,
    "talking heads": lambda x, g: F.linear(g.softmax(-1), torch.ones(3, 3).to(g) + g.detach()) @ x,
}


@pytest.mark.parametrize("function", GATES.values(), ids=GATES)
def test_gates_are_constants(function):
    x, g = numbers(3, 3), numbers(3, 3, seed=1)
    mode = Relevance("cp_lrp")
    relevance, (found, of_gate) = shares(mode, function, x, g)
    assert not of_gate.any()
    assert float(found.sum()) == pytest.approx(float(relevance.sum()))
    assert not mode.left


def test_a_product_of_gates_alone_is_shared():
    _, (one, other) = shares(Relevance(), lambda a, b: a.sigmoid() * b.sigmoid(), *numbers(2, 3, 3))
    assert one.any()
    assert other.any()


@pytest.mark.parametrize("name", ["FCOS", "Faster R-CNN", "YOLOS", "yolov8n"])
def test_boxes_have_relevance(name):
    every = {**detectors.TORCHVISION, **detectors.TRANSFORMERS, **detectors.ULTRALYTICS}
    model, images = detectors.made(every[name])
    found = whycam.explain(model, images, "cp_lrp", target=whycam.targets.Box(0))
    assert found.maps.any()
    assert found.maps.isfinite().all()


@RULES
@pytest.mark.parametrize("options", [{}, {"linear_gamma": 0.1, "conv_gamma": 0.5}], ids=str)
def test_precisions(rules, options):
    model = vit()
    images = pictures(model)
    expected = whycam.explain(model, images, rules, target=3, **options).maps
    near = {torch.float32: 1e-5, torch.float16: 0.02, torch.bfloat16: 0.1}
    for dtype, tolerance in near.items():
        found = whycam.explain(vit().to(dtype), images.to(dtype), rules, target=3, **options).maps
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))
    with torch.autocast("cpu", torch.bfloat16):
        found = whycam.explain(vit().float(), images.float(), rules, target=3, **options).maps
    torch.testing.assert_close(found, expected, rtol=0, atol=0.1 * float(expected.abs().max()))


@RULES
def test_parts_that_are_computed_again_have_the_rules_in_the_backward_too(rules):
    model = vit()
    images = pictures(model)
    expected = whycam.explain(model, images, rules, target=1).maps
    for block in model.blocks:
        block.forward = lambda x, run=block.forward: checkpoint(run, x, use_reentrant=False)
    assert torch.equal(whycam.explain(model, images, rules, target=1).maps, expected)


def test_nothing_is_counted_under_no_grad():
    class Looking(nets.Plain):
        def features(self, x):
            with torch.no_grad():
                self.seen = (x * x).mean().sigmoid()
            return super().features(x)

    model, images = nets.fixed(Looking()), nets.images()
    assert torch.equal(
        whycam.explain(model, images, "cp_lrp", target=1).maps,
        whycam.explain(nets.plain(), images, "cp_lrp", target=1).maps,
    )
