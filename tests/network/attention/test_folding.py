"""What is folded, when, and what it costs: counts of passes, and memory."""

import subprocess
import sys

import pytest
import torch
from small_vit import by_hand, pictures, small_vit

import whycam
from whycam.kit.registry import declare


@pytest.fixture
def model():
    return small_vit(blocks=3)


@pytest.fixture
def x(model):
    return pictures(model)


NAMES = {
    "attention": "A", "attention_gradients": "dA", "queries": "q", "keys": "k", "values": "v", "head_outputs": "o",
    "head_output_gradients": "do",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("block", [0, 2])
def test_each_quantity_is_that_of_the_layers_block(name, block, model, x):
    seen = []

    def probe(tensor, token_grid):
        seen.append(tensor)
        return token_grid(tensor.sum((1, 2))[:, :1].expand(-1, 13))

    source = f"lambda {name}, token_grid: probe({name}, token_grid)"
    whycam.explain(model, x, eval(source, {"probe": probe}), target=3 if "gradients" in name else None,
                   layer=f"blocks.{block}")  # fmt: skip
    torch.testing.assert_close(seen[0], getattr(by_hand(model, x, 3), NAMES[name])[block], rtol=1e-9, atol=1e-12)


def test_identities_of_any_captured_attention(model, x):
    """dA = dO v^T, and for every query the sum of A dA over the keys is o . dO."""
    found = {}

    def probe(attention, attention_gradients, head_outputs, head_output_gradients, values, token_grid):
        found.update(locals())
        return token_grid(attention[:, 0, 0])

    whycam.explain(model, x, probe, target=3)
    gradients = found["head_output_gradients"] @ found["values"].mT
    assert torch.equal(found["attention_gradients"], gradients)
    torch.testing.assert_close(
        (found["attention"] * found["attention_gradients"]).sum(-1),
        (found["head_outputs"] * found["head_output_gradients"]).sum(-1),
        rtol=1e-12,
        atol=1e-15,
    )


def known(model, x, *names, **more):
    """The cost once what is known of a network is known."""
    whycam.compare(model, x, [*names], **more)
    cost = whycam.compare(model, x, [*names], **more).cost
    return cost.forwards, cost.backwards


def test_rollout_takes_a_forward_and_no_graph(model, x):
    assert known(model, x, "attention_rollout") == (1, 0)
    graphs = []
    model.norm.register_forward_hook(lambda module, given, output: graphs.append(output.requires_grad))
    whycam.explain(model, x, "attention_rollout")
    assert graphs[-1] is False


@pytest.mark.parametrize("method", ["generic_attention", "grad_rollout", "grad_eclip"])
def test_n_targets_take_a_forward_and_n_backwards(method, model, x):
    assert known(model, x, method, targets=[0, 1, 2, 3]) == (1, 4)


def test_all_methods_that_read_the_score_share_a_pass(model, x):
    assert known(model, x, "generic_attention", "grad_rollout", "grad_eclip", "attention_rollout", "grad_cam") == (1, 1)


def test_no_graph_before_the_first_attention(model, x):
    graphs = []
    model.patches.register_forward_hook(lambda module, given, output: graphs.append(output.requires_grad))
    whycam.explain(model, x, "generic_attention", target=1)
    whycam.explain(model, x, "generic_attention", target=1)
    assert graphs[-1] is False


def test_the_networks_answer_is_its_own_to_the_bit(model, x):
    with torch.no_grad():
        expected = model(x)
    assert torch.equal(whycam.explain(model, x, "generic_attention", target=1).outputs, expected)


_GROWTH = """
import resource, sys, torch
from torch import nn
import torch.nn.functional as F
import whycam
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(256), nn.Linear(256, 768), nn.Linear(256, 256)
    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 16, 16)).permute(2, 0, 3, 1, 4)
        return x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 256, 2, 2), nn.Linear(256, 5)
        self.blocks = nn.Sequential(*(Block() for _ in range(8)))
    def forward(self, x):
        return self.head(self.blocks(self.patches(x).flatten(2).mT).mean(1))
torch.manual_seed(0)
torch.set_num_threads(1)
model = Net().eval()
small = torch.randn(1, 3, 64, 64)
def folded(folds, reading, token_grid):
    return token_grid(sum(each.mean(1) for each in folds))
mean = lambda attention, attention_gradients: (attention * attention_gradients).relu().mean(1)
both = lambda attention, attention_gradients: torch.stack([attention, attention_gradients], 2)
def kept(folds, reading, token_grid):
    return token_grid(sum((each[:, :, 0] * each[:, :, 1]).relu().mean(1).mean(1) for each in folds))
function, fold = {"folded": (folded, mean), "kept": (kept, both)}[sys.argv[1]]
whycam.method("Own", paper="a test", fold=fold)(function)
with torch.no_grad():
    model(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = whycam.explain(model, small, function, target=1)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, float(found.maps.sum()))
"""


@pytest.mark.slow
def test_folding_takes_a_third_of_the_memory_at_most():
    """1,024 tokens, 8 blocks, 16 heads, float32: what a process grows by, folded and with every matrix kept."""
    grown = {}
    for name in ("folded", "kept"):
        run = subprocess.run([sys.executable, "-c", _GROWTH, name], capture_output=True, text=True, check=True)
        grown[name], value = run.stdout.split()
        grown[name] = int(grown[name]), float(value)
    assert grown["folded"][0] <= grown["kept"][0] / 3, grown
    assert grown["folded"][1] == pytest.approx(grown["kept"][1], rel=1e-4)


def test_a_fold_that_asks_for_more_than_a_block_has_is_refused():
    with pytest.raises(whycam.WhycamError, match="folds"):
        declare(lambda folds, token_grid: token_grid(folds[0]))
