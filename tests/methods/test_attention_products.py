"""Rollout, gradient rollout and Chefer 2 against full products of matrices on a transformer written by hand."""

import functools

import nets
import pytest
import torch
from small_vit import HEADS, WIDTH, ByItself, SmallViT, by_hand, on_grid, pictures, small_vit

import whycam

EYE = torch.eye


def product(matrices):
    """The last block's on the left."""
    return functools.reduce(lambda made, each: each @ made, matrices)


def rows_to_one(matrix):
    return matrix / matrix.sum(-1, keepdim=True)


def rollout(made, heads=lambda a: a.mean(1)):
    return product([rows_to_one(heads(a) + EYE(a.shape[-1]).to(a)) for a in made.A])


def grad_rollout(made):
    pairs = zip(made.A, made.dA, strict=True)
    return product([rows_to_one((a * d).mean(1).clamp(min=0) + EYE(a.shape[-1]).to(a)) for a, d in pairs])


def generic_attention(made):
    """As the authors add it up: R = R + mean(relu(A dA)) R."""
    relevance = EYE(made.A[0].shape[-1]).to(made.A[0]).expand(len(made.A[0]), -1, -1)
    for a, d in zip(made.A, made.dA, strict=True):
        relevance = relevance + (a * d).clamp(min=0).mean(1) @ relevance
    return relevance


ORACLES = {"attention_rollout": rollout, "grad_rollout": grad_rollout, "generic_attention": generic_attention}
products = pytest.mark.parametrize("name", ORACLES)


def close(found, expected):
    # maps are float32; what is compared is 64-bit arithmetic rounded once
    torch.testing.assert_close(found.double(), expected, rtol=2e-7, atol=1e-12)


@products
@pytest.mark.parametrize(
    "options",
    [
        {}, {"kind": ByItself}, {"prefix": 2}, {"prefix": 4}, {"prefix": 5, "grid": (3, 5)}, {"prefix": 1, "suffix": 5},
        {"blocks": 3},
    ],
    ids=str,
)  # fmt: skip
def test_read_at_the_class_token(name, options):
    model = small_vit(**options)
    x = pictures(model)
    found = whycam.explain(model, x, name, **({} if name == "attention_rollout" else {"target": 3}))
    close(found.maps, on_grid(model, ORACLES[name](by_hand(model, x, 3))[:, 0]))
    assert found.layer.location == "verified"


@products
@pytest.mark.parametrize("prefix", [0, 1])
def test_read_at_all_tokens_that_are_averaged(name, prefix):
    model = small_vit(pool="mean", prefix=prefix)
    x = pictures(model)
    found = whycam.explain(model, x, name, **({} if name == "attention_rollout" else {"target": 3}))
    close(found.maps, on_grid(model, ORACLES[name](by_hand(model, x, 3)).mean(1)))


@pytest.mark.parametrize("method", ["generic_attention", "attention_rollout"])
def test_a_pool_that_the_score_does_not_depend_on_is_refused_in_words(method):
    class Aside(SmallViT):
        def answer(self, tokens):
            super().answer(tokens)
            return self.head(self.norm(tokens).mean(1))

    model = nets.fixed(Aside(pool="attention", prefix=0))
    with pytest.raises(whycam.WhycamError, match="does not depend on it"):
        whycam.explain(model, pictures(model), method)


def pooled(model, tokens, index):
    """The attention of the pool behind the blocks and its gradient, `(batch, head, 1, token)`, written out."""
    weights, biases = model.asks.in_proj_weight.chunk(3), model.asks.in_proj_bias.chunk(3)
    with torch.enable_grad():
        q, k, v = (
            (each @ w.T + b).reshape(*each.shape[:2], HEADS, -1).transpose(1, 2)
            for each, w, b in zip(
                (model.latent.expand(len(tokens), 1, -1), tokens, tokens), weights, biases, strict=True
            )
        )
        attention = (q @ k.mT / (WIDTH / HEADS) ** 0.5).softmax(-1).detach().requires_grad_()
        out = (attention @ v).transpose(1, 2).reshape(len(tokens), 1, WIDTH)
        logits = model.head(out @ model.asks.out_proj.weight.T + model.asks.out_proj.bias)[:, 0]
        (gradients,) = torch.autograd.grad(logits[:, index].sum(), attention)
    return attention.detach(), gradients


STEPS = {
    "attention_rollout": lambda a, d: a.mean(1), "grad_rollout": lambda a, d: (a * d).mean(1).clamp(min=0),
    "generic_attention": lambda a, d: (a * d).clamp(min=0).mean(1),
}  # fmt: skip


@products
def test_read_by_a_pool_that_attends(name):
    model = small_vit(pool="attention", prefix=0)
    x = pictures(model)
    made = by_hand(model, x, 3)
    own = STEPS[name](*pooled(model, made.z[-1], 3))
    found = whycam.explain(model, x, name, **({} if name == "attention_rollout" else {"target": 3}))
    close(found.maps, on_grid(model, (own @ ORACLES[name](made))[:, 0]))


class Ensemble(torch.nn.Module):
    """Two transformers side by side, whose answers are added up."""

    def __init__(self):
        super().__init__()
        self.one, self.two = SmallViT(), SmallViT()

    def forward(self, x):
        return self.one(x) + self.two(x)


@products
@pytest.mark.parametrize("branch", ["one", "two"])
def test_of_two_branches_that_of_the_layer_alone_is_followed_and_the_other_named(name, branch):
    model = nets.fixed(Ensemble())
    mine = getattr(model, branch)
    x = pictures(mine)
    target = {} if name == "attention_rollout" else {"target": 3}
    found = whycam.explain(model, x, name, layer=f"{branch}.blocks.1", **target)
    close(found.maps, on_grid(mine, ORACLES[name](by_hand(mine, x, 3))[:, 0]))
    aside = "two" if branch == "one" else "one"
    assert any(f"{aside}.blocks.0' is not followed" in note for note in found.notes)


def test_legrad_of_layers_in_two_branches_is_refused_in_words():
    model = nets.fixed(Ensemble())
    with pytest.raises(whycam.WhycamError, match="branches with a last block each"):
        whycam.explain(model, pictures(model.one), "legrad", target=3, layer=["one.blocks.1", "two.blocks.1"])
