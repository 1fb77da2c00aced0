"""Attention read off autograd's graph, which shares no code with the package's way of seeing it.

A network runs with fused attention turned off and gradients on. Then every softmax over a last axis is a node of the
graph, and so is the product with the values that it leads to: that node has saved what multiplies the values, and the
gradient on its edge is that with respect to it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.nn.attention import SDPBackend, sdpa_kernel

#: Nodes between a softmax and the product with the values: what moves numbers, then what mixes heads or scales.
_BETWEEN = (
    "View", "UnsafeView", "Reshape", "Expand", "Permute", "Transpose", "TBackward", "Clone", "ToCopy", "Squeeze",
    "Unsqueeze", "Slice", "Select", "Split", "Alias", "AsStrided", "Where", "MmBackward", "Addmm", "Convolution", "Add",
    "Mul", "Div", "BatchNorm",
)  # fmt: skip


class Product(NamedTuple):
    """One product of weights and values: both `(matrix, query, key)`; the gradient is 0 where the score has none."""

    weights: Tensor
    gradients: Tensor


class Read(NamedTuple):
    """The answer, every product in running order, and how many softmaxes lead to none or are over another axis."""

    output: Tensor
    products: list[Product]
    alone: int
    others: int = 0


def score(output: Tensor) -> Tensor:
    """A sum in which every number counts differently."""
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (output * weights.to(output)).sum()


def read(run: Callable[[], Tensor]) -> Read:
    """What `run`, which gives a network's answer, does with attention."""
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        output = run()
    feeds: dict[Any, list[tuple[Any, int]]] = {}
    todo, known = [output.grad_fn], set()
    while todo:
        node = todo.pop()
        if node in known:
            continue
        known.add(node)
        for number, (source, _) in enumerate(node.next_functions):
            if source is not None:
                feeds.setdefault(source, []).append((node, number))
                todo.append(source)
    every = [node for node in known if node.name().startswith(("SoftmaxBackward", "SafeSoftmaxBackward"))]
    softmaxes = [node for node in every if _over_last_axis(node)]
    led = [_led_to(node, feeds) for node in softmaxes]
    ends = sorted({end for each in led for end in each}, key=lambda end: end[0]._sequence_nr())
    weights = [(node._saved_self, node._saved_mat2.mT)[side].detach().clone() for node, side in ends]
    edges = [GradientEdge(*node.next_functions[side]) for node, side in ends]
    slopes = torch.autograd.grad(score(output), edges, allow_unused=True) if edges else ()
    slopes = [
        torch.zeros_like(each) if slope is None else (slope, slope.mT)[side]
        for slope, each, (_, side) in zip(slopes, weights, ends, strict=True)
    ]
    products = [Product(*pair) for pair in zip(weights, slopes, strict=True)]
    return Read(output.detach(), products, sum(not each for each in led), len(every) - len(softmaxes))


def _over_last_axis(node: Any) -> bool:
    last = node._saved_result.ndim - 1
    return node._saved_dim in (last, -1, 2**64 - 1)  # a negative axis is saved without its sign


def _led_to(softmax: Any, feeds: dict[Any, list[tuple[Any, int]]]) -> list[tuple[Any, int]]:
    """The products of two matrices that a softmax comes to, and which factor it is: the nearest."""
    found, level, known = [], [softmax], {softmax}
    product = "MmBackward" if softmax._saved_result.ndim == 2 else "BmmBackward"
    while level and not found:
        following = [each for node in level for each in feeds.get(node, []) if each[0] not in known]
        known.update(node for node, _ in following)
        found = [each for each in following if each[0].name().startswith(product)]
        level = [node for node, _ in following if node.name().startswith(_BETWEEN)]
    return found
