"""Networks that are no longer what they were: randomized from the top down, or deaf to a constant."""

from collections.abc import Iterator

from torch import Tensor, nn


def randomized(module: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """A private copy with one layer more randomized each time, from the top down: (the layer's name, the copy)."""
    raise NotImplementedError


def shifted(module: nn.Module, picture: Tensor, constant: float) -> nn.Module:
    """A private copy that takes `constant` off its picture first."""
    raise NotImplementedError
