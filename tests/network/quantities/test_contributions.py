"""DeepLIFT's contributions against the rules written out, by their sum, and in networks of every condition."""

import itertools
import threading

import nets
import pytest
import torch
import torch.nn.functional as F
import torchvision_shim
from layers import Tail, recorded
from torch import Tensor, nn

import whycam
from whycam.network.quantities.contributions import contributions
from whycam.targets import Contrast, LogProbability, MultiLabel, Probability, ReST

torchvision_shim.register()
import torchvision.models as zoo  # noqa: E402


def measured(model, inputs, layer, target=1, part=None):
    layer, bound, _ = recorded(model, inputs, layer, target, part)
    return contributions(model, inputs, layer, bound, part)


def score_of_zeros(model, inputs, layer, target):
    """The scores with zeros for what a layer returns, by a hook."""
    _, bound, _ = recorded(model, inputs, layer, target)
    hook = model.get_submodule(layer).register_forward_hook(lambda _, __, output: torch.zeros_like(output))
    with torch.no_grad():
        score = bound(model(inputs))
    hook.remove()
    return score


def adds_up(model, inputs, layer, target=1, tolerance=1e-7):
    found = measured(model, inputs, layer, target)
    _, _, score = recorded(model, inputs, layer, target)
    change = score - score_of_zeros(model, inputs, layer, target)
    size = float(change.abs().max())
    torch.testing.assert_close(found.flatten(1).sum(1), change, rtol=0, atol=tolerance * size)
    assert size > 1e-4
    return found


def at(above, inputs):
    """The contributions of inputs that are themselves the layer."""
    return measured(Tail(above), inputs, "layer")


def test_worked_example():
    # 2a - b - 1 is 3 for (3, 2) and -1 for zeros: ReLU makes of the difference 4 the difference 3; then times 5
    inputs = torch.tensor([[[3.0, 2.0]]], dtype=torch.float64)
    found = at(lambda x: 5 * F.relu(2 * x[:, 0, 0] - x[:, 0, 1] - 1), inputs)
    torch.testing.assert_close(found, torch.tensor([[[5 * 0.75 * 2 * 3, -5 * 0.75 * 2]]], dtype=torch.float64))


def by_hand(model, x, function):
    """Two convolutions, each followed by a function of single values, a mean, and a row of the head, backwards."""
    layer = F.conv2d(x, model.conv1.weight, model.conv1.bias, padding=1)

    def run(values):
        inner = function(values.clone())
        outer = F.conv2d(inner, model.conv2.weight, model.conv2.bias, stride=2, padding=1)
        return inner, outer, function(outer.clone())

    (inner, outer, last), (inner0, outer0, last0) = run(layer), run(torch.zeros_like(layer))
    share = model.head.weight[1][:, None, None] / last[0, 0].numel() * (last - last0) / (outer - outer0)
    below = F.conv_transpose2d(share, model.conv2.weight, stride=2, padding=1, output_padding=1)
    return (below * (inner - inner0)).detach()  # times the change of the layer, over the change of the layer


ELEMENTWISE = {
    "F.relu": F.relu,
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "torch.relu_": torch.relu_,
    "Tensor.relu": Tensor.relu,
    "relu6": F.relu6,
    "nn.ReLU6 in place": nn.ReLU6(inplace=True),
    "hardtanh": nn.Hardtanh(-0.3, 0.7),
    "clamp": lambda x: x.clamp(-0.2, 0.5),
    "clamp_": lambda x: x.clamp_(min=-0.1),
    "clamp_min": lambda x: torch.clamp_min(x, 0.1),
    "gelu": F.gelu,
    "gelu by tanh": nn.GELU("tanh"),
    "silu": F.silu,
    "silu in place": nn.SiLU(inplace=True),
    "sigmoid": torch.sigmoid,
    "sigmoid_": Tensor.sigmoid_,
    "nn.Sigmoid": nn.Sigmoid(),
    "tanh": torch.tanh,
    "nn.Tanh": nn.Tanh(),
    "hardswish": F.hardswish,
    "nn.Hardswish in place": nn.Hardswish(inplace=True),
    "hardsigmoid": nn.Hardsigmoid(),
    "elu": nn.ELU(0.7),
    "elu in place": lambda x: F.elu(x, 1.0, True),
    "selu": nn.SELU(),
    "celu": F.celu,
    "leaky_relu": F.leaky_relu,
    "leaky_relu in place": nn.LeakyReLU(0.2, inplace=True),
    "prelu": nn.PReLU().double(),
    "rrelu": nn.RReLU().eval(),
    "softplus": F.softplus,
    "softsign": F.softsign,
    "mish": F.mish,
    "logsigmoid": F.logsigmoid,
    "threshold": nn.Threshold(0.1, 0.05),
    "tanhshrink": F.tanhshrink,
    "softshrink": F.softshrink,
    "exp": torch.exp,
    "pow": lambda x: x**2,
    "pow of a tensor": lambda x: x.pow(torch.tensor(3.0, dtype=x.dtype)),
    "square": torch.square,
    "abs": torch.abs,
    "sqrt": lambda x: (x * 1.0).exp().sqrt(),
    "erf": torch.erf,
    "a sum of two": lambda x: F.relu(x) + x.tanh(),
}


@pytest.mark.parametrize("function", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_an_activation_passes_back_its_change_over_the_change_of_its_input(function):
    model, inputs = nets.fixed(nets.Functional(function)), nets.images()
    if isinstance(function, nn.PReLU):
        nn.init.constant_(function.weight, 0.25)
    found = measured(model, inputs, "conv1")
    torch.testing.assert_close(found, by_hand(model, inputs, function), rtol=1e-7, atol=1e-9)
    assert found.any()


@pytest.mark.parametrize("write", [torch.relu_, lambda x: x.mul_(x.sigmoid()), lambda x: F.elu(x, inplace=True)])
def test_what_is_written_in_place_is_seen_by_who_holds_the_same_memory(write):
    class Held(nets.Plain):
        def features(self, x: Tensor) -> Tensor:
            x = same = self.conv1(x)
            assert write(x) is x
            return self.relu2(self.conv2(same))

    class Apart(nets.Plain):
        def features(self, x: Tensor) -> Tensor:
            return self.relu2(self.conv2(write(self.conv1(x).clone())))

    inputs = nets.images()
    found = measured(nets.fixed(Held()), inputs, "conv1")
    torch.testing.assert_close(found, measured(nets.fixed(Apart()), inputs, "conv1"))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((3, 1, 1), 2.0))

    def forward(self, x):
        return x * self.scale / 3 - 1


LINEAR = {
    "convolution": nn.Conv2d(3, 4, 3),
    "transposed convolution": nn.ConvTranspose2d(3, 4, 3),
    "batch normalization": nn.BatchNorm2d(3),
    "mean pooling": nn.AvgPool2d(3, 2, 1),
    "adaptive mean pooling": nn.AdaptiveAvgPool2d(2),
    "interpolation": nn.Upsample(scale_factor=1.5, mode="bilinear"),
    "padding": nn.ReflectionPad2d(2),
    "dropout": nn.Dropout(0.5),
    "shuffling": nn.PixelUnshuffle(2),
    "residual": lambda x: x + 2 * x.roll(1, -1),
    "branches": lambda x: torch.cat([x, x.flip(-1)], 1),
    "scaling by a parameter": Scaled(),
    "windows": lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(3),
}


@pytest.mark.parametrize("above", LINEAR.values(), ids=LINEAR)
def test_what_is_linear_gives_gradient_times_activation_bit_for_bit(above, generator):
    torch.manual_seed(0)
    if isinstance(above, nn.BatchNorm2d):
        above.running_mean.normal_(), above.running_var.uniform_(0.5, 2), nn.init.normal_(above.bias)
    above = above.double().eval() if isinstance(above, nn.Module) else above
    readout = torch.randn(9999, generator=generator, dtype=torch.float64)

    def score(x):
        features = above(x).flatten(1)
        return features @ readout[: features.shape[1]] + 0.3

    inputs = torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)
    layer, bound, _ = recorded(Tail(score), inputs, "layer")
    found = contributions(Tail(score), inputs, layer, bound, None)
    assert torch.equal(found, layer.gradients[0] * layer.activations)
    assert found.any()


def largest_by_loops(x, windows, offset, weights):
    """All of a window's change goes to one place: the largest of the run whose maximum is larger."""
    found = torch.zeros_like(x)
    for n, k in itertools.product(range(x.shape[0]), range(x.shape[1])):
        for number, window in enumerate(windows):
            zeros = [offset[(k, *place)].item() for place in window]
            values = [x[(n, k, *place)].item() + zero for place, zero in zip(window, zeros, strict=True)]
            rise = max(values) - max(zeros)
            deciding = values if rise >= 0 else zeros
            place = window[deciding.index(max(deciding))]
            found[(n, k, *place)] += weights[k, number].item() * rise  # rise / change there, times that change
    return found


POOLS = {
    "max_pool1d": (lambda x: F.max_pool1d(x, 3, 2, 1), (7,), 3, 2, 1),
    "max_pool2d": (nn.MaxPool2d(3, 2, 1), (7, 5), 3, 2, 1),
    "max_pool2d apart": (nn.MaxPool2d(2), (6, 4), 2, 2, 0),
    "torch.max_pool2d": (lambda x: torch.max_pool2d(x, 2, 1), (4, 5), 2, 1, 0),
    "max_pool3d": (lambda x: F.max_pool3d(x, kernel_size=2, stride=1), (3, 3, 4), 2, 1, 0),
}


@pytest.mark.parametrize(("pool", "space", "size", "stride", "padding"), POOLS.values(), ids=POOLS)
def test_a_maximum_gives_all_of_its_change_to_the_place_that_decides(pool, space, size, stride, padding, generator):
    inputs = torch.randn(2, 2, *space, generator=generator, dtype=torch.float64)
    offset = torch.randn(2, *space, generator=generator, dtype=torch.float64)
    starts = [range(-padding, side + padding - size + 1, stride) for side in space]
    windows = [
        [
            place
            for place in itertools.product(*(range(each, each + size) for each in start))
            if all(0 <= step < side for step, side in zip(place, space, strict=True))
        ]
        for start in itertools.product(*starts)
    ]
    weights = torch.randn(2, len(windows), generator=generator, dtype=torch.float64)
    found = at(lambda x: (pool(x + offset).flatten(2) * weights).flatten(1).sum(1), inputs)
    expected = largest_by_loops(inputs, windows, offset, weights)
    torch.testing.assert_close(found, expected)


ALL = {
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 1).flatten(1),
    "nn.AdaptiveMaxPool2d": lambda x: nn.AdaptiveMaxPool2d((1, 1))(x).flatten(1),
    "amax": lambda x: x.amax((2, 3)),
    "amax by negative axes": lambda x: torch.amax(x, dim=(-1, -2), keepdim=True).flatten(1),
    "max, axis by axis": lambda x: x.max(3).values.max(dim=2)[0],
    "torch.max": lambda x: torch.max(x.flatten(2), 2, keepdim=True)[0].squeeze(2),
}


@pytest.mark.parametrize("pool", ALL.values(), ids=ALL)
def test_a_maximum_over_everything_however_it_is_spelled(pool, generator):
    inputs = torch.randn(3, 2, 4, 3, generator=generator, dtype=torch.float64)
    offset = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    window = list(itertools.product(range(4), range(3)))
    weights = torch.randn(2, 1, generator=generator, dtype=torch.float64)
    found = at(lambda x: pool(x + offset) @ weights[:, 0], inputs)
    expected = largest_by_loops(inputs, [window], offset, weights)
    torch.testing.assert_close(found.flatten(1).sum(1), expected.flatten(1).sum(1))
    if pool is not ALL["max, axis by axis"]:  # whose rows may be decided by one run and the whole by the other
        torch.testing.assert_close(found, expected)


PRODUCTS = {
    "*": lambda a, b: a * b,
    "mul": torch.mul,
    "mul_": lambda a, b: (a * 1).mul_(b),
    "*=": lambda a, b: a.clone().__imul__(b),
    "matmul": lambda a, b: (a[:, None] @ b[:, :, None]).flatten(1).expand(-1, 4) / 4,
    "bmm": lambda a, b: torch.bmm(a[:, None], b[:, :, None]).flatten(1).expand(-1, 4) / 4,
    "einsum": lambda a, b: torch.einsum("nk,nk->nk", a, b),
    "addcmul": lambda a, b: torch.addcmul(torch.ones_like(a), a, b),
}


@pytest.mark.parametrize("multiply", PRODUCTS.values(), ids=PRODUCTS)
def test_a_product_gives_each_side_its_change_times_the_mean_of_the_other(multiply, generator):
    inputs = torch.randn(2, 4, 2, generator=generator, dtype=torch.float64)

    def score(x):
        return multiply(x[:, :, 0] + 2, 3 * x[:, :, 1] - 1).sum(1)

    one, other = inputs[:, :, 0], inputs[:, :, 1]
    # the first goes from 2 to 2 + a, the second from -1 to 3b - 1
    expected = torch.stack([one * (3 * other - 2) / 2, 3 * other * (4 + one) / 2], 2)
    torch.testing.assert_close(at(score, inputs), expected)


def test_a_value_times_itself_and_a_gate_upon_itself_add_up(generator):
    inputs = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    squared = at(lambda x: ((x + 1) * (x + 1)).flatten(1).sum(1), inputs)
    torch.testing.assert_close(squared, inputs**2 + 2 * inputs)
    gated = at(lambda x: (x * torch.sigmoid(x.mean((2, 3), keepdim=True) + 1)).flatten(1).sum(1), inputs)
    change = (inputs * torch.sigmoid(inputs.mean((2, 3), keepdim=True) + 1)).flatten(1).sum(1)
    torch.testing.assert_close(gated.flatten(1).sum(1), change)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet18", "layer1"), ("squeezenet1_0", "features.3"), ("mobilenet_v3_small", "features.3")],
)
def test_completeness_in_real_networks(name, layer):
    torch.manual_seed(0)
    model = getattr(zoo, name)(weights=None).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3), module.running_var.uniform_(0.1, 0.5), nn.init.normal_(module.bias)
        elif isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.3)
    inputs = torch.randn(2, 3, 40, 40, dtype=torch.float64)
    found = adds_up(model, inputs, layer, 7)
    plain, _, _ = recorded(model, inputs, layer, 7)
    assert (found - plain.gradients[0] * plain.activations).abs().max() > 0.1 * found.abs().max()


@pytest.mark.parametrize("target", [None, 2, [0, 2, 4], Contrast(1, against=3), MultiLabel([1, 2])])
def test_any_weighted_sum_of_logits_adds_up(target):
    adds_up(nets.plain(), nets.images(), "conv1", target)


def test_the_target_follows_the_rules_too():
    model, inputs = nets.plain(), nets.images()
    adds_up(model, inputs, "conv1", lambda output: output[:, 1].sigmoid() * output[:, 2])


def test_a_value_that_hardly_changes_has_its_slope_and_no_quotient_of_rounding_errors():
    # from 3 to 3 + 1e-6, which float32 has in steps of 2e-7
    inputs = torch.full((1, 1, 2), 1e-6)
    found = at(lambda x: F.gelu(x + 3).flatten(1).sum(1) + x.flatten(1).sum(1) * 1e3, inputs) - 1e-3
    leaf = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(F.gelu(leaf), leaf)
    assert found[0, 0, 0].item() == pytest.approx(slope.item() * 1e-6, rel=1e-3)


def test_a_value_that_does_not_change_at_all_has_its_slope():
    inputs = torch.tensor([[[2.0, 2.0]]], dtype=torch.float64)
    found = at(lambda x: F.softplus(x[:, 0, 0] - x[:, 0, 1]), inputs)
    torch.testing.assert_close(found, torch.tensor([[[1.0, -1.0]]], dtype=torch.float64))


class Without(nn.Module):
    """Something above a convolution that has no rule, then a linear head."""

    def __init__(self, kind):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.kind = kind
        self.norm = {
            "layer normalization": nn.LayerNorm(8),
            "group normalization": nn.GroupNorm(2, 8),
            "instance normalization": nn.InstanceNorm2d(8),
            "RMS normalization": nn.RMSNorm(8),
            "recurrence": nn.LSTM(8, 8, batch_first=True),
        }.get(kind, nn.Identity())
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.kind in ("group normalization", "instance normalization"):
            x = self.norm(x)
        tokens = x.flatten(2).mT
        if self.kind in ("layer normalization", "RMS normalization"):
            tokens = self.norm(tokens)
        elif self.kind == "recurrence":
            tokens = self.norm(tokens)[0]
        elif self.kind == "softmax":
            tokens = tokens.softmax(1)
        elif self.kind == "attention":
            tokens = F.scaled_dot_product_attention(tokens, tokens, tokens)
        elif self.kind == "attention in a module":
            tokens = self.attend(tokens, tokens, tokens, need_weights=False)[0]
        elif self.kind == "normalization to length one":
            tokens = F.normalize(tokens, dim=2)
        return self.head(tokens.mean(1))


KINDS = [
    "softmax", "attention", "attention in a module", "layer normalization", "RMS normalization", "recurrence",
    "group normalization", "instance normalization", "normalization to length one",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_rule_is_named_and_the_model_left_alone(kind):
    model, inputs = nets.fixed(Without(kind)), nets.images()
    before = nets.state(model)
    with pytest.raises(whycam.WhycamError, match=rf"no rule for {kind.removesuffix(' in a module')}, .* 'conv'; .*"):
        measured(model, inputs, "conv")
    assert nets.differences(before, nets.state(model)) == []


def test_what_has_no_rule_may_stand_below_the_layer_or_beside_it():
    class Fine(nets.Plain):
        """Softmax of the input, and of a parameter that weighs the channels."""

        def __init__(self):
            super().__init__()
            self.share = nn.Parameter(torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            features = self.relu2(self.conv2(self.relu1(self.conv1(x.softmax(1)))))
            return self.head(nets.spatial_mean(features) * self.share.softmax(0)) + x.mean((2, 3)).softmax(1)[:, :1]

    adds_up(nets.fixed(Fine()), nets.images(), "conv2")


@pytest.mark.parametrize("target", [Probability(1), LogProbability(1), ReST(1)])
def test_a_softmax_in_the_target_is_refused(target):
    with pytest.raises(whycam.WhycamError, match="no rule for the softmax in the target; explain a class's logit"):
        measured(nets.plain(), nets.images(), "conv1", target)


def test_a_part_of_the_output_is_followed_through_its_function():
    model, inputs = nets.fixed(nets.TwoHeads()), nets.images()

    def part(output):
        return output["logits"].tanh() + output["auxiliary"]

    layer, bound, _ = recorded(model, inputs, "conv1", 1, part)
    found = contributions(model, inputs, layer, bound, part)
    hook = model.conv1.register_forward_hook(lambda _, __, output: torch.zeros_like(output))
    nothing = part(model(inputs))[:, 1].detach()
    hook.remove()
    torch.testing.assert_close(found.flatten(1).sum(1), part(model(inputs))[:, 1].detach() - nothing)
    with pytest.raises(whycam.WhycamError, match="no rule for softmax"):
        measured(model, inputs, "conv1", 1, lambda output: output["logits"].softmax(1))


class _Cubed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


@pytest.mark.parametrize("function", [_Cubed.apply, lambda x: x.cumprod(1), lambda x: x / (1 + x.norm())])
def test_what_no_rule_knows_of_shows_in_the_sum(function):
    model = nets.fixed(nets.Functional(function))
    with pytest.raises(whycam.WhycamError, match=r"do not add up: at layer 'conv1' they come to .* neither linear nor"):
        measured(model, nets.images(), "conv1")


def test_a_score_that_is_not_finite_for_zeros_is_refused():
    model = nets.fixed(nets.Functional(lambda x: x / x.norm()))
    with pytest.raises(whycam.WhycamError, match="NaN or infinite where layer 'conv1' returns nothing but zeros"):
        measured(model, nets.images(), "conv1")


def test_a_network_that_takes_another_way_for_zeros_is_refused():
    class Forked(nets.Plain):
        def features(self, x: Tensor) -> Tensor:
            x = self.conv1(x)
            return self.relu2(self.conv2(self.relu1(x) if bool(x.any()) else x))

    class Longer(nets.Plain):
        def features(self, x: Tensor) -> Tensor:
            x = self.conv1(x)
            return self.relu2(self.conv2(x if bool(x.any()) else self.relu1(x)))

    class Wider(nets.Plain):
        def features(self, x: Tensor) -> Tensor:
            x = self.conv1(x)
            return self.relu2(self.conv2(x if bool(x.any()) else x[:, :, :4]))

    class Shorter(nets.Plain):
        def forward(self, x: Tensor) -> Tensor:
            x = self.relu1(self.conv1(x))
            made = self.head(nets.spatial_mean(self.conv2(x)))
            return made.relu() if bool((x > x.mean()).any()) else made

    for kind in (Forked, Longer, Wider, Shorter):
        with pytest.raises(whycam.WhycamError, match="does not take the same way for a layer of zeros"):
            measured(nets.fixed(kind()), nets.images(), "conv1")


def test_batch_normalization_in_training_mode_is_refused():
    class Normed(nets.Training):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(nets.spatial_mean(self.conv2(self.relu1(self.bn(self.conv1(x))))))

    model = nets.fixed(Normed())
    adds_up(model, nets.images(), "conv1")
    model.train()
    with (
        pytest.warns(UserWarning, match="training mode"),
        pytest.raises(whycam.WhycamError, match=r"call model.eval\(\)"),
    ):
        measured(model, nets.images(), "conv1")


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_dropout_draws_the_same_numbers_in_both_runs_as_when_it_was_recorded():
    model, inputs = nets.fixed(nets.Training()), nets.images()
    model.train()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    layer, bound, _ = recorded(model, inputs, "relu2")
    found = contributions(model, inputs, layer, bound, None)
    assert torch.equal(found, layer.gradients[0] * layer.activations)
    assert torch.equal(torch.get_rng_state(), before)
    assert (layer.gradients[0] == 0).any()  # some were dropped


# conditions


SAME = {name: make for name, make in nets.AS_PLAIN.items() if name != "all computed again"}  # which is refused


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
@pytest.mark.parametrize("layer", ["conv2", "conv2:input"])
def test_every_condition_gives_the_same_and_leaves_no_trace(make, layer):
    expected = measured(nets.plain(), nets.images(), layer)
    model, inputs = make(), nets.images()
    before = nets.state(model)
    found = measured(model, inputs, layer)
    assert nets.differences(before, nets.state(model)) == []
    torch.testing.assert_close(found, expected)
    assert expected.any()


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_it_can_be_asked_for_wherever_gradients_are_off(around):
    model, inputs = nets.plain(), nets.images()
    expected = measured(model, inputs, "conv1")
    with around():
        found = measured(model, inputs, "conv1")
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert not found.is_inference()


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_code():
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_reentrant_checkpointing_and_checkpointed_rules_are_refused_in_words():
    class Above(nets.Plain):
        def forward(self, x: Tensor) -> Tensor:
            x = self.conv1(x)
            features = torch.utils.checkpoint.checkpoint(self.above, x, use_reentrant=self.reentrant)
            return self.head(nets.spatial_mean(features))

        def above(self, x: Tensor) -> Tensor:
            return self.relu2(self.conv2(self.relu1(x)))

    for reentrant in (False, True):
        model, inputs = nets.fixed(Above()), nets.images()
        model.reentrant = reentrant
        layer, bound, _ = recorded(model, inputs, "conv1", gradients=False)
        with pytest.raises(whycam.WhycamError, match=r"checkpointing.*set_grad_checkpointing\(False\)"):
            contributions(model, inputs, layer, bound, None)


@pytest.mark.parametrize("number", [0, 1])
def test_one_call_of_a_module_that_runs_twice(number):
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    found = measured(model, inputs, f"conv2#{number}")
    calls = []

    def see(_, __, output):
        calls.append(output)
        return torch.zeros_like(output) if len(calls) - 1 == number else None

    hook = model.conv2.register_forward_hook(see)
    nothing = model(inputs)[:, 1].detach()
    hook.remove()
    torch.testing.assert_close(found.flatten(1).sum(1), model(inputs)[:, 1].detach() - nothing)
    assert not torch.allclose(found, measured(model, inputs, f"conv2#{1 - number}"))


def test_channels_last_come_back_as_maps():
    expected = measured(nets.plain(), nets.images(), "relu2")
    before = measured(nets.plain(), nets.images(), "conv2")
    torch.testing.assert_close(measured(nets.fixed(nets.ChannelsLast()), nets.images(), "last"), before)
    torch.testing.assert_close(measured(nets.fixed(nets.ChannelsLast()), nets.images(), "relu2"), expected)


def test_tokens_have_maps_and_the_class_token_the_rest_of_the_sum():
    model, inputs = nets.fixed(nets.Tokens()), nets.images()
    found = measured(model, inputs, "blocks.0")
    assert found.shape == (3, 8, 4, 4)
    kept = []
    hook = model.blocks[0].register_forward_hook(lambda _, __, output: kept.append(output.detach()))
    score = model(inputs)[:, 1].detach()
    hook.remove()
    last = model.blocks[1]

    def row(tokens):  # of the class token, by hand
        talked = tokens[:, 0] + torch.einsum("t,ntk->nk", last.talk.weight[0], tokens) + last.talk.bias[0]
        return talked, last.think(talked)

    (talked, thought), (_, thought0) = row(kept[0]), row(torch.zeros_like(kept[0]))
    share = model.head.weight[1] * (thought.relu() - thought0.relu()) / (thought - thought0)
    below = model.head.weight[1] + share @ last.think.weight
    mixed = torch.einsum("t,nk->ntk", last.talk.weight[0], below)
    expected = (mixed * kept[0])[:, 1:].mT.unflatten(2, (4, 4)).detach()
    torch.testing.assert_close(found, expected)
    nothing = model.head(talked * 0 + row(torch.zeros_like(kept[0]))[0] + thought0.relu())[:, 1].detach()
    token = ((mixed[:, 0] + below) * kept[0][:, 0]).sum(1).detach()
    torch.testing.assert_close(found.flatten(1).sum(1) + token, score - nothing)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_gives_float32_near_what_full_precision_gives(kind):
    model, inputs = nets.fixed(nets.Functional(F.gelu)), nets.images()
    expected = measured(model.float(), inputs.float(), "conv1")
    found = measured(model.to(kind), inputs.to(kind), "conv1")
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_autocast_gives_near_what_full_precision_gives():
    model, inputs = nets.fixed(nets.Functional(F.gelu)).float(), nets.images().float()
    expected = measured(model, inputs, "conv1")
    with torch.autocast("cpu", torch.bfloat16):
        found = measured(model, inputs, "conv1")
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_batch_is_its_samples_and_one_that_is_not_finite_leaves_the_others_alone():
    model, inputs = nets.plain(), nets.images()
    together = measured(model, inputs, "conv1")
    for n in range(3):
        torch.testing.assert_close(measured(model, inputs[n : n + 1], "conv1"), together[n : n + 1])
    inputs[1, 0, 0, 0] = torch.nan
    found = measured(model, inputs, "conv1")
    assert found[1].isnan().any()
    torch.testing.assert_close(found[[0, 2]], together[[0, 2]])


def test_a_score_that_does_not_depend_on_the_layer_has_no_contributions():
    model, inputs = nets.fixed(nets.Beside()), nets.images()
    layer, bound, _ = recorded(model, inputs, "decoder", must_depend=False)
    found = contributions(model, inputs, layer, bound, None)
    assert found.shape == layer.activations.shape
    assert not found.any()


def test_the_network_runs_twice_forwards_and_its_own_gradients_are_left_alone():
    model, inputs = nets.plain(), nets.images()
    layer, bound, _ = recorded(model, inputs, "conv1")
    model(inputs).sum().backward()
    before, runs = nets.state(model), []
    hook = model.register_forward_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    contributions(model, inputs, layer, bound, None)
    hook.remove()
    assert len(runs) == 2
    assert nets.differences(before, nets.state(model)) == []


def test_an_error_in_the_network_passes_and_leaves_functions_as_they_are():
    model, inputs = nets.fixed(nets.Raising()), nets.images()
    layer, bound, _ = recorded(model, inputs, "conv1")
    model.error = RuntimeError("midway")
    before = nets.state(model)
    with pytest.raises(RuntimeError, match="midway"):
        contributions(model, inputs, layer, bound, None)
    assert nets.differences(before, nets.state(model)) == []
    leaf = inputs.clone().requires_grad_()
    F.relu(leaf).sum().backward()
    assert torch.equal(leaf.grad, (leaf > 0).double())


def test_threads_do_not_see_each_others_rules():
    model, inputs = nets.fixed(nets.Functional(F.relu)), nets.images()
    expected, found = measured(model, inputs, "conv1"), []
    threads = [threading.Thread(target=lambda: found.append(measured(model, inputs, "conv1"))) for _ in range(4)]
    for each in threads:
        each.start()
    leaf = inputs.clone().requires_grad_()
    (plain,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    for each in threads:
        each.join()
    assert all(torch.equal(each, expected) for each in found)
    assert len(found) == 4
    leaf = inputs.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)[0], plain)


def test_weights_that_are_computed_are_no_part_of_the_rules():
    model = nets.plain()
    nn.utils.parametrizations.weight_norm(model.conv2)
    nn.utils.parametrizations.weight_norm(model.head)
    adds_up(model, nets.images(), "conv1")
