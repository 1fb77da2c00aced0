"""A twin computes the same on the same memory, and nothing that is done to it reaches the model."""

import functools
import threading
import types
import weakref
from collections import OrderedDict

import nets
import numpy as np
import pytest
import torch
import torch.nn.utils.prune
import torchvision_shim
from torch import nn
from torch.nn.utils import parametrizations

from whycam import WhycamError
from whycam.network.hooks import watching
from whycam.network.unwrap import is_compiled, unwrapped
from whycam.network.variants import shared_copy as home
from whycam.network.variants.shared_copy import twin


def check(model, inputs):
    """The twin's answer, names and memory are the model's, no module is, and a hook on any of it stays there."""
    made = twin(model)
    names = dict(model.named_modules())
    assert list(names) == list(dict(made.named_modules()))
    assert not {id(each) for each in model.modules()} & {id(each) for each in made.modules()}
    for kind in ("named_parameters", "named_buffers"):
        mine, theirs = (list(getattr(each, kind)(remove_duplicate=False)) for each in (made, model))
        assert [name for name, _ in mine] == [name for name, _ in theirs]
        assert all(one is other for (_, one), (_, other) in zip(mine, theirs, strict=True))
    assert [each.training for each in made.modules()] == [each.training for each in model.modules()]
    with torch.no_grad():
        expected = model(inputs)
        assert torch.equal(made(inputs), expected)
        seen = []
        handles = [each.register_forward_hook(lambda module, *_: seen.append(module)) for each in model.modules()]
        made(inputs)
        assert seen == []
        for handle in handles:
            handle.remove()
    return made


def double_output(module, args, output):
    return output * 2


class Holder(nn.Module):
    """Reaches one module in every way in which Python lets it."""

    def __init__(self):
        super().__init__()
        net = nets.plain()
        self.net, self.listed, self.named, self.tupled = net, [net], {"net": [net]}, (net,)
        self.bound, self.part = net.forward, functools.partial(net.forward)
        self.closure = lambda x: net(x)
        self.default = lambda x, net=net: net(x)
        self.within = functools.partial(self.closure)
        self.object = types.SimpleNamespace(net=net, again=[lambda x: net(x)])
        self.weak = weakref.ref(net)
        self.method = types.MethodType(lambda self, x: self.net(x), self)

    def ways(self):
        yield from (self.net, self.listed[0], self.named["net"][0], self.tupled[0], self.bound, self.part)
        yield from (self.closure, self.default, self.within, self.object.net, self.object.again[0], self.weak())
        yield self.method

    def forward(self, x):
        return torch.stack([way(x) for way in self.ways()])


def test_every_way_to_a_module_leads_to_its_copy():
    model, inputs = Holder(), nets.images()
    made = check(model, inputs)
    expected = model(inputs)
    # hooks do not fire where `forward` is called directly, so something that `forward` calls is replaced
    made.net.head = nn.Sequential(made.net.head, nn.Threshold(9e9, 7.0))
    assert torch.equal(made(inputs), torch.full_like(expected, 7))
    assert torch.equal(model(inputs), expected)


def test_hooks_of_the_users_are_kept_and_act_on_the_copy():
    model, inputs = nets.plain(), nets.images()
    seen = []
    model.conv1.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    model.conv2.register_forward_hook(lambda module, args, kwargs, output: seen.append(module), with_kwargs=True)
    model.relu2.register_forward_hook(double_output)
    made = twin(model)
    assert torch.equal(made(inputs), model(inputs))
    assert seen == [made.conv2, model.conv2]
    made.relu2.register_forward_hook(lambda *_: pytest.fail("a hook of the twin's ran"))
    made.conv1._forward_pre_hooks.clear()
    model(inputs)
    assert len(model.conv1._forward_pre_hooks) == 1


def test_a_hook_that_knows_the_model_knows_the_twin_instead():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.kept = nn.Linear(3, 3), nn.Linear(3, 3), None
            self.first.register_forward_hook(self.keep)
            self.second.register_forward_hook(lambda module, args, output: output + self.kept)

        def keep(self, module, args, output):
            self.kept = output

        def forward(self, x):
            return self.second(self.first(x))

    model = Skip()
    made = check(model, torch.ones(1, 3))
    model.kept = None
    made(torch.zeros(1, 3))
    assert model.kept is None
    assert torch.equal(made.kept, model.first.bias[None])


def test_a_recording_elsewhere_is_not_taken_over():
    model, inputs, seen = nets.plain(), nets.images(), []
    with watching(model.conv1, "output", lambda value, given: seen.append(value)):
        made = twin(model)
    made(inputs)
    assert not seen
    assert not made.conv1._forward_hooks


def test_a_hook_put_on_meanwhile_only_delays_it(monkeypatch):
    model, copied, tries = nets.plain(), home._copied, []

    def disturbed(*args):
        tries.append(args)
        if len(tries) < 3:
            raise RuntimeError("dictionary changed size during iteration")
        return copied(*args)

    monkeypatch.setattr(home, "_copied", disturbed)
    assert torch.equal(twin(model)(nets.images()), model(nets.images()))
    assert len(tries) == 3
    tries[:] = []
    monkeypatch.setattr(home, "_copied", lambda *_: disturbed() if not tries.clear() else None)
    with pytest.raises(WhycamError, match="during iteration"):
        twin(model)


def test_shared_tied_frozen_and_buffers():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
            self.other.weight = self.one.weight
            self.again = self.one
            self.one.bias.requires_grad_(False)
            self.register_buffer("kept", torch.randn(4))
            self.register_buffer("passing", torch.randn(4), persistent=False)
            self.plain, self.array = [torch.randn(4)], np.ones(4)
            self.results = {"non-leaf": (self.one.weight * 2)}

        def forward(self, x):
            x = self.again(self.other(self.one(x))) + self.kept + self.passing + self.plain[0]
            return x @ self.results["non-leaf"] + torch.from_numpy(self.array)

    model = Model().double()
    model.results["non-leaf"] = model.one.weight * 2
    model.plain[0] = model.plain[0].double()
    made = check(model, torch.randn(2, 4, dtype=torch.float64))
    assert made.again is made.one
    assert made.other.weight is made.one.weight
    assert not made.one.bias.requires_grad
    assert list(made.state_dict()) == list(model.state_dict())
    assert made.plain is not model.plain
    made.passing = torch.zeros(4)
    assert model.passing.any()
    model.one.weight.data.mul_(2)  # the memory is shared, later changes too
    assert torch.equal(made.one.weight, model.one.weight)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", ["weight_norm", "old weight_norm", "orthogonal", "old spectral_norm", "pruned", "two"])
def test_weights_that_are_computed(kind):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).eval()
    make = {
        "weight_norm": parametrizations.weight_norm,
        "old weight_norm": torch.nn.utils.weight_norm,
        "orthogonal": parametrizations.orthogonal,
        "old spectral_norm": torch.nn.utils.spectral_norm,
        "pruned": lambda layer: torch.nn.utils.prune.l1_unstructured(layer, "weight", 0.5),
        "two": lambda layer: parametrizations.spectral_norm(parametrizations.weight_norm(layer)),
    }[kind]
    make(model[0])
    inputs = torch.randn(2, 4)
    made = check(model, inputs)
    before = model(inputs)
    with torch.no_grad():
        assert torch.equal(made(inputs), before)  # anew, after a pass of the model
    assert model(inputs).requires_grad  # the twin's pass has not put its own weight on the model
    assert type(made[0]) is type(model[0])
    made[0] = nn.Identity()
    assert torch.equal(model(inputs), before)


@pytest.fixture
def _forget():
    yield
    torch._dynamo.reset()


def compiled(form, backend):
    part = nn.Sequential(nets.plain(), nn.Softmax(1))
    if form == "wrapped":
        part[0] = torch.compile(part[0], backend=backend)
    elif form == "inside":
        part[0].compile(backend=backend)
    else:
        part[0].forward = torch.compile(part[0].forward, backend=backend)
    return part


@pytest.mark.usefixtures("_forget")
@pytest.mark.parametrize("form", ["wrapped", "inside", "forward"])
def test_compiled_modules_are_eager_in_the_twin(form):
    runs = []

    def backend(graph, _):
        return lambda *args: runs.append(0) or graph(*args)

    model, inputs = compiled(form, backend), nets.images()
    with torch.no_grad():
        model(inputs)
        assert runs
        runs.clear()
        made = twin(model)
        assert list(dict(made.named_modules())) == list(dict(model.named_modules()))
        expected = nn.Sequential(nets.plain(), nn.Softmax(1))(inputs)
        assert torch.equal(made(inputs), expected)
        assert not runs
        unwrapped(made[0]).head.register_forward_hook(double_output)
        assert not torch.equal(made(inputs), expected)
        model(inputs)
        assert runs
    assert made[0].conv1.stride == (1, 1)  # through the wrapper
    assert not any(is_compiled(each) for each in made.modules() if each is not made[0])
    assert type(made[0]) is not type(model[0]) or form != "wrapped"


@pytest.mark.usefixtures("_forget")
def test_compiled_modules_with_computed_weights_are_eager_too():
    model = parametrizations.weight_norm(nn.Linear(4, 4))
    model.compile(backend="eager")
    assert not is_compiled(twin(model))
    assert is_compiled(model)


@pytest.mark.usefixtures("_forget")
def test_wrappers_keep_names_hooks_and_mode():
    for model in (torch.compile(nets.plain(), backend="eager"), nn.DataParallel(nets.plain())):
        model.eval().register_forward_hook(double_output)
        made = check(model, nets.images())
        assert made(nets.images()).ne(next(made.children())(nets.images())).any()
        with pytest.raises(AttributeError, match="nothing"):
            _ = made.nothing


def test_graphs_of_functions():
    inner = nets.plain()
    inner.register_buffer("shift", torch.ones(1, dtype=torch.float64), persistent=False)
    inner.forward = types.MethodType(lambda self, x: nets.Plain.forward(self, x) + self.shift, inner)
    model = torch.fx.symbolic_trace(inner)
    model.relu2.register_forward_hook(double_output)
    model.register_forward_hook(lambda module, args, output: output + 1)
    model._non_persistent_buffers_set.add("shift")
    made = check(model, nets.images())
    assert list(made.state_dict()) == list(model.state_dict())
    made.conv1 = nn.Identity()
    assert isinstance(model.conv1, nn.Conv2d)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of torch.export itself
def test_an_exported_program_unflattened():
    inputs = nets.images()
    model = torch.export.unflatten(torch.export.export(nets.plain(), (inputs,)))
    made = twin(model)
    assert torch.equal(made(inputs), model(inputs))
    made.relu2.register_forward_hook(double_output)
    assert not torch.equal(made(inputs), model(inputs))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_part_computes_the_same():
    inputs = torch.randn(2, 4)
    model = nn.Sequential(torch.jit.trace(nn.Linear(4, 4), inputs), nn.Linear(4, 4))
    assert torch.equal(twin(model)(inputs), model(inputs))


def test_locks_are_shared_and_generators_draw_the_same_without_being_used_up():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.lock, self.locks, self.again = threading.Lock(), [threading.RLock()], threading.Condition()
            self.generator = torch.Generator().manual_seed(1)
            self.functional = nn.functional

        def forward(self, x):
            with self.lock, self.locks[0], self.again:
                return self.functional.relu(x) + torch.rand(2, generator=self.generator)

    model = Model()
    made = twin(model)
    assert made.lock is model.lock
    drawn = made(torch.zeros(2))
    assert torch.equal(model(torch.zeros(2)), drawn)


def test_what_cannot_be_copied_is_named(tmp_path):
    model = nn.Sequential(nets.plain())
    with (tmp_path / "log").open("w") as file:
        model[0].log = file
        with pytest.raises(WhycamError, match=r"copy of this Sequential.*its 0\.log is a TextIOWrapper that cannot"):
            twin(model)
        del model[0].log
        model.register_forward_hook(functools.partial(lambda file, *_: None, file))
        with pytest.raises(WhycamError, match=r"its _forward_hooks is a OrderedDict"):
            twin(model)
    model = nn.Sequential(nets.plain())
    model[0].steps = (number for number in range(3))
    with pytest.raises(WhycamError, match=r"its 0\.steps is a generator that"):
        twin(model)
    assert list(model[0].steps) == [0, 1, 2]


def test_a_class_that_copies_wrongly_is_found_out():
    class Stubborn:
        def __init__(self, net):
            self.net = net

        def __deepcopy__(self, memo):
            return self

    model = nets.plain()
    model.helper = Stubborn(model.conv1)
    with pytest.raises(WhycamError, match=r"still refers to the model's own 'conv1'"):
        twin(model)
    model.helper = Stubborn(model)
    with pytest.raises(WhycamError, match=r"the model's own 'whole'"):
        twin(model)

    class Broken(nn.Module):
        def __deepcopy__(self, memo):
            raise KeyError("never")

    with pytest.raises(WhycamError, match=r"copy of this Sequential.*never"):
        twin(nn.Sequential(Broken()))


def test_subclasses_of_containers_and_slots():
    class Slotted:
        __slots__ = ("net",)

    model = nets.plain()
    model.table = OrderedDict(relu=model.relu1)
    model.slotted = Slotted()
    model.slotted.net = model.conv2
    made = check(model, nets.images())
    assert made.table["relu"] is made.relu1
    assert made.slotted.net is made.conv2


NETWORKS = {
    "torchvision": lambda: __import__("torchvision").models.mobilenet_v2(),
    "timm": lambda: __import__("timm").create_model("swin_tiny_patch4_window7_224"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks(name):
    torchvision_shim.register()
    check(NETWORKS[name]().eval(), torch.randn(1, 3, 224, 224))


def test_a_network_of_transformers():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, image_size=16, patch_size=4
    )
    model = ViTForImageClassification(config).eval()
    made = twin(model)
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(made(x).logits, model(x).logits)
    assert all(one is other for one, other in zip(made.parameters(), model.parameters(), strict=True))
