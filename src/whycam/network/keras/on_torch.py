"""Keras' torch backend: its tensors are torch's, and autograd follows them by itself."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def is_tensor(value: Any) -> bool:
    """Whether this is a tensor of the backend."""
    return isinstance(value, Tensor)


def to_torch(value: Tensor) -> Tensor:
    """The tensor itself."""
    return value


def from_torch(tensor: Tensor) -> Tensor:
    """The tensor itself."""
    return tensor


class Tape:
    """One forward pass, which needs no help here."""

    sources: Sequence[Tensor] = ()

    def run(self, function: Callable[[], list[Any]]) -> list[Any]:
        """What the function returns."""
        return function()

    def concrete(self, value: Tensor) -> Tensor:
        """The value itself."""
        return value

    def join(self, value: Tensor | None, tensor: Tensor) -> Tensor:
        """The tensor, which autograd knows."""
        return tensor

    def gradients(self, along: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Never asked for: autograd follows the sources by itself."""
        raise NotImplementedError


@contextmanager
def guided_relu() -> Iterator[None]:
    """Nothing to do: torch's functions are looked at by `network.guided`."""
    yield


def snapshot(variable: Any) -> Any:
    """A variable's value, to be compared and put back."""
    return variable.value.detach().clone()


def restore(variable: Any, value: Any) -> None:
    """Put a value back where it has changed."""
    if not torch.equal(variable.value.detach(), value):
        variable.value.data.copy_(value)
