"""ViT-ReciproCAM against a forward written out with both masks in it, token by token."""

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whycam
from whycam.network.layouts import Tokens

GRID, WIDTH = (4, 3), 8


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return self.out(F.scaled_dot_product_attention(*self.qkv(x).chunk(3, -1)))


class Block(nn.Module):
    """The norm and what it feeds, as in a ViT; the skips pass by both."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attends, self.wide = Attends(), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x = x + self.attends(self.one(x))
        return x + F.gelu(self.wide(self.two(x)))

    def by_hand(self, x, factors):
        normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + self.one.eps).sqrt()
        x = factors * x + self.attends(factors * (normed * self.one.weight + self.one.bias))
        return x + F.gelu(self.wide(self.two(x)))


class Behind(nn.Module):
    """A norm inside what it feeds, as in vit-pytorch, which takes the scale of its tokens away as well."""

    def __init__(self, inside):
        super().__init__()
        self.norm, self.inside = nn.LayerNorm(WIDTH), inside

    def forward(self, x):
        return self.inside(self.norm(x))


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.mixes, self.wide = Behind(Attends()), Behind(nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        x = x + self.mixes(x)
        return x + self.wide(x)

    def by_hand(self, x, factors):
        x = factors * x + self.mixes.inside(factors * self.mixes.norm(x))
        return x + self.wide(x)


class Parallel(nn.Module):
    """Two norms read the same tokens."""

    def __init__(self):
        super().__init__()
        self.mixes, self.wide = Behind(Attends()), Behind(nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        return x + self.mixes(x) + self.wide(x)

    def by_hand(self, x, factors):
        one, two = (factors * each.norm(x) for each in (self.mixes, self.wide))
        return factors * x + self.mixes.inside(one) + self.wide.inside(two)


class Beside(Parallel):
    """A linear layer reads the tokens as they are, and takes no scale away."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(WIDTH, WIDTH)

    def by_hand(self, x, factors):
        return factors * x + self.mixes.inside(factors * self.mixes.norm(x)) + self.wide(factors * x)


class Inside(nn.Module):
    """The norm is a function inside the attention: nowhere is what it makes of the tokens returned."""

    def __init__(self):
        super().__init__()
        self.attends = Attends()
        self.attends.forward = lambda x: Attends.forward(self.attends, F.layer_norm(x, x.shape[-1:]))

    def forward(self, x):
        return x + self.attends(x)


class After(nn.Module):
    """Its norm comes behind, as in the first transformers: none reads what it is given."""

    def __init__(self):
        super().__init__()
        self.attends, self.norm = Attends(), nn.LayerNorm(WIDTH)

    def forward(self, x):
        return self.norm(x + self.attends(x))


class Net(nn.Module):
    def __init__(self, block, prefix):
        super().__init__()
        self.prefix = prefix
        self.patches = nn.Conv2d(3, WIDTH, 2, 2)
        self.before = nn.Parameter(torch.zeros(prefix, WIDTH))
        self.blocks = nn.ModuleList([block(), block()])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

    def embed(self, x):
        return torch.cat([self.before.expand(len(x), -1, -1), self.patches(x).flatten(2).mT], 1)

    def answer(self, x):
        x = self.norm(x)
        return self.head(x[:, 0] if self.prefix else x.mean(1))

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.answer(x)


def net_and_pictures(block=Block, prefix=1):
    torch.manual_seed(0)
    net = nets.fixed(Net(block, prefix))
    for norm in (each for each in net.modules() if isinstance(each, nn.LayerNorm)):
        norm.weight.data += 1
    return net, torch.randn(2, 3, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_hand(net, pictures, targets, gaussian=True, probability=False):
    maps = torch.zeros(len(pictures), *GRID, dtype=torch.float64)
    with torch.no_grad():
        tokens = net.blocks[0](net.embed(pictures))
        for row in range(GRID[0]):
            for column in range(GRID[1]):
                factors = torch.ones(tokens.shape[1], dtype=torch.float64)
                for y in range(GRID[0]):
                    for x in range(GRID[1]):
                        away = (abs(y - row), abs(x - column))
                        share = {(0, 0): 1 / 4, (0, 1): 1 / 8, (1, 0): 1 / 8, (1, 1): 1 / 16}.get(away, 0.0)
                        factors[net.prefix + y * GRID[1] + x] = share if gaussian else float(away == (0, 0))
                answer = net.answer(net.blocks[1].by_hand(tokens, factors[:, None]))
                answer = answer.softmax(1) if probability else answer
                maps[:, row, column] = answer[range(len(pictures)), targets]
    return maps


@pytest.mark.parametrize("block", [Block, Wrapped, Parallel, Beside])
@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_the_stream_and_what_its_norm_makes_of_it_are_masked(block, prefix):
    net, pictures = net_and_pictures(block, prefix)
    targets, asked = [1, 4], {"layout": Tokens(GRID, prefix), "target": [1, 4]}
    found = whycam.explain(net, pictures, "vit_recipro_cam", layer="blocks.1:input", **asked)
    torch.testing.assert_close(found.maps, by_hand(net, pictures, targets).to(found.maps), rtol=1e-6, atol=1e-7)
    assert found.maps.std() > 1e-3
    again = whycam.explain(net, pictures, "vit_recipro_cam", layer="blocks.0", **asked)
    torch.testing.assert_close(again.maps, found.maps)  # what one block returns is what the next is given


def test_options():
    net, pictures = net_and_pictures()
    asked = {"gaussian": False, "probability": True}
    found = whycam.explain(net, pictures, "vit_recipro_cam", layer="blocks.1:input", target=2, **asked)
    expected = by_hand(net, pictures, [2, 2], **asked)
    torch.testing.assert_close(found.maps, expected.to(found.maps), rtol=1e-6, atol=1e-7)


def test_only_what_is_above_the_layer_runs():
    net, pictures = net_and_pictures()
    found = whycam.explain(net, pictures, "vit_recipro_cam", layer="blocks.1:input", target=2)
    assert found.cost.parts >= 12
    assert found.cost.forwards == 1 + found.cost.choosing


@pytest.mark.parametrize("block", [After, Inside])
def test_where_no_norm_reads_the_layer_that_is_said(block):
    net, pictures = net_and_pictures(block)
    with pytest.raises(whycam.WhycamError, match="no norm reads layer"):
        whycam.explain(net, pictures, "vit_recipro_cam", layer="blocks.1:input", target=2)
