"""A toy vision transformer and its scenes: which of six badges are on a picture, each told from that badge alone.

A badge has a rim of one color and a core of another; the two make its class. Two or three of different classes stand
among bars of the same colors, which are none. Which they are is drawn evenly, so one says nothing of another, and
erasing a badge takes its class away. Each scene is drawn from its own seed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn

#: The trained weights, in half precision, by how the network reads its tokens.
WEIGHTS = {pool: Path(__file__).with_name(f"patches_{pool}.pt") for pool in ("token", "avg")}
COLORS = {"red": (215, 45, 40), "green": (45, 170, 60), "blue": (55, 80, 220)}
NAMES = tuple(f"{rim} around {core}" for rim in COLORS for core in COLORS if rim != core)
SIDE, PATCH = 48, 4


class Attention(nn.Module):
    """Of every token to every token, in four heads."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(batch, token, width)`."""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed: Tensor = self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """Attention, then a layer for each token by itself, each behind a norm and beside what it was given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """`(batch, token, width)`."""
        tokens = tokens + self.attn(self.norm1(tokens))
        mixed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return mixed


class ViT(nn.Module):
    """12 x 12 patches of 4 pixels and six blocks; what reads the tokens is a class token, or (`avg`) their mean."""

    def __init__(self, pool: str, width: int = 64, depth: int = 6) -> None:
        super().__init__()
        self.pool = pool
        self.embed = nn.Conv2d(3, width, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, int(pool == "token"), width))
        self.positions = nn.Parameter(0.3 * _waves(SIDE // PATCH, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(NAMES))

    def forward(self, pictures: Tensor) -> Tensor:
        """A logit for each badge, `(batch, 6)`, of pictures `(batch, 3, 48, 48)`."""
        patches = self.embed(pictures).flatten(2).mT + self.positions
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1)
        tokens = self.norm(self.blocks(tokens))
        logits: Tensor = self.head(tokens[:, 0] if self.pool == "token" else tokens.mean(1))
        return logits


def _waves(side: int, width: int) -> Tensor:
    """Where each patch lies, as sines and cosines of its row and column, `(1, patch, width)`."""
    rates = 0.01 ** (torch.arange(width // 4) / (width // 4))
    turns = torch.cartesian_prod(torch.arange(side), torch.arange(side))[:, :, None] * rates
    return torch.cat([turns.sin(), turns.cos()], 2).flatten(1)[None]


def vit(pool: str = "token", *, trained: bool = True) -> nn.Module:
    """The network, trained, that reads its class token or (`avg`) the mean of its patches."""
    model = ViT(pool)
    if trained:
        kept = torch.load(WEIGHTS[pool], weights_only=True)
        model.load_state_dict({name: value.float() for name, value in kept.items()})
    return model.eval()


@dataclass(frozen=True)
class Badge:
    """One badge: its class's number, its box (left, top, right, bottom), and whether it is round."""

    label: int
    box: tuple[int, int, int, int]
    round: bool

    def paint(self, draw: ImageDraw.ImageDraw) -> None:
        """Onto a picture."""
        left, top, right, bottom = self.box
        third = (right - left) // 3
        rim, core = NAMES[self.label].split(" around ")
        shape = draw.ellipse if self.round else draw.rectangle
        shape(self.box, fill=COLORS[rim])
        shape((left + third, top + third, right - third, bottom - third), fill=COLORS[core])


@dataclass(frozen=True)
class Scene:
    """What is drawn: badges, and bars (box and color), on gray, with noise of that seed."""

    seed: int
    gray: int
    bars: tuple[tuple[tuple[int, int, int, int], tuple[int, int, int]], ...]
    badges: tuple[Badge, ...]

    def picture(self, without: Badge | None = None) -> Tensor:
        """`(3, 48, 48)`, around 0; `without` one of its badges."""
        image = Image.new("RGB", (SIDE, SIDE), (self.gray,) * 3)
        draw = ImageDraw.Draw(image)
        for box, color in self.bars:
            draw.rectangle(box, fill=color)
        for badge in self.badges:
            if badge is not without:
                badge.paint(draw)
        noise = np.random.default_rng(self.seed).normal(0, 6, (SIDE, SIDE, 3))
        pixels = (np.asarray(image) + noise).clip(0, 255).astype(np.float32)
        return torch.from_numpy(pixels / 64 - 2).permute(2, 0, 1).contiguous()

    def present(self) -> Tensor:
        """1 for each class that is on it, `(6,)`."""
        found = torch.zeros(len(NAMES))
        found[[badge.label for badge in self.badges]] = 1
        return found


def scene(seed: int) -> Scene:
    """The scene of that seed."""
    random = np.random.default_rng(seed)
    bars = []
    for _ in range(4):
        x, y, length = (int(each) for each in random.integers((0, 0, 8), (SIDE, SIDE, 25)))
        wide = bool(random.integers(2))
        box = (x, y, x + (length if wide else 2), y + (2 if wide else length))
        bars.append((box, list(COLORS.values())[int(random.integers(3))]))
    badges: list[Badge] = []
    for label in map(int, random.permutation(len(NAMES))[: int(random.integers(2, 4))]):
        for _ in range(20):
            size = int(random.integers(11, 17))
            x, y = (int(each) for each in random.integers(1, SIDE - size - 1, 2))
            box = (x, y, x + size, y + size)
            taken = [badge.box for badge in badges]
            if all(box[2] + 3 < o[0] or o[2] + 3 < x or box[3] + 3 < o[1] or o[3] + 3 < y for o in taken):
                badges.append(Badge(label, box, bool(random.integers(2))))
                break
    return Scene(seed, int(random.integers(90, 170)), tuple(bars), tuple(badges))
