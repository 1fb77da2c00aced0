"""Tiny networks in float64, and what metrics' oracles ask of them, one picture at a time."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Counted(nn.Module):
    """A network that counts the rows that it answered."""

    rows = 0

    def forward(self, pictures: Tensor) -> Tensor:
        self.rows += len(pictures)
        return self.answer(pictures)

    def answer(self, pictures: Tensor) -> Tensor:
        raise NotImplementedError


class FourPixels(Counted):
    """Class scores that are linear in four pixels of one color: `(class, 4)` weights, and biases."""

    def __init__(self, weights: Any, biases: Any = 0.0) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64))
        self.register_buffer("biases", torch.tensor(biases, dtype=torch.float64))

    def answer(self, pictures: Tensor) -> Tensor:
        return pictures.flatten(1) @ self.weights.T + self.biases


class Small(Counted):
    """A convolution, a bend, the mean over locations and a linear layer: three classes, any number of axes."""

    def __init__(self, colors: int = 3, axes: int = 2, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
        self.body = convolution(colors, 5, 3, padding=1, dtype=torch.float64)
        self.head = nn.Linear(5, 3, dtype=torch.float64)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)

    def answer(self, pictures: Tensor) -> Tensor:
        return self.head(self.body(pictures).tanh().flatten(2).mean(2))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scores_of(net: nn.Module, picture: Any) -> np.ndarray:
    """The class scores of one picture `(color, *space)`."""
    with torch.no_grad():
        return net(torch.as_tensor(picture)[None])[0].numpy()


def probability_of(net: nn.Module, picture: Any, index: int) -> float:
    """One picture's probability of a class."""
    powers = np.exp(scores_of(net, picture))
    return float(powers[index] / powers.sum())


def by_evidence(values: np.ndarray) -> list[tuple[int, ...]]:
    """The places of a map without ties, the highest value first."""
    assert len(np.unique(values)) == values.size
    return sorted(np.ndindex(*values.shape), key=lambda at: -values[at])


def replaced(picture: np.ndarray, places: Any, behind: np.ndarray) -> np.ndarray:
    """A copy of a picture with another one's colors in these places."""
    edited = picture.copy()
    for at in places:
        edited[(slice(None), *at)] = behind[(slice(None), *at)]
    return edited


def trapezoids(heights: list[float], places: list[float]) -> float:
    """The area under a polygon."""
    steps = zip(heights[:-1], heights[1:], places[:-1], places[1:], strict=True)
    return sum((left + right) / 2 * (end - start) for left, right, start, end in steps)


#: By how many axes a neighbor lies off: the paper's for pictures; for others the same halving, of a sum of 1.
_WEIGHTS = {1: [1 / 2], 2: [1 / 6, 1 / 12], 3: [1 / 14, 1 / 28, 1 / 56]}


def imputed(picture: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Each removed pixel is the weighted mean of the neighbors it has, whether these were removed or not."""
    places = [at for at in np.ndindex(*removed.shape) if removed[at]]
    matrix, right = np.zeros((len(places), len(places))), np.zeros((len(places), len(picture)))
    for row, at in enumerate(places):
        for step in itertools.product((-1, 0, 1), repeat=removed.ndim):
            there = tuple(np.add(at, step))
            if not any(step) or any(not 0 <= i < side for i, side in zip(there, removed.shape, strict=True)):
                continue
            weight = _WEIGHTS[removed.ndim][sum(map(abs, step)) - 1]
            matrix[row, row] += weight
            if removed[there]:
                matrix[row, places.index(there)] -= weight
            else:
                right[row] += weight * picture[(slice(None), *there)]
    made = picture.copy()
    for at, colors in zip(places, np.linalg.solve(matrix, right), strict=True):
        made[(slice(None), *at)] = colors
    return made


class Seen:
    """`score` of a pure metric: answers by a function of pictures, and keeps every variant that it is shown."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function, self.variants = function, []

    def __call__(self, variants: Any) -> Tensor:
        made = [each.clone() for each in variants]
        self.variants += made
        return torch.stack([self.function(each) for each in made])


def by_gradient(module: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    """A method of no library, as Quantus calls one: the picture times the class's gradient, summed over the colors."""
    with torch.enable_grad():
        leaf = inputs.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(module(leaf).gather(1, classes[:, None]).sum(), leaf)
    return (slope * inputs).sum(1).detach()


def spearman(one: Tensor, other: Tensor) -> float:
    """The correlation of two maps' ranks, which values that tie share."""
    values = [each.flatten().tolist() for each in (one, other)]
    ranks = [[sum(a < b for a in each) + sum(a == b for a in each) / 2 for b in each] for each in values]
    middle = len(values[0]) / 2
    off = [[rank - middle for rank in each] for each in ranks]
    both, first, second = (sum(a * b for a, b in zip(off[i], off[j], strict=True)) for i, j in ((0, 1), (0, 0), (1, 1)))
    return both / math.sqrt(first * second)
