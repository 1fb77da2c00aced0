"""Counted operations."""

import torch
import torch.nn.functional as F
from torch import nn

from whycam.network.diagnosis.flops import counted


def test_products_and_convolutions_forwards_and_backwards():
    layer, x = nn.Linear(7, 3), torch.rand(2, 7, requires_grad=True)
    with counted() as counter:
        y = layer(x)
    assert counter.get_total_flops() == 2 * 2 * 7 * 3
    with counted() as counter:
        torch.autograd.grad(y.sum(), x)
    assert counter.get_total_flops() == 2 * 2 * 3 * 7


def test_attention_is_counted_on_cpus_too():
    batch, heads, queries, keys, width = 2, 3, 5, 4, 7
    q = torch.rand(batch, heads, queries, width, requires_grad=True)
    k, v = torch.rand(2, batch, heads, keys, width)
    products = batch * heads * queries * keys * width
    with counted() as counter:
        y = F.scaled_dot_product_attention(q, k, v)
    assert counter.get_total_flops() == 2 * 2 * products  # q k and the weighted sum of v
    with counted() as counter:
        torch.autograd.grad(y.sum(), q)
    assert counter.get_total_flops() == 5 * 2 * products  # as torch counts it: q k once more, and four derivatives
