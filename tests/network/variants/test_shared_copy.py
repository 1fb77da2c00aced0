"""A twin computes the same on the same memory, and nothing that is done to it reaches the model."""

import copy
import threading
from collections import OrderedDict

import nets
import numpy as np
import pytest
import torch
import torch.nn.utils.prune
import torchvision_shim
from torch import nn
from torch.nn.utils import parametrizations

import whycam
from whycam import WhycamError
from whycam.network.hooks import watching
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


def test_a_recording_elsewhere_is_not_taken_over():
    model, inputs, seen = nets.plain(), nets.images(), []
    with watching(model.conv1, "output", lambda value, given: seen.append(value)):
        made = twin(model)
    made(inputs)
    assert not seen
    assert not made.conv1._forward_hooks


def test_a_hook_put_on_meanwhile_only_delays_it(monkeypatch):
    model, copied, tries = nets.plain(), copy.deepcopy, []

    def disturbed(value, memo):
        tries.append(value)
        if sum(each is model for each in tries) < 3 and value is model:
            raise RuntimeError("OrderedDict mutated during iteration")
        return copied(value, memo)

    monkeypatch.setattr(home.copy, "deepcopy", disturbed)
    assert torch.equal(twin(model)(nets.images()), model(nets.images()))
    assert sum(each is model for each in tries) == 3
    tries[:] = []
    monkeypatch.setattr(home.copy, "deepcopy", lambda *_: disturbed(model, tries.clear()))
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


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_part_computes_the_same():
    inputs = torch.randn(2, 4)
    model = nn.Sequential(torch.jit.trace(nn.Linear(4, 4), inputs), nn.Linear(4, 4))
    assert torch.equal(twin(model)(inputs), model(inputs))


def test_locks_and_libraries_are_shared():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.lock, self.locks, self.functional = threading.Lock(), [threading.RLock()], nn.functional

        def forward(self, x):
            with self.lock, self.locks[0]:
                return self.functional.relu(x)

    model = Model()
    made = check(model, torch.ones(2))
    assert made.lock is model.lock


def test_what_cannot_be_copied_is_said(tmp_path):
    model = nn.Sequential(nets.plain())
    with (tmp_path / "log").open("w") as file:
        model[0].log = file
        with pytest.raises(
            WhycamError, match=r"copy of this Sequential can be made: cannot pickle '_io.TextIOWrapper'"
        ):
            twin(model)


def test_a_function_that_leads_to_the_model_is_found_out_and_whole_forwards_run():
    class Closed(nn.Module):
        def __init__(self):
            super().__init__()
            net = self.net = nets.plain()
            self.run = lambda x: net(x)

        def forward(self, x):
            return self.run(x)

    model, inputs = Closed(), nets.images()
    found = whycam.explain(model, inputs, "ablation_cam", target=1, layer="net.relu1")
    expected = whycam.explain(model.net, inputs, "ablation_cam", target=1, layer="relu1")
    assert "0 times" in found.work[0].fallback
    assert not expected.work[0].fallback
    torch.testing.assert_close(found.maps, expected.maps)


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


def test_a_hook_that_comes_while_the_copy_is_made_stays_the_models_own(monkeypatch):
    """Tables of hooks that were empty when they were looked at must not be shared once they are not."""
    model, blocks = nets.plain(), []
    usual = home._is_usual

    def late(kind):
        if not blocks:
            blocks.append(watching(model.conv1, "output", lambda value, given: None))
            blocks[0].__enter__()
        return usual(kind)

    monkeypatch.setattr(home, "_is_usual", late)
    made = twin(model)
    assert len(model.conv1._forward_hooks) == 1
    assert made.conv1._forward_hooks is not model.conv1._forward_hooks
    blocks[0].__exit__()
