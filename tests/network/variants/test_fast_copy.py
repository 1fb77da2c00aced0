"""A fast copy answers as the network does, and the network is left alone."""

from typing import NamedTuple

import nets
import pytest
import torch
import torch.nn.functional as F
import torchvision_shim
from torch import nn
from torch.nn.utils import parametrizations

from whycam import WhycamError
from whycam.network.hooks import call, watching
from whycam.network.memory import peak_bytes
from whycam.network.variants import fast_copy as fast
from whycam.network.variants.fast_copy import prepare


def drawn(model: nn.Module) -> nn.Module:
    """Every number of its normalizations other than the one that does nothing."""
    nets.fixed(model)
    generator = torch.Generator().manual_seed(5)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.3, 3, generator=generator)
    return model.float()


def images(samples=3, rank=2):
    return nets.images(samples, rank).float()


def check(model, folded, inputs=None, **options):
    """The copy answers as the model, so many normalizations are folded, and the model is not changed."""
    inputs = images() if inputs is None else inputs
    before = nets.state(model)
    with torch.no_grad():
        expected = call(model, inputs)
    made = prepare(model, inputs, precision="float32", **options)
    assert nets.differences(before, nets.state(model)) == []
    assert made.folded == folded
    mine = {each.data_ptr() for each in (*made.module.parameters(), *made.module.buffers())}
    assert not mine & {each.data_ptr() for each in (*model.parameters(), *model.buffers())}
    assert not any(each.requires_grad for each in made.module.parameters())
    with torch.no_grad():
        torch.testing.assert_close(call(made.module, inputs), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(call(model, inputs), expected, rtol=0, atol=0)
    return made


class Block(nn.Module):
    """Two convolutions with their normalizations."""

    def __init__(self, rank=2, bias=False, affine=True):
        super().__init__()
        convolution, norm = nets.CONVOLUTIONS[rank], nets.NORMS[rank]
        self.conv1, self.bn1 = convolution(3, 6, 3, padding=1, bias=bias), norm(6, affine=affine)
        self.conv2, self.bn2 = convolution(6, 6, 3, padding=1, groups=3), norm(6)

    def forward(self, x):
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_folded(rank, bias, affine):
    made = check(drawn(Block(rank, bias, affine)), 2, images(rank=rank))
    assert made.channels_last is (rank == 2)
    assert made.said == "float32, 2 normalizations folded" + ", channels last" * (rank == 2)
    x = images(1, rank)
    assert made.module.bn1(x) is x


def test_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, eps=0.0)).eval()
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
        model[0].bias[:] = torch.tensor([4.0, 5.0])
        model[1].running_mean[:] = torch.tensor([1.0, 2.0])
        model[1].running_var[:] = torch.tensor([4.0, 9.0])
        model[1].weight[:] = torch.tensor([10.0, 1.0])
        model[1].bias[:] = torch.tensor([0.5, 0.0])
    made = prepare(model, torch.randn(1, 1, 2, 2), precision="float32")
    assert made.module[0].weight.flatten().tolist() == [5.0, 1.0]
    assert made.module[0].bias.tolist() == [15.5, 1.0]
    assert made.said == "float32, 1 normalization folded"


class Other(Block):
    """A block with one thing about its first pair that stands in the way of folding it."""

    def __init__(self, way):
        super().__init__()
        self.way, self.pool = way, nn.AvgPool2d(1)
        if way == "norm shared":
            self.bn2 = self.bn1
        if way == "convolution under two names":
            self.again = self.conv1
        if way == "weights tied":
            self.conv1 = nn.Conv2d(3, 3, 3, padding=1)
            self.tied = nn.Conv2d(3, 3, 3, padding=1)
            self.tied.weight = self.conv1.weight
            self.bn1, self.conv2 = nn.BatchNorm2d(3), nn.Conv2d(3, 6, 1)
        if way == "parametrised":
            parametrizations.weight_norm(self.conv1)
        if way == "patched":
            self.bn1.forward = lambda x: nn.BatchNorm2d.forward(self.bn1, x) * 2
        if way == "batch statistics":
            self.bn1 = nn.BatchNorm2d(6, track_running_stats=False)
        if way == "hooked":
            self.conv1.register_forward_hook(lambda module, args, output: output.clamp(min=0))

    def forward(self, x):
        y = self.conv1(x)
        if self.way == "convolution twice":
            y = self.conv1(x + y.mean())
        if self.way == "norm twice":
            self.bn1(x[:, :1].expand(-1, 6, -1, -1))
        z = self.bn1(y * 2 if self.way == "something between" else y)
        if self.way == "another module":
            z = z + self.pool(y)
        if self.way == "another function":
            z = z + 0.01 * y.square()
        if self.way == "weights tied":
            z = z + self.tied(x)
        z = self.bn2(self.conv2(F.relu(z)))
        return (z, y) if self.way == "returned" else z


@pytest.mark.parametrize(
    ("way", "folded"),
    {
        "none": 2,
        "norm shared": 0,
        "norm twice": 1,
        "convolution under two names": 2,
        "convolution twice": 1,
        "weights tied": 2,
        "parametrised": 1,
        "patched": 0,
        "hooked": 0,
        "something between": 1,
        "another module": 1,
        "another function": 0,  # as those two, found out too late to tell which of them it was
        "returned": 1,
    }.items(),
)
def test_what_is_not_folded(way, folded):
    check(drawn(Other(way)), folded)


def test_statistics_of_the_batch_are_not_folded():
    model = drawn(Other("batch statistics"))
    check(model, 1, images(1))


@pytest.mark.parametrize(
    ("keep", "folded"), [("conv1", 1), ("bn1", 1), ("0", 2), ("1", 1), ("2", 1), ("3", 2), ("", 2)]
)
def test_layers_that_are_kept_give_what_they_gave(keep, folded):
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)

        def forward(self, x):
            return self.bn1(self.conv1(x))

    # 1 ends in a convolution, whose normalization is in 2
    model = nn.Sequential(
        Inner(), nn.Sequential(nn.ReLU(), nn.Conv2d(6, 4, 1)), nn.Sequential(nn.BatchNorm2d(4)), nn.ReLU()
    )
    drawn(model)
    keep = f"0.{keep}" if "n" in keep else keep
    found = {}
    made = check(model, folded, keep=[keep, *({"1", "2"} & {keep})])
    for each, name in ((model, "expected"), (made.module, "found")):
        with torch.no_grad(), watching(each.get_submodule(keep), "output", lambda v, _, n=name: found.setdefault(n, v)):
            each(images())
    torch.testing.assert_close(found["found"], found["expected"], rtol=1e-4, atol=1e-5)


class Standardized(nn.Conv2d):
    def forward(self, x):
        weight = (self.weight - self.weight.mean((1, 2, 3), True)) / self.weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias)


class Padded(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(F.pad(x, [1, 0, 1, 0]), self.weight, self.bias)


class Unbiased(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight)


@pytest.mark.parametrize(("kind", "folded"), [(Standardized, 0), (Padded, 2), (Unbiased, 0)])
def test_convolutions_of_another_class_are_tried(kind, folded):
    model = Block()
    model.conv1 = kind(3, 6, 3, bias=False)
    check(drawn(model), folded)


def test_normalizations_of_timm_keep_their_activation():
    torchvision_shim.register()
    from timm.layers import BatchNormAct2d

    model = drawn(nn.Sequential(nn.Conv2d(3, 6, 3), BatchNormAct2d(6), nn.Conv2d(6, 4, 1), nn.GroupNorm(2, 4)))
    made = check(model, 1)
    assert made.module[1](torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]
    made = check(model, 1, keep=["1.act"])
    assert made.module.get_submodule("1.act")


def test_code_that_reads_the_numbers_of_a_normalization_still_can():
    class Functional(Block):
        def forward(self, x):
            y = F.batch_norm(self.conv1(x), self.bn1.running_mean, self.bn1.running_var)
            return self.bn2(self.conv2(y))

    check(drawn(Functional()), 1)


def test_a_difference_on_noise_alone_undoes_it():
    class Once(Block):
        """Reads what the convolution returned only where the pictures are not one color each."""

        def forward(self, x):
            y = self.conv1(x)
            extra = y.abs().mean() if x.flatten(2).std(2).amin() > 0 else 0
            return self.bn2(self.conv2(F.relu(self.bn1(y) + extra)))

    flat = torch.tensor([0.5, 0.1, 0.9]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8).contiguous()
    assert prepare(drawn(Once()), flat, precision="float32").folded == 0


def test_channels_last_is_undone_where_code_does_not_expect_it():
    class Viewing(Block):
        def forward(self, x):
            return super().forward(x).view(len(x), -1)

    made = check(drawn(Viewing()), 2)
    assert not made.channels_last
    assert made.module.conv1.weight.is_contiguous()
    assert made.said == "float32, 2 normalizations folded"


def test_where_channels_last_pays():
    block = Block()
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert fast._pays(block, cpu, torch.float32)
    assert fast._pays(block, cuda, torch.bfloat16)
    assert not fast._pays(block, cuda, torch.float32)
    assert not fast._pays(block, torch.device("mps"), torch.float16)
    assert not fast._pays(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 4)), cpu, torch.float32)


def test_the_precision_of_the_copy():
    model = drawn(nn.Sequential(nn.BatchNorm2d(3), Block(), nn.Flatten(), nn.Linear(384, 4)))
    model.register_buffer("steps", torch.arange(3))
    inputs = images()
    with torch.no_grad():
        expected = model(inputs)
    made = prepare(model, inputs, precision="bfloat16")
    assert made.precision is torch.bfloat16
    assert made.folded == 2
    assert made.module[1].conv1.weight.dtype is torch.bfloat16
    assert made.module[0].weight.dtype is made.module[0].running_var.dtype is torch.float32
    assert made.module.steps.dtype is torch.int64
    given = made.given(inputs)
    assert inputs.dtype is torch.float32
    with torch.no_grad():
        found = made.module(given)
    assert found.dtype is torch.bfloat16
    assert 0 < (found.float() - expected).abs().amax() < 0.05 * expected.abs().amax()


def test_a_network_of_doubles_becomes_one_of_floats():
    model = nets.plain()
    made = prepare(model, nets.images(), precision="float32")
    assert {each.dtype for each in made.module.parameters()} == {torch.float32}
    with torch.no_grad():
        torch.testing.assert_close(made.module(images()).double(), model(nets.images()), rtol=1e-4, atol=1e-5)


class Named(NamedTuple):
    logits: torch.Tensor


class Keywords(Block):
    def forward(self, pixels, mask):
        return Named(super().forward(pixels) * mask[:, None, None, None])


def test_inputs_by_name_and_answers_in_containers():
    inputs = {"pixels": images(), "mask": torch.tensor([1, 0, 1])}
    made = check(drawn(Keywords()), 2, inputs)
    given = prepare(drawn(Keywords()), inputs, precision="bfloat16").given(inputs)
    assert (given["pixels"].dtype, given["mask"].dtype) == (torch.bfloat16, torch.int64)
    assert made.sample["mask"].tolist() == [1]


def test_a_network_that_takes_whole_batches_only():
    class Three(Block):
        def forward(self, x):
            return super().forward(x).reshape(3, -1) + 0

    check(drawn(Three()), 2)


def test_random_numbers_in_a_forward_do_not_hinder():
    class Noisy(Block):
        def forward(self, x):
            return super().forward(x + torch.rand(()))

    model, inputs = drawn(Noisy()), images()
    state = torch.get_rng_state()
    assert prepare(model, inputs, precision="float32").folded == 2
    assert torch.equal(torch.get_rng_state(), state)


def test_training_mode_is_refused():
    model = drawn(Block())
    model.bn1.train()
    with pytest.raises(WhycamError, match=r"'bn1' is in training mode.*model\.eval\(\)"):
        prepare(model, images(), precision="float32")
    prepare(nets.plain().train(), nets.images(), precision="float32")  # nothing in it acts


def test_a_precision_in_which_it_does_not_run_is_said():
    class Mixed(Block):
        def forward(self, x):
            return super().forward(x) @ torch.ones(8, 8)

    model = drawn(Mixed())
    check(model, 2)
    with pytest.raises(WhycamError, match=r'copy of this network in bfloat16 cannot be run: .*try precision="float32"'):
        prepare(model, images(), precision="bfloat16")

    class Double(Block):
        def forward(self, x):
            return super().forward(x) @ torch.ones(8, 8, dtype=torch.float64)

    with pytest.raises(WhycamError, match=r"in float32 cannot be run: .* the same dtype.* leave out precision="):
        prepare(drawn(Double()), images(), precision="float32")


def test_numbers_too_large_for_half_precision_are_found():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).eval()
    with torch.no_grad():
        model[1].weight.mul_(1e6)
    prepare(model, torch.ones(1, 3), precision="bfloat16")
    with pytest.raises(WhycamError, match=r"in float16 cannot be run: its answer is not finite"):
        prepare(model, torch.ones(1, 3), precision="float16")


def test_recurrent_layers_are_copied():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.rnn = Block(), nn.LSTM(64, 5, batch_first=True)

        def forward(self, x):
            return self.rnn(self.block(x).flatten(2))[0]

    check(drawn(Recurrent()), 2)


@pytest.fixture
def compiler(monkeypatch):
    """In the compiler's place, something that keeps the shapes that it is given."""
    shapes = []

    def compile(module, **options):
        assert options["dynamic"] is False

        def run(*args, **kwargs):
            shapes.append(tuple(args[0].shape) if args else {name: len(value) for name, value in kwargs.items()})
            return module(*args, **kwargs)

        return run

    monkeypatch.setattr(torch, "compile", compile)
    return shapes


def test_compiled_code_is_given_batches_of_one_size(compiler):
    model = drawn(Block())
    made = prepare(model, images(), precision="float32", compile=True)
    assert made.compiled
    assert made.said.endswith(", channels last, compiled")
    assert not compiler
    rows = made.at(4)
    assert compiler == [(4, 3, 8, 8)]
    with torch.no_grad():
        for samples in (3, 1, 4):
            inputs = images(samples)
            torch.testing.assert_close(rows(inputs), model(inputs), rtol=1e-4, atol=1e-5)
    assert set(compiler) == {(4, 3, 8, 8)}


def test_inputs_by_name_are_filled_up_too(compiler):
    inputs = {"pixels": images(), "mask": torch.tensor([1, 0, 1])}
    model = drawn(Keywords())
    rows = prepare(model, inputs, precision="float32", compile=True).at(5)
    with torch.no_grad():
        torch.testing.assert_close(rows(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-5)
    assert compiler[-1] == {"pixels": 5, "mask": 5}


def test_without_compiling_it_is_the_copy_itself(compiler):
    made = prepare(drawn(Block()), images(), precision="float32")
    assert made.at(4) is made.module
    assert not made.compiled
    assert not compiler


def test_what_cannot_be_compiled_is_said(monkeypatch):
    def compile(module, **options):
        def run(*args):
            raise KeyError("no compiler")

        return run

    made = prepare(drawn(Block()), images(), precision="float32", compile=True)
    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(WhycamError, match=r"cannot be compiled \(KeyError: 'no compiler'\); leave out compile="):
        made.at(4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it starts its compiler
def test_compiled_for_real():
    model = drawn(Block())
    made = prepare(model, images(), precision="float32", compile=True)
    rows = made.at(4)
    with torch.no_grad():
        torch.testing.assert_close(rows(images()), model(images()), rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_real_networks_fold_them_all(name):
    torchvision_shim.register()
    import torchvision

    model = getattr(torchvision.models, name)().eval()
    norms = sum(isinstance(each, nn.BatchNorm2d) for each in model.modules())
    check(model, norms, torch.randn(1, 3, 64, 64))


def test_the_builtin_network_folds_them_all():
    import whycam

    model = whycam.load("builtin").module
    norms = sum(isinstance(each, nn.BatchNorm2d) for each in model.modules())
    check(model, norms, torch.randn(1, 3, 224, 224))


def test_preparing_takes_hardly_more_memory_than_a_forward() -> None:
    """What all convolutions returned must not be held at once."""
    pairs = [nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(12)]
    model = nn.Sequential(nn.Conv2d(3, 8, 1), *pairs, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), peak_bytes() as forward:
        model(inputs)
    with peak_bytes() as preparing:
        made = prepare(model, inputs, precision="float32")
    assert made.folded == 12
    weights = sum(each.nbytes for each in model.parameters())
    assert preparing.peak <= 2 * forward.peak + 4 * weights
