"""Masks and what shows through them, in numpy and loops, and networks to score them, for oracles of methods."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]


def resized(values: np.ndarray, size: Sequence[int], *, corners: bool = False) -> np.ndarray:
    """Linear interpolation between pixel centers, or from corner to corner, axis by axis."""
    for axis, length in enumerate(size):
        rows = np.moveaxis(values, axis, 0)
        made = []
        for i in range(length):
            at = max((i + 0.5) * len(rows) / length - 0.5, 0)
            at = i * (len(rows) - 1) / max(1, length - 1) if corners else at
            low = min(int(at), len(rows) - 1)
            high = min(low + 1, len(rows) - 1)
            made.append(rows[low] * (1 - (at - low)) + rows[high] * (at - low))
        values = np.moveaxis(np.stack(made), 0, axis)
    return values


def unit(values: np.ndarray) -> np.ndarray:
    """Shifted and scaled to [0, 1]; 0 where flat."""
    low, high = values.min(), values.max()
    return np.zeros_like(values) if low == high else (values - low) / (high - low)


def network(generator: torch.Generator, shape: Sequence[int], strength: float = 1.0) -> Network:
    """A score of each sample by itself that neither adds up over pixels nor keeps signs."""
    first, second = torch.randn(2, *shape, generator=generator, dtype=torch.float64)

    def net(inputs: Tensor) -> Tensor:
        rows = inputs.double().flatten(1)
        mixed = (rows * first.flatten()).relu().sum(1) + 0.3 * (rows @ second.flatten()) ** 2
        return (strength * (mixed - 0.5)).to(inputs.dtype)

    return net


class Scored:
    """`score`, given variants one by one; keeps how many there were."""

    def __init__(self, net: Network) -> None:
        self.net, self.runs = net, 0

    def __call__(self, variants, *, probability: bool = False) -> Tensor:
        rows = [self.net(each) for each in variants]
        assert len(rows) == len(variants)
        self.runs += len(rows)
        return torch.stack(rows).sigmoid() if probability else torch.stack(rows)


def of_one(net: Network, picture: np.ndarray, *, probability: bool = False) -> float:
    """The score of one picture."""
    value = net(torch.from_numpy(picture)[None])
    return float(value.sigmoid() if probability else value)


def softmax(values: Sequence[float]) -> np.ndarray:
    """In numpy."""
    powers = np.exp(np.array(values) - max(values))
    return powers / powers.sum()
