"""A score's curvature at a layer against torch's own Hessian-vector products, and in networks of every condition."""

import threading

import nets
import pytest
import torch
import torch.nn.functional as F
from layers import Tail, recorded
from torch import Tensor, nn
from torch.autograd.functional import hvp

import whycam
from whycam.network.quantities.curvature import curvature
from whycam.targets import LogProbability, Probability, ReST


def measured(model, inputs, layer, target=1, part=None):
    layer, bound, _ = recorded(model, inputs, layer, target, part)
    return curvature(model, inputs, layer, bound, part)


def by_torch(model, inputs, layer, target=1):
    """The Hessian-vector product of the network as a function of what the layer returns, which a hook replaces."""
    _, bound, _ = recorded(model, inputs, layer, target)
    kept = []
    hook = model.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.append(output.detach().clone()))
    model(inputs)
    hook.remove()

    def score(values):
        hook = model.get_submodule(layer).register_forward_hook(lambda _, __, output: values.clone())
        made = bound(model(inputs)).sum()
        hook.remove()
        return made

    return hvp(score, kept[0], kept[0])[1]


def at(above, inputs):
    """The curvature at inputs that are themselves the layer."""
    return measured(Tail(above), inputs, "layer")


def test_worked_example():
    # of a^2 b the second derivatives are 2b, 2a and 0: (2ba + 2ab, 2a a)
    inputs = torch.tensor([[[3.0, 5.0]]])
    found = at(lambda x: x[:, 0, 0] ** 2 * x[:, 0, 1], inputs)
    assert found.tolist() == [[[4 * 15, 2 * 9]]]


SMOOTH = {"tanh": torch.tanh, "softplus": F.softplus, "gelu": nn.GELU(), "silu in place": nn.SiLU(inplace=True)}


@pytest.mark.parametrize("function", SMOOTH.values(), ids=SMOOTH)
@pytest.mark.parametrize("target", [1, [4, 0, 2], ReST(1), LogProbability(), Probability(3)])
def test_is_the_hessian_vector_product_of_torch(function, target):
    model, inputs = nets.fixed(nets.Functional(function)), nets.images()
    expected = by_torch(model, inputs, "conv1", target)
    torch.testing.assert_close(measured(model, inputs, "conv1", target), expected)
    assert expected.any()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_in_one_to_three_dimensions(rank):
    model, inputs = nets.plain(rank), nets.images(rank=rank, side=6)
    torch.testing.assert_close(measured(model, inputs, "conv1", ReST(1)), by_torch(model, inputs, "conv1", ReST(1)))


@pytest.mark.parametrize("layer", ["conv1", "relu1", "conv2", "relu2", "conv2:input"])
def test_is_zero_where_the_score_is_piecewise_linear(layer):
    found = measured(nets.plain(), nets.images(), layer)
    assert found.eq(0).all()
    assert measured(nets.plain(), nets.images(), layer, ReST(1)).any()


@pytest.mark.parametrize(("degree", "factor"), [(1, 0), (2, 1), (3, 2)])
def test_of_a_homogeneous_score_it_is_the_gradient_times_the_degree_less_one(degree, factor, generator):
    """Euler's theorem, once differentiated."""
    inputs = torch.rand(2, 3, 4, generator=generator, dtype=torch.float64) + 0.1
    weights = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    model = Tail(lambda x: (x * weights).flatten(1).sum(1) ** degree)
    layer, _, _ = recorded(model, inputs, "layer")
    torch.testing.assert_close(measured(model, inputs, "layer"), factor * layer.gradients[0])


def test_a_layer_below_a_normalization_that_ignores_scale_bends_by_minus_its_gradient(generator):
    inputs = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    weights = torch.randn(12, generator=generator, dtype=torch.float64)
    model = Tail(lambda x: F.layer_norm(x.flatten(1), (12,), eps=0) @ weights)
    layer, _, _ = recorded(model, inputs, "layer")
    torch.testing.assert_close(measured(model, inputs, "layer"), -layer.gradients[0])


def test_tokens_have_maps_and_the_class_token_counts_in_the_product():
    class Thinking(nets.Tokens):
        def __init__(self):
            super().__init__()
            for block in self.blocks:
                block.relu = nn.Tanh()

    model, inputs = nets.fixed(Thinking()), nets.images()
    expected = by_torch(model, inputs, "blocks.0")[:, 1:].mT.unflatten(2, (4, 4))
    torch.testing.assert_close(measured(model, inputs, "blocks.0"), expected)
    assert expected.any()


def test_channels_last_come_back_as_maps():
    expected = measured(nets.plain(), nets.images(), "conv2", ReST(1))
    found = measured(nets.fixed(nets.ChannelsLast()), nets.images(), "last", ReST(1))
    torch.testing.assert_close(found, expected)


class Attending(nn.Module):
    """Attention above a convolution: fused, in a module, or step by step."""

    def __init__(self, kind):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 2, stride=2)
        self.kind = kind
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv(x).flatten(2).mT
        if self.kind == "a module":
            tokens = self.attend(tokens, tokens, tokens, need_weights=False)[0]
        elif self.kind == "fused":
            tokens = F.scaled_dot_product_attention(tokens[:, None], tokens[:, None], tokens[:, None])[:, 0]
        else:
            tokens = (tokens @ tokens.mT / 8**0.5).softmax(2) @ tokens
        return self.head(tokens.mean(1))


def test_fused_attention_counts_as_what_it_computes_and_its_kernels_stay_on():
    inputs = nets.images()
    made = {kind: measured(nets.fixed(Attending(kind)), inputs, "conv") for kind in ("fused", "step by step")}
    torch.testing.assert_close(made["fused"], made["step by step"])
    assert made["fused"].any()
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.mem_efficient_sdp_enabled()


def test_attention_in_a_module():
    model, inputs = nets.fixed(Attending("a module")), nets.images()
    before = nets.state(model)
    found = measured(model, inputs, "conv")
    assert nets.differences(before, nets.state(model)) == []
    torch.backends.cuda.enable_flash_sdp(False)
    try:
        torch.testing.assert_close(found, by_torch(model, inputs, "conv"))
    finally:
        torch.backends.cuda.enable_flash_sdp(True)


def test_attention_in_several_threads_at_once():
    model, inputs = nets.fixed(Attending("fused")), nets.images()
    expected, found = measured(model, inputs, "conv"), []
    threads = [threading.Thread(target=lambda: found.append(measured(model, inputs, "conv"))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 4
    for each in found:
        torch.testing.assert_close(each, expected)
    assert torch.backends.cuda.flash_sdp_enabled()


@pytest.mark.parametrize("function", [F.hardsigmoid, nn.Hardsigmoid(inplace=True)])
def test_a_function_without_a_second_derivative_in_torch_is_made_of_others(function):
    model, inputs = nets.fixed(nets.Functional(function)), nets.images()
    found = measured(model, inputs, "conv1", ReST(1))
    same = nets.fixed(nets.Functional(lambda x: F.relu6(x + 3) / 6))
    torch.testing.assert_close(found, by_torch(same, inputs, "conv1", ReST(1)))
    assert found.any()


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


@pytest.mark.parametrize("frozen", [False, True])
def test_what_can_be_differentiated_once_only_is_refused_in_words(frozen):
    model, inputs = nets.fixed(nets.Functional(_Once.apply)), nets.images()
    model = nets.frozen(model) if frozen else model
    before = nets.state(model)
    with pytest.raises(whycam.WhycamError, match=r"above layer 'conv1' cannot be differentiated twice \(.*grad_cam"):
        measured(model, inputs, "conv1")
    assert nets.differences(before, nets.state(model)) == []
    assert torch.backends.cuda.flash_sdp_enabled()


SAME = nets.AS_PLAIN


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
@pytest.mark.parametrize("layer", ["conv2", "conv2:input"])
def test_every_condition_gives_the_same_and_leaves_no_trace(make, layer):
    expected = measured(nets.plain(), nets.images(), layer, ReST(1))
    model, inputs = make(), nets.images()
    before = nets.state(model)
    found = measured(model, inputs, layer, ReST(1))
    assert nets.differences(before, nets.state(model)) == []
    torch.testing.assert_close(found, expected)
    assert expected.any()


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_it_can_be_asked_for_wherever_gradients_are_off(around):
    model, inputs = nets.plain(), nets.images()
    expected = measured(model, inputs, "conv1", ReST(1))
    with around():
        found = measured(model, inputs, "conv1", ReST(1))
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert not found.is_inference()


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_code():
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("whole", [False, True])
def test_reentrant_checkpointing_is_refused_in_words(whole):
    model, inputs = nets.fixed(nets.Checkpointed(reentrant=True, whole=whole)), nets.images()
    layer, bound, _ = recorded(model, inputs, "conv2", ReST(1), gradients=False)
    with pytest.raises(whycam.WhycamError, match="reentrant activation checkpointing"):
        curvature(model, inputs, layer, bound, None)


@pytest.mark.parametrize("number", [0, 1])
def test_one_call_of_a_module_that_runs_twice(number):
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    found = measured(model, inputs, f"conv2#{number}", ReST(1))
    _, bound, _ = recorded(model, inputs, f"conv2#{number}", ReST(1))

    def run(values=None):
        calls = []

        def see(_, __, output):
            calls.append(output.detach())
            return values if len(calls) - 1 == number else None

        hook = model.conv2.register_forward_hook(see)
        made = bound(model(inputs)).sum()
        hook.remove()
        return made, calls[number]

    _, layer = run()
    torch.testing.assert_close(found, hvp(lambda values: run(values)[0], layer, layer)[1])


def test_a_part_of_the_output():
    model, inputs = nets.fixed(nets.TwoHeads()), nets.images()
    found = measured(model, inputs, "conv1", 1, lambda output: output["auxiliary"].sin())
    plain = nets.fixed(nets.TwoHeads())
    plain.forward = lambda x: plain.other(nets.spatial_mean(plain.features(x))).sin()
    torch.testing.assert_close(found, by_torch(plain, inputs, "conv1"))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_gives_float32_near_what_full_precision_gives(kind):
    model, inputs = nets.fixed(nets.Functional(F.gelu)), nets.images()
    expected = measured(model.float(), inputs.float(), "conv1", ReST(1))
    found = measured(model.to(kind), inputs.to(kind), "conv1", ReST(1))
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_batch_is_its_samples_and_one_that_is_not_finite_leaves_the_others_alone():
    model, inputs = nets.plain(), nets.images()
    together = measured(model, inputs, "conv1", ReST(1))
    for n in range(3):
        torch.testing.assert_close(measured(model, inputs[n : n + 1], "conv1", ReST(1)), together[n : n + 1])
    inputs[1, 0, 0, 0] = torch.nan
    found = measured(model, inputs, "conv1", ReST(1))
    assert found[1].isnan().any()
    torch.testing.assert_close(found[[0, 2]], together[[0, 2]])


def test_a_score_that_does_not_depend_on_the_layer_has_none():
    model, inputs = nets.fixed(nets.Beside()), nets.images()
    layer, bound, _ = recorded(model, inputs, "decoder", must_depend=False)
    found = curvature(model, inputs, layer, bound, None)
    assert found.shape == layer.activations.shape
    assert not found.any()


def test_the_network_runs_once_and_its_own_gradients_are_left_alone():
    model, inputs = nets.plain(), nets.images()
    layer, bound, _ = recorded(model, inputs, "conv1")
    model(inputs).sum().backward()
    before, runs = nets.state(model), []
    hook = model.register_forward_hook(lambda *_: runs.append(1))
    curvature(model, inputs, layer, bound, None)
    hook.remove()
    assert len(runs) == 1
    assert nets.differences(before, nets.state(model)) == []


def test_an_error_in_the_network_passes():
    model, inputs = nets.fixed(nets.Raising()), nets.images()
    layer, bound, _ = recorded(model, inputs, "conv1")
    model.error = RuntimeError("midway")
    before = nets.state(model)
    with pytest.raises(RuntimeError, match="midway"):
        curvature(model, inputs, layer, bound, None)
    assert nets.differences(before, nets.state(model)) == []


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_dropout_draws_the_same_numbers_as_when_it_was_recorded():
    class Bent(nets.Training):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).sin()

    model, inputs = nets.fixed(Bent()), nets.images()
    model.train()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    layer, bound, _ = recorded(model, inputs, "relu2")
    found = curvature(model, inputs, layer, bound, None)
    assert torch.equal(found == 0, (layer.gradients[0] == 0) | (found == 0))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found, curvature(model, inputs, layer, bound, None))
