"""Chefer 1 against relevance handed back by hand through a ViT of two blocks, each rule as the paper writes it."""

import functools

import pytest
import torch
import torch.nn.functional as F
from small_vit import HEADS, Block, ByItself, by_hand, on_grid, pictures, small_vit
from torch import Tensor

import whycam


def linear(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """`x_i W_ji / sum` over the positive products (equation 5); nothing where there are none."""
    products = (x[..., None, :] * weight).clamp(min=0)
    sums = products.sum(-1, keepdim=True)
    return (products / sums.where(sums > 0, 1) * relevance[..., None]).sum(-2)


def branches(one: Tensor, other: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Each in proportion, then normalized to its magnitude in its sample (equations 8 to 10)."""
    found = []
    for n in range(len(one)):
        a, b = one[n] / (one[n] + other[n]) * relevance[n], other[n] / (one[n] + other[n]) * relevance[n]
        whole = a.sum().abs() + b.sum().abs()
        found.append([each * each.sum().abs() / whole * relevance[n].sum() / each.sum() for each in (a, b)])
    first, second = (torch.stack(each) for each in zip(*found, strict=True))
    return first, second


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def tokens(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


@torch.no_grad()
def relevance_of_attention(model, images, start):
    """Of each block, `(batch, head, query, key)`; from that of the logits."""
    x, steps = model.embed(images), []
    for block in model.blocks:
        given = block.norm1(x)
        q, k, v = (heads(each) for each in block.qkv(given).chunk(3, -1))
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k)
        a = (scores / q.shape[-1] ** 0.5).softmax(-1)
        o = torch.einsum("bhqk,bhkd->bhqd", a, v)
        talked = block.proj(tokens(o))
        middle = x + talked
        thinks = block.norm2(middle)
        hidden = torch.nn.functional.gelu(block.up(thinks))
        thought = block.down(hidden)
        steps.append((x, given, q, k, v, scores, a, o, talked, middle, thinks, hidden, thought))
        x = middle + thought

    last = model.norm(x)
    relevance = torch.zeros_like(last)
    if model.pool == "class":
        relevance[:, 0] = linear(last[:, 0], model.head.weight, start)
    else:
        of_mean = linear(last.mean(1), model.head.weight, start)
        relevance = last / last.sum(1, keepdim=True) * of_mean[:, None]
    found = []
    for block, step in zip(reversed(model.blocks), reversed(steps), strict=True):
        x, given, q, k, v, scores, a, o, talked, middle, thinks, hidden, thought = step
        relevance, of_thought = branches(middle, thought, relevance)
        of_hidden = linear(hidden, block.down.weight, of_thought)
        relevance = relevance + linear(thinks, block.up.weight, of_hidden)
        relevance, of_talked = branches(x, talked, relevance)
        of_o = heads(linear(tokens(o), block.proj.weight, of_talked))
        ratios = of_o / o
        of_a = a * torch.einsum("bhqd,bhkd->bhqk", ratios, v) / 2
        of_v = v * torch.einsum("bhqk,bhqd->bhkd", a, ratios) / 2
        found.append(of_a)
        ratios = of_a / scores
        of_q = q * torch.einsum("bhqk,bhkd->bhqd", ratios, k) / 2
        of_k = k * torch.einsum("bhqk,bhqd->bhkd", ratios, q) / 2
        of_all = torch.cat([tokens(each) for each in (of_q, of_k, of_v)], -1)
        relevance = relevance + linear(given, block.qkv.weight, of_all)
    return found[::-1]


def expected(model, images, target):
    start = torch.nn.functional.one_hot(torch.tensor(target).expand(len(images)), 5).double()
    relevance = relevance_of_attention(model, images, start)
    gradients = by_hand(model, images, target).dA
    eye = torch.eye(relevance[0].shape[-1]).double()
    blocks = [eye + (r * d).clamp(min=0).mean(1) for r, d in zip(relevance, gradients, strict=True)]
    rows = functools.reduce(lambda made, each: each @ made, blocks)
    return on_grid(model, rows[:, 0] if model.pool == "class" else rows.mean(1)), relevance


@pytest.mark.parametrize("kind", [Block, ByItself], ids=["fused", "written out"])
@pytest.mark.parametrize("pool", ["class", "mean"])
@pytest.mark.parametrize("target", [3, 1])
def test_is_the_product_by_hand(kind, pool, target):
    model = small_vit(kind=kind, pool=pool)
    images = pictures(model)
    maps, _ = expected(model, images, target)
    found = whycam.explain(model, images, "transformer_attribution", target=target)
    torch.testing.assert_close(found.maps, maps.float(), rtol=1e-5, atol=1e-6 * float(maps.abs().max()))


@pytest.mark.parametrize("block", [0, 1])
def test_relevance_of_a_blocks_attention(block):
    model = small_vit(prefix=2)
    images = pictures(model)
    seen = []

    def probe(attention_relevance, attention_gradients, token_grid):
        seen.append((attention_relevance, attention_gradients))
        return token_grid(attention_relevance.sum((1, 2)))

    whycam.explain(model, images, probe, target=3, layer=f"blocks.{block}")
    relevance = expected(model, images, 3)[1][block]
    torch.testing.assert_close(seen[0][0], relevance, rtol=0, atol=1e-10 * float(relevance.abs().max()))
    torch.testing.assert_close(seen[0][1], by_hand(model, images, 3).dA[block], rtol=1e-10, atol=1e-14)


def test_a_batch_is_its_samples():
    model = small_vit()
    images = pictures(model, 3)
    found = []

    def probe(attention_relevance, token_grid):
        found.append(attention_relevance)
        return token_grid(attention_relevance.sum((1, 2)))

    for some in (images, *images.split(1)):
        whycam.explain(model, some, probe, target=3, layer="blocks.0")
    together, alone = found[0], torch.cat(found[1:])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10 * float(alone.abs().max()))


def test_one_forward_and_two_backwards_for_each_target():
    model = small_vit()
    images = pictures(model)
    whycam.explain(model, images, "transformer_attribution", target=3)  # where attention is, is known from here on
    cost = whycam.explain(model, images, "transformer_attribution", target=3).cost
    assert (cost.forwards - cost.choosing, cost.backwards) == (1, 2)
    several = whycam.compare(model, images, ["transformer_attribution"], targets=[0, 1, 2])
    cost = several["transformer_attribution", "blocks.1", 0].cost
    assert (cost.forwards - cost.choosing, cost.backwards) == (1, 6)


def test_what_has_no_rule_is_named():
    class Odd(Block):
        def forward(self, x):
            return super().forward(x).sin()

    model = small_vit(kind=Odd)
    found = whycam.explain(model, pictures(model), "transformer_attribution", target=3)
    assert "no rule of relevance is known for sin: gradients pass there as they are" in found.notes
    model = small_vit()
    assert whycam.explain(model, pictures(model), "transformer_attribution", target=3).notes == ()


def test_other_methods_of_the_same_pass_see_the_gradient():
    model = small_vit()
    images = pictures(model)
    together = whycam.compare(model, images, ["transformer_attribution", "generic_attention", "grad_cam"], targets=[3])
    for name in ("generic_attention", "grad_cam"):
        (found,) = [each for (method, _, _), each in together.items() if method == name]
        alone = whycam.explain(model, images, name, target=3)
        assert torch.equal(found.maps, alone.maps)


class ByName(Block):
    """Layers called with their arguments by name, as in timm's EVA and BEiT."""

    def forward(self, x):
        normed = self.norm1(x)
        qkv = F.linear(input=normed, weight=self.qkv.weight, bias=self.qkv.bias)
        q, k, v = (each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in qkv.chunk(3, -1))
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def test_layers_that_are_called_by_name():
    model, named = small_vit(), small_vit(kind=ByName)
    x = pictures(model)
    one, other = (whycam.explain(each, x, "transformer_attribution", target=3) for each in (model, named))
    torch.testing.assert_close(other.maps, one.maps, rtol=1e-6, atol=0)
    assert one.maps.any()
