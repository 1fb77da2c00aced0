"""What methods of attention cost on a ViT: time and memory beside plain inference and the recipes that papers publish.

    python benchmarks/attention.py            # time, as multiples of the plain forward of the same round
    python benchmarks/attention.py memory     # what a process grows by at 1,024 tokens, 8 blocks, 16 heads

The recipes are those of the authors' repositories, with the same hooks and passes: attention that is not fused, every
matrix kept, gradients of every parameter.
"""

import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
import torchvision_shim

torchvision_shim.register()
warnings.filterwarnings("ignore")

import timm  # noqa: E402

import whycam  # noqa: E402

METHODS = (
    "attention_rollout", "grad_rollout", "generic_attention", "transformer_attribution", "legrad", "grad_eclip",
    "clip_surgery", "attn_lrp", "cp_lrp", "grad_cam",
)  # fmt: skip


class Recipe:
    """Attention that is not fused, with every matrix and its gradient kept by hooks."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.kept, self.gradients = model, [], []
        for block in model.blocks:
            block.attn.fused_attn = False
            block.attn.attn_drop.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, given: object, attention: Tensor) -> None:
        self.kept.append(attention)
        if attention.requires_grad:
            attention.register_hook(lambda gradient: self.gradients.insert(0, gradient))

    def start(self, inputs: Tensor) -> Tensor:
        self.kept, self.gradients = [], []
        return self.model(inputs)

    def rollout(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            self.start(inputs)
            made = torch.eye(self.kept[0].shape[-1])
            for attention in self.kept:
                mixed = attention.mean(1) + torch.eye(attention.shape[-1])
                made = mixed / mixed.sum(-1, keepdim=True) @ made
            return made[:, 0, 1:]

    def chefer(self, inputs: Tensor) -> Tensor:
        score = self.start(inputs)[:, 1].sum()
        self.model.zero_grad()
        score.backward()
        made = torch.eye(self.kept[0].shape[-1])
        with torch.no_grad():
            for attention, gradient in zip(self.kept, self.gradients, strict=True):
                made = made + (attention * gradient).relu().mean(1) @ made
        return made[:, 0, 1:]

    def legrad(self, inputs: Tensor) -> Tensor:
        tokens: list[Tensor] = []
        hooks = [block.register_forward_hook(lambda *given: tokens.append(given[2])) for block in self.model.blocks]
        self.start(inputs)
        for hook in hooks:
            hook.remove()
        made: Tensor | float = 0.0
        for attention, returned in zip(self.kept, tokens, strict=True):
            self.model.zero_grad()
            score = self.model.head(self.model.norm(returned.mean(1)))[:, 1].sum()
            (gradient,) = torch.autograd.grad(score, [attention], retain_graph=True)
            made = made + gradient.relu().mean((1, 2))[:, 1:]
        assert isinstance(made, Tensor)
        return made


def times(rounds: int = 7) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = timm.create_model("vit_tiny_patch16_224").eval()
    nn.init.normal_(model.head.weight, std=0.05)
    other = timm.create_model("vit_tiny_patch16_224").eval()
    other.load_state_dict(model.state_dict())
    recipe, inputs = Recipe(other), torch.randn(4, 3, 224, 224)
    explainer = whycam.Explainer(model)

    def plain() -> None:
        with torch.no_grad():
            model(inputs)

    def ours(name: str) -> Callable[[], object]:
        specific = next(each for each in whycam.list_methods() if each.name == name).class_specific
        return lambda: explainer.explain(inputs, name, **({"target": 1} if specific else {}))

    works: dict[str, Callable[[], object]] = {"plain forward": plain}
    works |= {name: ours(name) for name in METHODS}
    works |= {
        "recipe of rollout": lambda: recipe.rollout(inputs),
        "recipe of Chefer 2": lambda: recipe.chefer(inputs),
        "recipe of LeGrad": lambda: recipe.legrad(inputs),
    }
    for work in works.values():
        work()
    ratios: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        taken = {}
        for name, work in works.items():
            started = time.process_time()
            work()
            taken[name] = time.process_time() - started
        for name in works:
            ratios[name].append(taken[name] / taken["plain forward"])
    for name, found in ratios.items():
        print(f"{name:26} {statistics.median(found):6.2f}  {min(found):6.2f} to {max(found):.2f}")
    maps = explainer.explain(inputs, "generic_attention", target=1).maps.flatten(1)
    print("largest difference from the recipe:", float((maps - recipe.chefer(inputs)).abs().max()))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(1024), nn.Linear(1024, 3072), nn.Linear(1024, 1024)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 16, 64)).permute(2, 0, 3, 1, 4)
        return x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Long(nn.Module):
    """1,024 tokens, 8 blocks, 16 heads."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 1024, 2, 2), nn.Linear(1024, 5)
        self.blocks = nn.Sequential(*(Block() for _ in range(8)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.patches(x).flatten(2).mT).mean(1))


def grown(way: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, inputs = Long().eval().requires_grad_(False), torch.randn(1, 3, 64, 64)

    def both(attention: Tensor, attention_gradients: Tensor) -> Tensor:
        return torch.stack([attention, attention_gradients], 2)

    def kept(folds: list[Tensor], token_grid: Callable[[Tensor], Tensor]) -> Tensor:
        return token_grid(torch.stack([(each[:, :, 0] * each[:, :, 1]).relu().mean((1, 2)) for each in folds]).sum(0))

    whycam.method("Kept", paper="a benchmark", fold=both)(kept)
    with torch.no_grad():
        model(inputs)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if way == "plain":
        leaf = inputs.clone().requires_grad_()
        torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    else:
        whycam.explain(model, inputs, way if way == "generic_attention" else kept, target=1)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)


if __name__ == "__main__":
    if sys.argv[1:] == ["memory"]:
        for name in ("plain", "generic_attention", "kept"):
            run = subprocess.run([sys.executable, __file__, "grown", name], capture_output=True, text=True, check=True)
            print(f"{name:20} {run.stdout.strip()} MiB")
    elif sys.argv[1:2] == ["grown"]:
        grown(sys.argv[2])
    else:
        times()
