"""Biases and their gradients against autograd on copies, and against what they must add up to: the score."""

import nets
import pytest
import torch
import torch.nn.functional as F
import torchvision_shim
from torch import nn
from torch.utils.checkpoint import checkpoint

import whycam
from whycam.network.quantities.biases import bias_gradients
from whycam.targets import resolve

torchvision_shim.register()
import torchvision.models as zoo  # noqa: E402

SCORED = 1


def answer(output):
    return output if isinstance(output, torch.Tensor) else output[0]


def measured(model, inputs, target=SCORED, part=None):
    """The quantity, for a target settled on a plain forward."""
    with torch.no_grad():
        bound = resolve(target, answer(nets.twin(model)(inputs)).float())
    return bias_gradients(model, inputs, bound, part)


def contributions(found):
    """What each bias adds to each sample's score."""
    return {
        number: (each.bias.reshape(1, -1, *[1] * (each.gradients.ndim - 2)) * each.gradients).flatten(1).sum(1)
        for number, each in enumerate(found)
    }


def gaps(model, inputs, target=SCORED):
    """The score less what input and biases account for, in parts of the score; float64."""
    leaf = inputs.clone().requires_grad_()
    scores = answer(nets.twin(model)(leaf))[:, target]
    (gradient,) = torch.autograd.grad(scores.sum(), leaf)
    known = (inputs * gradient).flatten(1).sum(1) + sum(contributions(measured(model, inputs, target)).values())
    return ((scores.detach() - known) / scores.detach()).abs()


def lively(model):
    """In float64 and evaluation, with statistics and biases that count."""
    generator = torch.Generator().manual_seed(0)
    model = model.double().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        if getattr(module, "bias", None) is not None:
            module.bias.data.normal_(0, 0.3, generator=generator)
    return model


class Residual(nn.Module):
    """A convolution and its normalization beside each other, added in place, rectified in place; twice."""

    def __init__(self, rank=2):
        super().__init__()
        convolution, norm = nets.CONVOLUTIONS[rank], nets.NORMS[rank]
        self.stem = convolution(3, 6, 3, padding=1)
        self.norm1 = norm(6)
        self.conv2 = convolution(6, 6, 3, padding=1, bias=False)
        self.norm2 = norm(6, affine=False)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, nets.CLASSES)

    def forward(self, x):
        x = self.relu(self.norm1(self.stem(x)))
        y = self.norm2(self.conv2(x))
        y += x
        return self.head(nets.spatial_mean(self.relu(y)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_input_and_biases_account_for_the_whole_score(rank):
    assert gaps(lively(Residual(rank)), nets.images(rank=rank, side=6)).max() < 1e-10


def vgg():
    """torchvision's features under a small head."""
    layers = zoo.vgg.make_layers(zoo.vgg.cfgs["A"])
    return nn.Sequential(
        layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(2048, 32), nn.ReLU(), nn.Linear(32, 5)
    )


def googlenet():
    """With its auxiliary heads."""
    return zoo.googlenet(weights=None, num_classes=5, init_weights=False, aux_logits=True)


NETWORKS = {
    "vgg11": vgg,
    "resnet18": lambda: zoo.resnet18(weights=None, num_classes=5),
    "googlenet": googlenet,
    "dense": nets.Dense,
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_identity_9_also_in_networks_that_people_use(make):
    torch.manual_seed(0)
    assert gaps(lively(make()), nets.images(2, side=32)).max() < 1e-10


def test_trap_r4_auxiliary_heads_neither_come_nor_shift_the_others():
    torch.manual_seed(0)
    model = lively(googlenet())
    found = {each.name: each for each in measured(model, nets.images(2, side=32))}
    assert not any("aux" in name for name in found)
    assert len(found) == 58  # 57 normalizations and the head
    kept = {}
    for name, module in model.named_modules():
        if name in found:
            module.register_forward_hook(lambda _, __, out, name=name: kept.update({name: out}) or out.clone())
    score = model(nets.images(2, side=32))[:, SCORED].sum()
    expected = torch.autograd.grad(score, [*kept.values()])
    for name, gradient in zip(kept, expected, strict=True):
        torch.testing.assert_close(found[name].gradients, gradient)


def test_auxiliary_heads_that_run_beside_the_score_do_not_come():
    assert {each.name for each in measured(nets.fixed(nets.Beside()), nets.images())} == {"conv1", "conv2", "head"}


def test_each_bias_comes_with_its_own_module_and_gradient():
    model, inputs = lively(Residual()), nets.images()
    found = {each.name: each for each in measured(model, inputs)}
    assert list(found) == ["stem", "norm1", "norm2", "head"]
    deviation = (model.norm1.running_var + model.norm1.eps).sqrt()
    expected = model.norm1.bias - model.norm1.running_mean * model.norm1.weight / deviation
    torch.testing.assert_close(found["norm1"].bias, expected.detach())
    plain = -model.norm2.running_mean / (model.norm2.running_var + model.norm2.eps).sqrt()
    torch.testing.assert_close(found["norm2"].bias, plain)
    torch.testing.assert_close(found["stem"].bias, model.stem.bias.detach())
    # a bias of each channel is added everywhere, so its own gradient is the sum over places
    model.zero_grad()
    model(inputs)[:, SCORED].sum().backward()
    for name, parameter in (("stem", model.stem.bias), ("norm1", model.norm1.bias), ("head", model.head.bias)):
        gradients = found[name].gradients
        torch.testing.assert_close(gradients.flatten(2).sum(2).sum(0) if gradients.ndim > 2 else gradients.sum(0),
                                   parameter.grad)  # fmt: skip
    assert found["stem"].gradients.shape == (3, 6, 8, 8)
    assert found["head"].gradients.shape == (3, nets.CLASSES)


def test_a_module_called_twice_comes_twice_each_with_its_own_gradient():
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    found = measured(model, inputs)
    assert [each.name for each in found] == ["conv1", "conv2", "conv2", "head"]
    first, second = found[1].gradients, found[2].gradients
    assert not torch.allclose(first, second)
    model(inputs)[:, SCORED].sum().backward()
    torch.testing.assert_close((first + second).flatten(2).sum(2).sum(0), model.conv2.bias.grad)
    assert gaps(model, inputs).max() < 1e-10


class Fused(nn.BatchNorm2d):
    """A normalization with its activation inside, as timm has it."""

    def forward(self, x):
        return F.relu(super().forward(x), inplace=True)


def test_a_normalization_fused_with_its_activation_is_read_before_it():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), Fused(6), nn.Conv2d(6, 4, 3), Fused(4), nn.Flatten(), nn.Linear(64, 5))
    assert gaps(lively(model), nets.images()).max() < 1e-10


class ByFunctions(nn.Module):
    """Weights of its own and no module that is called."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(8, 3, 3, 3)), nn.Parameter(torch.zeros(16))
        self.head = nn.Parameter(torch.zeros(5, 8))

    def forward(self, x):
        x = F.conv2d(x, 2 * self.weight, bias=self.bias[:8]).relu_()
        return F.linear(nets.spatial_mean(x), self.head) + self.bias.new_zeros(5)


def test_functions_count_without_modules_and_a_part_of_a_parameter_has_its_owner():
    model = nets.fixed(nn.Sequential(ByFunctions()))
    (only,) = measured(model, nets.images())
    assert only.name == "0"
    torch.testing.assert_close(only.bias, model[0].bias[:8].detach())
    assert gaps(model, nets.images()).max() < 1e-10


def test_transposed_convolutions_count():
    model = nn.Sequential(nn.ConvTranspose2d(3, 4, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 5))
    assert [each.name for each in measured(nets.fixed(model), nets.images())] == ["0", "3"]
    assert gaps(model, nets.images()).max() < 1e-10


NORMS = {
    "layer": lambda: nn.LayerNorm([6, 8, 8]),
    "group": lambda: nn.GroupNorm(2, 6),
    "instance": lambda: nn.InstanceNorm2d(6, affine=True),
    "instance in training": lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
    "batch in training": lambda: nn.BatchNorm2d(6),
    "batch without statistics": lambda: nn.BatchNorm2d(6, track_running_stats=False),
}


@pytest.mark.filterwarnings("ignore:the model is in training mode")
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_a_normalization_by_the_inputs_own_statistics_adds_its_beta_alone(norm):
    model = nets.fixed(nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), norm(), nn.Flatten(), nn.Linear(384, 5)))
    if getattr(model[1], "track_running_stats", False):
        model[1].train()
        model[1].running_mean.fill_(7.0)
    found = measured(model, nets.images())
    assert [each.name for each in found] == ["0", "1", "3"]
    torch.testing.assert_close(found[1].bias, model[1].bias.detach().flatten())
    expected = torch.autograd.grad(
        model[3](model[2](moved := model[1](model[0](nets.images()))))[:, SCORED].sum(), moved
    )[0]
    value = expected.flatten(1) if found[1].gradients.ndim == 2 else expected
    torch.testing.assert_close(found[1].gradients, value)


def test_an_instance_norm_by_running_statistics_is_a_batch_norm():
    norm = nn.InstanceNorm2d(6, affine=True, track_running_stats=True)
    norm.running_mean.uniform_(0, 1, generator=torch.Generator().manual_seed(0))
    model = nets.fixed(nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(216, 5)))
    assert gaps(model, nets.images()).max() < 1e-10


class Last(nn.Module):
    """Linear layers on channels that come last, as in ConvNeXt."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 7), nn.Linear(7, 5)

    def forward(self, x):
        x = self.linear(self.conv(x).relu().movedim(1, -1)).relu()
        return self.head(x.mean((1, 2)))


def test_channels_last_have_places():
    model, inputs = nets.fixed(Last()), nets.images()[..., :6]
    found = measured(model, inputs)
    assert [tuple(each.gradients.shape) for each in found] == [(3, 6, 8, 6), (3, 7, 8, 6), (3, 5)]
    wanted = (model.head.weight[SCORED] / 48)[None, :, None, None]
    passed = model.linear(model.conv(inputs).relu().movedim(1, -1)).movedim(-1, 1) > 0
    torch.testing.assert_close(found[1].gradients, (wanted * passed).detach())
    assert gaps(model, inputs).max() < 1e-10


class Heads(nn.Module):
    """A linear layer on tokens in groups, of as many axes as an image."""

    def __init__(self):
        super().__init__()
        self.linear, self.head = nn.Linear(4, 7), nn.Linear(7, 5)

    def forward(self, x):
        x = self.linear(x.reshape(len(x), 3, -1, 4)).relu()
        return self.head(x.mean((1, 2)))


def test_axes_that_are_not_the_pictures_have_no_places():
    model = nets.fixed(Heads())
    assert [tuple(each.gradients.shape) for each in measured(model, nets.images())] == [(3, 7), (3, 5)]
    assert gaps(model, nets.images()).max() < 1e-10


def test_a_series_of_tokens_has_no_places():
    model = nets.fixed(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)))
    inputs = nets.images(rank=1)
    assert [tuple(each.gradients.shape) for each in measured(model, inputs)] == [(3, 8), (3, 5)]
    assert gaps(model, inputs).max() < 1e-10


def test_tokens_have_no_places_and_count_all_the_same():
    model, inputs = nets.fixed(nets.Tokens()), nets.images()
    found = measured(model, inputs)
    shapes = {each.name: tuple(each.gradients.shape) for each in found}
    assert shapes["embed"] == (3, 8, 4, 4)
    assert shapes["blocks.0.talk"] == (3, 17)
    assert shapes["blocks.0.think"] == (3, 8)
    model.cls.data.zero_()  # which is a constant of another kind
    assert gaps(model, inputs).max() < 1e-10


class Windows(nn.Module):
    """Four windows of each image are rows of their own, in an order where samples do not stay together."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.inside = nn.Conv2d(4, 4, 3, padding=1)
        self.think = nn.Linear(4, 4)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        n = len(x)
        x = self.stem(x).relu().reshape(n, 4, 2, 4, 2, 4).permute(2, 4, 0, 1, 3, 5).reshape(4 * n, 4, 4, 4)
        x = self.inside(x).relu().flatten(2).mT
        return self.head(self.think(x).relu().mean(1).reshape(4, n, 4).mean(0))


@pytest.mark.parametrize("samples", [1, 3])
def test_rows_that_are_no_samples_are_counted_for_theirs(samples):
    model, inputs = nets.fixed(Windows()), nets.images(samples)
    found = measured(model, inputs)
    assert [tuple(each.gradients.shape[1:]) for each in found] == [(4, 8, 8), (4,), (4,), (5,)]
    assert gaps(model, inputs).max() < 1e-10
    for n in range(samples):
        alone = contributions(measured(model, inputs[n : n + 1]))
        for number, value in contributions(found).items():
            torch.testing.assert_close(value[n : n + 1], alone[number])


@pytest.mark.parametrize("backwards", [False, True])
def test_parts_of_a_batch_are_counted_for_their_samples(backwards):
    model, inputs = nets.fixed(nets.Parts(2, backwards=backwards)), nets.images(5)
    assert gaps(model, inputs).max() < 1e-10
    for one, other in zip(measured(model, inputs), measured(nets.plain(), inputs), strict=True):
        assert one.name == other.name
        torch.testing.assert_close(one.gradients, other.gradients)


def test_a_batch_is_its_samples():
    model, inputs = lively(Residual()), nets.images()
    together = measured(model, inputs, [0, 3, 1])
    for n, target in enumerate([0, 3, 1]):
        for whole, alone in zip(together, measured(model, inputs[n : n + 1], target), strict=True):
            torch.testing.assert_close(whole.gradients[n : n + 1], alone.gradients)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("make", [nets.plain, lambda **o: nets.frozen(nets.plain(**o))], ids=["trainable", "frozen"])
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_network_is_left_as_it_was(inplace, make, around):
    model, inputs = make(inplace=inplace), nets.images().requires_grad_()
    expected = measured(nets.plain(), inputs.detach())
    bound = resolve(SCORED, model(inputs).detach())
    before, given = nets.state(model), inputs.detach().clone()
    with around():
        found = bias_gradients(model, inputs, bound, None)
    assert nets.differences(before, nets.state(model)) == []
    assert torch.equal(inputs, given)
    assert inputs.grad is None
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.gradients, other.gradients)
        assert not one.gradients.requires_grad
        assert not one.bias.requires_grad
        assert not one.gradients.is_inference()


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_a_network_in_training_mode_is_left_in_it():
    model = nets.fixed(nets.Training()).train()
    bound = resolve(SCORED, torch.zeros(3, nets.CLASSES))
    before = nets.state(model)
    found = bias_gradients(model, nets.images(), bound, None)
    assert nets.differences(before, nets.state(model)) == []
    torch.testing.assert_close(found[1].bias, model.bn.bias.detach())


def test_an_exception_leaves_no_trace():
    model = nets.fixed(nets.Raising())
    bound = resolve(SCORED, model(nets.images()).detach())
    before = nets.state(model)
    model.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        bias_gradients(model, nets.images(), bound, None)
    del model.error
    assert nets.differences(before, nets.state(model)) == []
    assert torch.overrides._len_torch_function_stack() == 0


def test_half_precision_is_measured_in_it_and_returned_in_float32():
    model = nets.plain().to(torch.bfloat16)
    found = measured(model, nets.images().to(torch.bfloat16))
    exact = measured(nets.plain(), nets.images())
    for one, other in zip(found, exact, strict=True):
        assert (one.bias.dtype, one.gradients.dtype) == (torch.float32, torch.float32)
        torch.testing.assert_close(one.gradients.double(), other.gradients, rtol=0.1, atol=0.05)


def test_the_callers_autocast_counts():
    model, inputs = nets.plain().float(), nets.images().float()
    with torch.autocast("cpu", torch.bfloat16):
        found = measured(model, inputs)
        kept = []
        hook = model.conv2.register_forward_hook(lambda _, __, output: kept.append(output))
        (expected,) = torch.autograd.grad(model(inputs)[:, SCORED].float().sum(), kept)
        hook.remove()
    assert expected.dtype == torch.bfloat16
    assert torch.equal(found[1].gradients, expected.float())
    assert not torch.equal(found[1].gradients, measured(model, inputs)[1].gradients)


def test_compiled_networks_are_measured_like_plain_ones():
    plain, inputs = nets.plain(), nets.images()
    bound = resolve(SCORED, plain(inputs).detach())
    for compiled in (torch.compile(nets.plain(), backend="eager"), nets.plain()):
        if not hasattr(compiled, "_orig_mod"):
            compiled.conv2.compile(backend="eager")
        compiled(inputs)
        for one, other in zip(bias_gradients(compiled, inputs, bound, None), measured(plain, inputs), strict=True):
            torch.testing.assert_close(one.gradients, other.gradients)
            assert one.name == other.name


class Wrapped(nets.Plain):
    """Turns gradients off for the whole of its forward."""

    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class Writing(nets.Plain):
    """Writes to what it is given, and back."""

    def forward(self, x):
        x += 1
        x.sub_(1)
        return super().forward(x)


NETWORKS_ALIKE = {
    "gradients off": Wrapped,
    "gradients off inside": nets.InnerNoGrad,
    "checkpointed": nets.Checkpointed,
    "checkpointed as a whole": lambda: nets.Checkpointed(whole=True),
    "writing": Writing,
}


@pytest.mark.parametrize("make", NETWORKS_ALIKE.values(), ids=NETWORKS_ALIKE)
@pytest.mark.parametrize("prepare", [lambda model: model, nets.frozen], ids=["trainable", "frozen"])
def test_gradients_turned_off_checkpointing_and_writing_make_no_difference(make, prepare):
    model, inputs = prepare(nets.fixed(make())), nets.images()
    for one, other in zip(measured(model, inputs), measured(nets.plain(), inputs), strict=True):
        torch.testing.assert_close(one.gradients, other.gradients)


def test_reentrant_checkpointing_is_refused_with_what_to_do():
    class Reentrant(nets.Plain):
        def forward(self, x):
            return self.head(
                nets.spatial_mean(checkpoint(self.features, self.conv1.bias.sum() + x, use_reentrant=True))
            )

    model = nets.fixed(Reentrant())
    with pytest.raises(whycam.WhycamError, match="use_reentrant=False"):
        bias_gradients(model, nets.images(), resolve(SCORED, torch.zeros(3, 5)), None)


def test_inference_mode_inside_is_refused_with_what_to_do():
    class Inferring(nets.Plain):
        def features(self, x):
            with torch.inference_mode():
                return super().features(x)

    with pytest.raises(whycam.WhycamError, match=r"use torch\.no_grad"):
        bias_gradients(nets.fixed(Inferring()), nets.images(), resolve(SCORED, torch.zeros(3, 5)), None)


def test_a_part_of_the_output_can_be_explained():
    model, inputs = nets.fixed(nets.TwoHeads()), nets.images()
    outputs = model(inputs)
    for part, head in (("logits", "head"), ("auxiliary", "other")):
        found = bias_gradients(model, inputs, resolve(SCORED, outputs[part].detach()), part)
        assert [each.name for each in found] == ["conv1", "conv2", head]


def test_several_inputs_and_inputs_by_name():
    model, inputs = nets.fixed(nets.TwoInputs()), nets.images()
    numbers = torch.ones(3, 2, dtype=torch.float64)
    bound = resolve(SCORED, model(numbers, inputs).detach())
    by_place = bias_gradients(model, (numbers, inputs), bound, None)
    by_name = bias_gradients(model, {"picture": inputs, "numbers": numbers}, bound, None)
    assert {each.name for each in by_place} == {"conv1", "conv2", "head", "numbers"}
    for one, other in zip(by_place, by_name, strict=True):
        assert torch.equal(one.gradients, other.gradients)


def test_a_bias_that_the_target_adds_counts():
    model, inputs = nets.plain(), nets.images()
    bias = torch.tensor([2.0], dtype=torch.float64)
    weight = torch.ones(1, 5, dtype=torch.float64)
    bound = resolve(lambda output: F.linear(output, weight, bias)[:, 0], model(inputs).detach())
    *_, last = bias_gradients(model, inputs, bound, None)
    assert (last.name, last.bias.item()) == ("", 2.0)
    assert last.gradients.eq(1).all()


def test_a_target_that_reads_nothing_has_no_biases():
    model, inputs = nets.plain(), nets.images()
    bound = resolve(lambda output: output.new_zeros(len(output)), model(inputs).detach())
    assert bias_gradients(model, inputs, bound, None) == []


def test_other_threads_calls_are_not_measured():
    from concurrent.futures import ThreadPoolExecutor

    class Asking(nets.Plain):
        def features(self, x):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(nets.plain(), nets.images(2)).result()
            return super().features(x)

    assert len(measured(nets.fixed(Asking()), nets.images())) == 3
