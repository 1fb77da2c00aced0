"""Where attentions run and what their keys are, against networks in which this is known by construction."""

import nets
import pytest
import torch
import torch.nn.functional as F
from small_vit import ByItself, pictures, small_vit
from torch import nn

import whycam
from whycam.errors import LayerRefused
from whycam.network.attention.places import place_of, places


def of(model, x):
    return places(model, x)[0]


@pytest.mark.parametrize("kind", [None, ByItself])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_all_tokens_ask_all_tokens(kind, dtype):
    model = small_vit(**({"kind": kind} if kind else {})).to(dtype)
    found = of(model, pictures(model).to(dtype))
    assert [each.kind for each in found] == ["tokens", "tokens"]
    assert [each.block for each in found] == ["blocks.0", "blocks.1"]
    assert [(each.queries, each.keys, each.size) for each in found] == [(13, 13, 13)] * 2
    assert places(model, pictures(model).to(dtype))[1] == 0  # kept


def test_a_pool_asks_with_a_query_of_its_own():
    model = small_vit(pool="attention", prefix=0)
    found = of(model, pictures(model))
    assert [each.kind for each in found] == ["tokens", "tokens", "pool"]
    assert (found[2].block, found[2].queries, found[2].keys) == ("asks", 1, 12)


class Windows(nn.Module):
    """Attention within windows of 2 x 2 of a grid, moved by `shift`, channels last, as Swin has it."""

    def __init__(self, shift: int, order: str) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(8), nn.Linear(8, 24)
        self.shift, self.order = shift, order

    def forward(self, x):
        batch, height, width, _ = x.shape
        moved = self.norm(x).roll((-self.shift, -self.shift), (1, 2))
        cells = moved.reshape(batch, height // 2, 2, width // 2, 2, 8).transpose(2, 3).reshape(batch, -1, 4, 8)
        q, k, v = self.qkv(cells).unflatten(-1, (3, 2, 4)).permute(3, 0, 1, 4, 2, 5)  # (batch, window, head, token, 4)
        if self.order == "batch":
            q, k, v = (each.flatten(0, 1) for each in (q, k, v))
        heads = F.scaled_dot_product_attention(q, k, v)
        made = heads.reshape(batch, -1, 2, 4, 4).transpose(2, 3).reshape(batch, height // 2, width // 2, 2, 2, 8)
        made = made.transpose(2, 3).reshape(x.shape).roll((self.shift, self.shift), (1, 2))
        return x + made


class OnGrid(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = nn.Conv2d(3, 8, 2, 2), nn.Sequential(*blocks), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x).movedim(1, -1)).mean((1, 2)))


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("order", ["batch", "axis"])
def test_windows_and_which_position_each_key_holds(shift, order):
    model = nets.fixed(OnGrid(Windows(shift, order), Windows(0, order)))
    first, second = of(model, nets.images(2, side=8))
    assert first.kind == second.kind == "windows"
    grid = torch.arange(16).reshape(4, 4).roll((-shift, -shift), (0, 1))
    cells = grid.reshape(2, 2, 2, 2).transpose(1, 2).reshape(-1)
    assert torch.equal(first.positions, cells)
    assert first.size == 16


class Channels(nn.Module):
    """Attention between channels, as XCiT has it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = self.qkv(x.flatten(1, 2)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 4, 1)  # (batch, head, 4, token)
        made = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).softmax(-1) @ v
        return x + made.flatten(1, 2).mT.reshape(x.shape)


class PooledKeys(nn.Module):
    """Keys and values of every second token along both axes."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(8, 8), nn.Linear(8, 16)

    def forward(self, x):
        fewer = F.avg_pool2d(x.movedim(-1, 1), 2).movedim(1, -1)
        q = self.q(x.flatten(1, 2)).unflatten(-1, (2, 4)).transpose(1, 2)
        k, v = self.kv(fewer.flatten(1, 2)).unflatten(-1, (2, 2, 4)).permute(2, 0, 3, 1, 4)
        return x + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize(("block", "kind"), [(Channels, "other"), (PooledKeys, "pooled keys")])
def test_what_is_no_attention_between_tokens(block, kind):
    model = nets.fixed(OnGrid(block(), block()))
    assert {each.kind for each in of(model, nets.images(2, side=8))} == {kind}


REFUSED = {
    "windows": lambda: OnGrid(Windows(0, "batch")), "channels": lambda: OnGrid(Channels()),
    "pooled keys": lambda: OnGrid(PooledKeys()),
}  # fmt: skip


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("layer", [None, "blocks.0"])
def test_a_product_over_blocks_refuses_them_and_names_the_kind(make, layer):
    model, x = nets.fixed(make()), nets.images(2, side=8)
    kind = of(model, x)[0].kind
    with pytest.raises(LayerRefused, match=rf"{kind}.*grad_cam"):
        whycam.explain(model, x, "generic_attention", layer=layer, target=1)
    assert whycam.explain(model, x, "layer_cam", layer="blocks.0", target=1).maps.any()


class Rising(nn.Module):
    """Half as many tokens in the second block."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = small_vit(pool="mean", prefix=0), small_vit(pool="mean", prefix=0)

    def forward(self, x):
        tokens = self.first.blocks[0](self.first.embed(x))
        tokens = F.avg_pool1d(tokens.mT, 2).mT
        return self.second.answer(self.second.blocks[0](tokens))


def test_a_product_over_blocks_of_other_tokens_is_refused():
    model = Rising().eval()
    x = pictures(model.first)
    assert [each.size for each in of(model, x)] == [12, 6]
    with pytest.raises(LayerRefused, match="from block to block"):
        whycam.explain(
            model, x, "attention_rollout", layer="second.blocks.0", layout=whycam.layouts.Tokens((3, 2), prefix=0)
        )


def test_a_layer_stands_for_its_block():
    model = small_vit()
    found = of(model, pictures(model))
    assert place_of(found, "blocks.1.proj").number == 1
    assert place_of(found, "blocks.0").number == 0
    with pytest.raises(LayerRefused, match=r"no attention was seen in layer 'patches'.*'blocks.0', 'blocks.1'"):
        place_of(found, "patches")
    x = pictures(model)
    inner = whycam.explain(model, x, "generic_attention", target=1, layer="blocks.1.norm2")
    assert torch.equal(inner.maps, whycam.explain(model, x, "generic_attention", target=1, layer="blocks.1").maps)


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": 0, "pool": "mean"}, {"prefix": 1}, {"prefix": 2}, {"prefix": 4}, {"prefix": 5},
        {"prefix": 1, "suffix": 5}, {"prefix": 1, "grid": (2, 7)}, {"prefix": 1, "grid": (6, 3)},
    ],
    ids=str,
)  # fmt: skip
def test_the_map_changes_where_a_patch_does(options):
    """In a network whose blocks leave tokens where they are, a patch that is looked at more shows in its own place."""
    model = small_vit(**options)
    for block in model.blocks:  # what tokens hold stays theirs
        block.proj.weight.data *= 0.01
        block.down.weight.data *= 0.01
        block.qkv.weight.data[: 2 * 8] *= 0.1  # and nobody looks at one alone
    x = pictures(model, samples=1)
    before = whycam.explain(model, x, "attention_rollout").maps[0]
    rows, columns = model.grid
    for place in [(0, 0), (rows - 1, 0), (0, columns - 1), (rows // 2, columns // 2)]:
        changed = x.clone()
        patch = changed[0, :, 2 * place[0] : 2 * place[0] + 2, 2 * place[1] : 2 * place[1] + 2]
        patch += torch.randn(patch.shape, generator=torch.Generator().manual_seed(3), dtype=patch.dtype) * 2
        away = (whycam.explain(model, changed, "attention_rollout").maps[0] - before).abs()
        assert divmod(int(away.argmax()), columns) == place


class ClassAttention(nn.Module):
    """A class token that asks the patches once they have asked each other, as in CaiT."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.asks = small_vit(pool="mean", prefix=0), nn.Linear(8, 24)
        self.token, self.head = nn.Parameter(torch.zeros(1, 1, 8)), nn.Linear(8, 5)

    def forward(self, x):
        tokens = self.trunk.embed(x)
        for block in self.trunk.blocks:
            tokens = block(tokens)
        every = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        q, k, v = self.asks(every).chunk(3, -1)
        return self.head(F.scaled_dot_product_attention(q[:, :1], k, v)[:, 0])


def test_attention_behind_the_tokens_that_is_not_followed_is_said():
    model = nets.fixed(ClassAttention())
    x = pictures(model.trunk)
    found = whycam.explain(model, x, "generic_attention", target=1, layer="trunk.blocks.1")
    assert [each for each in found.notes if "attention behind these tokens is not followed" in each]
    plain = whycam.explain(model.trunk, x, "generic_attention", target=1)
    assert not [each for each in plain.notes if "not followed" in each]


def test_one_window_of_a_grid_is_all_of_its_tokens():
    model, x = nets.fixed(OnGrid(Windows(0, "batch"))), nets.images(2, side=4)
    assert [each.kind for each in of(model, x)] == ["tokens"]
    for method in ("generic_attention", "legrad"):
        assert whycam.explain(model, x, method, target=1, layer="blocks.0").maps.shape == (2, 2, 2)


class SideBySide(nn.Module):
    """Two attentions of the same tokens, added up, as in timm's parallel blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = (small_vit(blocks=1).blocks[0] for _ in range(2))

    def forward(self, x):
        return x + self.one(x) + self.other(x)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_attentions_side_by_side_are_refused(number):
    model = small_vit(blocks=3)
    model.blocks[number] = SideBySide()
    model = nets.fixed(model)
    with pytest.raises(LayerRefused, match="side by side"):
        whycam.explain(model, pictures(model), "generic_attention", target=1)
