"""Attention of each head against the rows of a transformer written by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_vit import HEADS, ByItself, by_hand, on_grid, pictures, small_vit

import whycam


def pooled(model, tokens):
    """How the attention pool at the end weighs the tokens, the mean of its heads."""
    pool, width = model.asks, tokens.shape[-1]
    weight, bias = pool.in_proj_weight, pool.in_proj_bias
    asked = (model.latent @ weight[:width].T + bias[:width]).reshape(HEADS, -1)
    keys = (tokens @ weight[width : 2 * width].T + bias[width : 2 * width]).reshape(*tokens.shape[:2], HEADS, -1)
    return (torch.einsum("hd,bkhd->bhk", asked, keys) / (width / HEADS) ** 0.5).softmax(-1).mean(1)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"kind": ByItself}, {"prefix": 2, "grid": (3, 5)}, {"suffix": 2}, {"pool": "mean"}, {"pool": "attention"},
        {"prefix": 0, "pool": "mean"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("block", [1, 0])
def test_each_head_by_hand(options, block):
    model = small_vit(**options)
    x = pictures(model)
    made = by_hand(model, x, 0)
    found = whycam.explain(model, x, "raw_attention", layer=f"blocks.{block}")
    if options.get("pool") == "class" or "pool" not in options:
        shares = torch.zeros(2, made.A[0].shape[-1], dtype=x.dtype)
        shares[:, 0] = 1
    elif options["pool"] == "mean" or block == 0:
        shares = torch.full((2, made.A[0].shape[-1]), 1 / made.A[0].shape[-1], dtype=x.dtype)
    else:
        shares = pooled(model, made.z[-1])
    rows = [torch.einsum("bq,bqk->bk", shares, made.A[block][:, head]) for head in range(HEADS)]
    expected = torch.stack([on_grid(model, each) for each in rows], 1)
    torch.testing.assert_close(found.parts, expected.detach(), rtol=2e-7, atol=1e-12)
    torch.testing.assert_close(found.maps, expected.mean(1).float().detach())
    assert (found.target, found.apart, found.cost.backwards > 1) == ((), "Head", False)


def test_heads_stand_beside_each_other_and_the_overlay_is_their_mean():
    model = small_vit().float()
    found = whycam.explain(model, pictures(model).float(), "raw_attention")[0]
    figure = found.figure()
    titles = [axes.get_title() for axes in figure.axes]
    assert [each for each in titles if each.startswith(("Head", "Part"))] == ["Head 1", "Head 2"]
    notes = [axes.get_xlabel() for axes in figure.axes if axes.get_title().startswith("Head")]
    assert notes == [f"up to {float(each.max()):.2g}" for each in found.parts[0]]
    np.testing.assert_array_equal(found.overlay(), replace(found, parts=None).overlay())
