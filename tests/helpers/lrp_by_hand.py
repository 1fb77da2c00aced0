"""Relevance handed back through a small ViT layer by layer, each rule as the papers write it; no gradient anywhere.

AttnLRP is arXiv:2402.05602, with its equation numbers; CP-LRP (arXiv:2202.07304) differs in attention alone.
"""

import torch
from small_vit import HEADS, SmallViT, small_vit
from torch import Tensor

OPTIONS = [{}, {"linear_gamma": 0.1}, {"conv_gamma": 0.25}, {"linear_gamma": 0.05, "conv_gamma": 100.0}]


def vit(**options: object) -> SmallViT:
    """With position embeddings."""
    model = small_vit(**options)
    generator = torch.Generator().manual_seed(4)
    model.position.data = torch.randn(model.position.shape, generator=generator, dtype=torch.float64)
    return model


def start(model: SmallViT, images: Tensor, classes: Tensor) -> Tensor:
    """All relevance at the logit of each sample's class."""
    logits = model(images).detach()
    return torch.zeros_like(logits).scatter(1, classes[:, None], logits.gather(1, classes[:, None]))


def linear(x: Tensor, weight: Tensor, bias: Tensor, relevance: Tensor, gamma: float = 0.0) -> Tensor:
    """`x_i W_ji / z_j R_j` (8); with gamma, what agrees in sign with `z_j` counts `1 + gamma` times. Biases share."""
    parts = x[..., None, :] * weight  # (..., out, in)
    signs = (parts.sum(-1) + bias).sign()
    parts, bias = (
        each + gamma * (sign * each).clamp(min=0) * sign
        for each, sign in ((parts, signs[..., None]), (bias.expand_as(signs), signs))
    )
    return (parts / (parts.sum(-1) + bias)[..., None] * relevance[..., None]).sum(-2)


def added(one: Tensor, other: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    return one / (one + other) * relevance, other / (one + other) * relevance


def standardized(x: Tensor) -> tuple[Tensor, Tensor]:
    """Layer normalization without its weight, and the deviation, by which LRP takes it to be divided as by a number."""
    deviation = ((x - x.mean(-1, keepdim=True)).square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return (x - x.mean(-1, keepdim=True)) / deviation, deviation


def normalized(x: Tensor, norm: torch.nn.LayerNorm, relevance: Tensor) -> Tensor:
    width = x.shape[-1]
    centering = torch.eye(width).to(x) - 1 / width
    matrix = norm.weight[:, None] * centering / standardized(x)[1][..., None]
    return linear(x, matrix, norm.bias, relevance)


def attention(q: Tensor, k: Tensor, v: Tensor, relevance: Tensor, rules: str) -> tuple[Tensor, Tensor, Tensor]:
    """Relevance of queries, keys and values, `(batch, head, token, width)`, from that of attention's output."""
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    parts = weights[..., None] * v[:, :, None]  # (batch, head, query, key, width)
    shares = parts / parts.sum(3, keepdim=True) * relevance[:, :, :, None]
    if rules == "cp_lrp":
        return torch.zeros_like(q), torch.zeros_like(k), shares.sum(2)
    of_weights = shares.sum(-1) / 2  # (15)
    of_scores = scores * (of_weights - weights * of_weights.sum(-1, keepdim=True))  # (13)
    products = q[:, :, :, None] * k[:, :, None]
    of_products = products / products.sum(-1, keepdim=True) * of_scores[..., None] / 2
    return of_products.sum(3), of_products.sum(2), shares.sum(2) / 2


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def tokens(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


@torch.no_grad()
def relevances(
    model: SmallViT, images: Tensor, start: Tensor, rules: str, linear_gamma: float = 0.0, conv_gamma: float = 0.0
) -> tuple[Tensor, list[Tensor]]:
    """Relevance of the images, and of the tokens that each block is given, from that of the logits."""
    xs, steps = [model.embed(images)], []
    for block in model.blocks:
        x = xs[-1]
        given = standardized(x)[0] * block.norm1.weight + block.norm1.bias
        q, k, v = (heads(each) for each in (given @ block.qkv.weight.T + block.qkv.bias).chunk(3, -1))
        weights = (torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5).softmax(-1)
        mixed = tokens(weights @ v)
        talked = mixed @ block.proj.weight.T + block.proj.bias
        middle = x + talked
        thinks = standardized(middle)[0] * block.norm2.weight + block.norm2.bias
        up = thinks @ block.up.weight.T + block.up.bias
        hidden = up * (1 + torch.erf(up / 2**0.5)) / 2
        thought = hidden @ block.down.weight.T + block.down.bias
        steps.append((x, given, q, k, v, mixed, talked, middle, thinks, hidden, thought))
        xs.append(middle + thought)

    last = standardized(xs[-1])[0] * model.norm.weight + model.norm.bias
    pooled = last[:, 0] if model.pool == "class" else last.mean(1)
    relevance = linear(pooled, model.head.weight, model.head.bias, start, linear_gamma)
    spread = torch.zeros_like(last)
    if model.pool == "class":
        spread[:, 0] = relevance
    else:
        spread = last / last.sum(1, keepdim=True) * relevance[:, None]
    relevance = normalized(xs[-1], model.norm, spread)

    found = []
    for block, step in zip(reversed(model.blocks), reversed(steps), strict=True):
        x, given, q, k, v, mixed, talked, middle, thinks, hidden, thought = step
        relevance, of_thought = added(middle, thought, relevance)
        of_hidden = linear(hidden, block.down.weight, block.down.bias, of_thought, linear_gamma)
        of_thinks = linear(thinks, block.up.weight, block.up.bias, of_hidden, linear_gamma)  # GELU hands on (9)
        relevance = relevance + normalized(middle, block.norm2, of_thinks)
        relevance, of_talked = added(x, talked, relevance)
        of_mixed = linear(mixed, block.proj.weight, block.proj.bias, of_talked, linear_gamma)
        of_all = [tokens(each) for each in attention(q, k, v, heads(of_mixed), rules)]
        of_given = linear(given, block.qkv.weight, block.qkv.bias, torch.cat(of_all, -1), linear_gamma)
        relevance = relevance + normalized(x, block.norm1, of_given)
        found.append(relevance)

    first = xs[0] - model.position
    of_patches = (added(first, model.position.expand_as(first), relevance)[0])[:, model.prefix :]
    cells = images.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(1, 2).flatten(2)
    of_cells = linear(cells, model.patches.weight.flatten(1), model.patches.bias, of_patches, conv_gamma)
    of_cells = of_cells.unflatten(1, model.grid).unflatten(-1, (3, 2, 2))
    return of_cells.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3), found[::-1]
