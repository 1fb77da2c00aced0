"""The session object: the answers of the functions, what it notices of a changed network, what a call costs."""

import inspect
import subprocess
import sys
import threading

import nets
import pytest
import torch
from torch import nn

import whycam
from whycam.network.model_tree import ModelTree, tree_of, working_with

#: Calls beyond a plain forward: of a repeated `Explainer.explain`, and of `whycam.explain` on a network of 150 modules.
AGAIN, ONCE = 745, 2_600


@pytest.fixture
def model():
    return nets.plain()


def by_autograd(model, inputs, target):
    """Grad-CAM at the last activation's input side, by plain autograd."""
    kept = []
    handle = model.conv2.register_forward_hook(lambda *args: kept.append(args[2]))
    output = model(inputs)
    handle.remove()
    (gradient,) = torch.autograd.grad(output[:, target].sum(), kept[0])
    weights = gradient.flatten(2).mean(2)[:, :, None, None]
    return (weights * kept[0]).sum(1).relu().detach().float()


def test_it_gives_the_values_of_the_paper_call_after_call(model):
    explainer = whycam.Explainer(model)
    for seed in range(3):
        inputs = nets.images(seed=seed) if "seed" in inspect.signature(nets.images).parameters else nets.images()
        inputs = inputs + seed
        torch.testing.assert_close(
            explainer.explain(inputs, target=1, layer="conv2").maps, by_autograd(model, inputs, 1)
        )


def test_the_functions_are_its_methods(model):
    inputs = nets.images()
    explainer = whycam.Explainer(model)
    assert torch.equal(explainer.explain(inputs, "layer_cam").maps, whycam.explain(model, inputs, "layer_cam").maps)
    here, there = explainer.compare(inputs, ["grad_cam"]), whycam.compare(model, inputs, ["grad_cam"])
    assert list(here) == list(there)
    assert explainer.layers(inputs) == whycam.layers(model, inputs)
    assert [each.name for each in explainer.cost(inputs, ["grad_cam"])] == ["grad_cam"]
    assert explainer.doctor(inputs).layer == whycam.doctor(model, inputs).layer
    assert explainer.model.module is model


@pytest.mark.parametrize(
    ("function", "method"),
    [("explain", "explain"), ("compare", "compare"), ("layers", "layers"), ("doctor", "doctor"),
     ("estimate_cost", "cost")],
)  # fmt: skip
def test_the_functions_take_the_parameters_of_the_methods(function, method):
    shown = [*inspect.signature(getattr(whycam, function)).parameters]
    own = [*inspect.signature(getattr(whycam.Explainer, method)).parameters][1:]
    assert shown[0] == "model"
    assert [name for name in shown if name not in ("model", "preprocess", "labels")] == own
    assert {"preprocess", "labels"} <= set(shown)


def _new_weights(model):
    with torch.no_grad():
        model.conv2.weight.mul_(-2)


def _new_parameter(model):
    model.conv2.weight = nn.Parameter(-model.conv2.weight.detach())


def _new_module(model):
    model.conv2 = nn.Conv2d(6, 8, 3, 2, 1, dtype=torch.float64)


def _training(model):
    model.train()


def _new_state(model):
    model.load_state_dict({name: value * 1.5 for name, value in model.state_dict().items()})


@pytest.mark.parametrize("change", [_new_weights, _new_parameter, _new_module, _training, _new_state])
def test_a_network_that_changed_between_calls_is_noticed(model, change):
    inputs = nets.images()
    explainer = whycam.Explainer(model)
    explainer.explain(inputs, target=1, layer="conv2")
    change(model)
    torch.testing.assert_close(explainer.explain(inputs, target=1, layer="conv2").maps, by_autograd(model, inputs, 1))


@pytest.mark.parametrize(
    "change", [_new_parameter, _new_module, _training, lambda model: model.conv1.register_forward_pre_hook(print)]
)
def test_a_walk_knows_what_it_depends_on(model, change):
    tree = ModelTree(model)
    assert tree.unchanged()
    change(model)
    assert not tree.unchanged()


def test_a_walk_is_that_of_torch(model):
    for each in (model, nn.Sequential(model, model), nn.Sequential()):
        tree = ModelTree(each)
        assert list(zip(tree.names, tree.modules, strict=True)) == list(each.named_modules())
        assert tree.parameters == list(each.parameters()) or len(tree.parameters) == len(list(each.parameters()))


def test_a_walk_serves_its_own_network_on_its_own_thread(model):
    tree = ModelTree(model)
    found = []
    with working_with(tree):
        assert tree_of(model) is tree
        assert tree_of(model.conv1) is not tree
        thread = threading.Thread(target=lambda: found.append(tree_of(model)))
        thread.start()
        thread.join()
    assert found[0] is not tree
    assert tree_of(model) is not tree


class Turning(nn.Module):
    """A network that a plain attribute turns: which layer is chosen depends on it."""

    def __init__(self):
        super().__init__()
        self.early, self.late, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
        self.whole = True

    def forward(self, inputs):
        features = self.early(inputs)
        features = self.late(features) if self.whole else features
        return self.head(features.mean((2, 3)))


def test_what_no_module_shows_is_forgotten_when_asked():
    model, inputs = nets.fixed(Turning()).double(), nets.images()
    explainer = whycam.Explainer(model)
    assert explainer.explain(inputs, target=1).layer.name == "late"
    model.whole = False
    with pytest.raises(whycam.LayerNotFound, match="did not run"):
        explainer.explain(inputs, target=1)
    explainer.refresh()
    assert explainer.explain(inputs, target=1).layer.name == "early"


def test_threads_may_share_one(model):
    inputs = [nets.images() + number for number in range(4)]
    explainer = whycam.Explainer(model)
    expected = [by_autograd(model, each, 1) for each in inputs]
    wrong = []

    def ask(number):
        for _ in range(10):
            made = explainer.explain(inputs[number], target=1, layer="conv2").maps
            if not torch.allclose(made, expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


COUNTING = """
import sys, torch, whycam
from torch import nn

class Deep(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        block = lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.blocks = nn.Sequential(*[block() for _ in range(blocks)])
        self.head = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.head(self.blocks(self.stem(inputs)).mean((2, 3)))

def calls(run):
    counted = 0
    def count(_frame, event, _arg):
        nonlocal counted
        counted += event in ("call", "c_call")
    run()
    sys.setprofile(count)
    run()
    sys.setprofile(None)
    return counted

def plainly():
    with torch.no_grad():
        model(inputs)

torch.manual_seed(0)  # an answer whose numbers are all positive is looked at closer
for blocks in (37, 2):
    model, inputs = Deep(blocks).eval(), torch.randn(1, 3, 8, 8)
    explainer = whycam.Explainer(model)
    plain = calls(plainly)
    print(calls(lambda: explainer.explain(inputs, target=1, layer="blocks")) - plain)
    print(calls(lambda: whycam.explain(model, inputs, target=1, layer="blocks")) - plain)
"""


def test_what_a_call_costs_in_python_calls_beyond_the_plain_forward():
    """Without the types that tests check at run time. A walk is about four calls a module, once for an Explainer."""
    done = subprocess.run([sys.executable, "-c", COUNTING], capture_output=True, text=True, check=True)
    again, once, again_shallow, once_shallow = map(int, done.stdout.split())
    assert again <= AGAIN
    assert once <= ONCE
    assert abs(again - again_shallow) < 10
    assert once - once_shallow < 6 * 35 * 4
