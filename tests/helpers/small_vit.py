"""A vision transformer of two blocks, and what its attention does, computed step by step and with nothing hidden."""

from types import SimpleNamespace
from typing import Literal

import nets
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS, CLASSES = 8, 2, 5


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def split(self, x: Tensor) -> list[Tensor]:
        """Queries, keys and values, `(batch, head, token, width)`."""
        return [each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in self.qkv(self.norm1(x)).chunk(3, -1)]

    def forward(self, x: Tensor) -> Tensor:
        heads = F.scaled_dot_product_attention(*self.split(x))
        x = x + self.proj(heads.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ByItself(Block):
    """The same with the softmax written out, as older code has it."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        heads = (q @ k.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5).softmax(dim=-1) @ v
        x = x + self.proj(heads.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class SmallViT(nn.Module):
    """Patches of 2 x 2, some tokens before and behind them, blocks, a norm, and a head on what is pooled."""

    def __init__(
        self,
        grid: tuple[int, int] = (4, 3),
        prefix: int = 1,
        suffix: int = 0,
        pool: Literal["class", "mean", "attention"] = "class",
        blocks: int = 2,
        kind: type[Block] = Block,
    ) -> None:
        super().__init__()
        self.grid, self.prefix, self.suffix, self.pool = grid, prefix, suffix, pool
        self.patches = nn.Conv2d(3, WIDTH, 2, 2)
        count = prefix + grid[0] * grid[1] + suffix
        self.num_prefix_tokens, self.patch_size = prefix, 2  # as model libraries say it
        self.before = nn.Parameter(torch.zeros(prefix, WIDTH))
        self.detection_tokens = nn.Parameter(torch.zeros(suffix, WIDTH))
        self.position = nn.Parameter(torch.zeros(count, WIDTH))
        self.blocks = nn.ModuleList(kind() for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
        if pool == "attention":
            self.latent = nn.Parameter(torch.zeros(1, WIDTH))
            self.asks = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def embed(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).mT
        beside = [each.expand(len(x), -1, -1) for each in (self.before, self.detection_tokens)]
        return torch.cat([beside[0], patches, beside[1]], 1) + self.position

    def answer(self, tokens: Tensor) -> Tensor:
        if self.pool == "attention":
            return self.head(self.asks(self.latent.expand(len(tokens), -1, -1), tokens, tokens)[0][:, 0])
        tokens = self.norm(tokens)
        return self.head(tokens[:, 0] if self.pool == "class" else tokens.mean(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.answer(x)


def small_vit(**options: object) -> SmallViT:
    model = nets.fixed(SmallViT(**options))
    for norm in (each for each in model.modules() if isinstance(each, nn.LayerNorm)):
        norm.weight.data = norm.weight.data + 1
    return model


def pictures(model: SmallViT, samples: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 3, *(2 * side for side in model.grid), generator=generator, dtype=torch.float64)


def by_hand(model: SmallViT, x: Tensor, index: Tensor | int) -> SimpleNamespace:
    """Lists over the blocks: `A`, `dA` (batch, head, query, key), `q`, `k`, `v`, `o`, `do`; `z`, what blocks return."""
    with torch.enable_grad():
        x = model.embed(x)
        made = SimpleNamespace(A=[], q=[], k=[], v=[], o=[], z=[])
        for block in model.blocks:
            normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
            normed = normed * block.norm1.weight + block.norm1.bias
            qkv = normed @ block.qkv.weight.T + block.qkv.bias
            q, k, v = (each.reshape(*each.shape[:2], HEADS, -1).permute(0, 2, 1, 3) for each in qkv.split(WIDTH, -1))
            scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / (WIDTH / HEADS) ** 0.5
            a = scores.exp() / scores.exp().sum(-1, keepdim=True)
            o = torch.einsum("bhqk,bhkd->bhqd", a, v)
            x = x + o.permute(0, 2, 1, 3).reshape(x.shape) @ block.proj.weight.T + block.proj.bias
            x = x + block.down(F.gelu(block.up(block.norm2(x))))
            for name, each in zip(("A", "q", "k", "v", "o", "z"), (a, q, k, v, o, x), strict=True):
                getattr(made, name).append(each)
        logits = model.answer(x)
        score = logits.gather(1, torch.as_tensor(index).expand(len(x))[:, None]).sum()
        made.dA = torch.autograd.grad(score, made.A, retain_graph=True)
        made.do = torch.autograd.grad(score, made.o)
    for name in ("A", "q", "k", "v", "o", "z"):
        setattr(made, name, [each.detach() for each in getattr(made, name)])
    return made


def on_grid(model: SmallViT, tokens: Tensor) -> Tensor:
    """The patches' numbers as maps."""
    return tokens[:, model.prefix : tokens.shape[1] - model.suffix].reshape(-1, *model.grid)
