"""Keras' TensorFlow backend: tensors cross by DLPack, gradients are followed by a `GradientTape`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
import torch
from torch import Tensor

from whycam.network.keras.guided import rectified

#: Memory that starts elsewhere than at a multiple of this is copied, since TensorFlow's kernels take it for granted.
_ALIGNED = 64


def is_tensor(value: Any) -> bool:
    """Whether this is a tensor of the backend."""
    return isinstance(value, tf.Tensor)


def to_torch(value: Any) -> Tensor:
    """The same memory as a torch tensor; a copy where there is no other way."""
    try:
        return torch.utils.dlpack.from_dlpack(tf.experimental.dlpack.to_dlpack(value))
    except Exception:  # kinds of numbers that DLPack has no name for, as TensorFlow says in several ways
        return torch.from_numpy(value.numpy().copy())


def from_torch(tensor: Tensor) -> Any:
    """The same memory as a tensor of the backend; a copy where it is not laid out in order."""
    plain = tensor.detach().contiguous()
    if plain.dtype == torch.bool or not plain.numel():
        return tf.convert_to_tensor(plain.cpu().numpy())
    return tf.experimental.dlpack.from_dlpack(
        torch.utils.dlpack.to_dlpack(plain.clone() if plain.data_ptr() % _ALIGNED else plain)  # type: ignore[attr-defined]
    )


class Tape:
    """One forward pass, whose output can be differentiated with respect to its `sources`."""

    def __init__(self) -> None:
        self.tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        self.sources: list[Tensor] = []
        self.points: list[Any] = []
        self.outputs: list[Any] = []

    def run(self, function: Callable[[], list[Any]]) -> list[Any]:
        """What the function returns, followed from the first source on."""
        with self.tape:
            self.outputs = function()
        return self.outputs

    def concrete(self, value: Any) -> Any:
        """The value itself, which is known at once."""
        return value

    def join(self, value: Any | None, tensor: Tensor) -> Any:
        """A torch tensor as a source, in the place of what the network computed there."""
        given = from_torch(tensor)
        if value is None:
            point = tf.identity(given)
        else:

            @tf.custom_gradient
            def swapped(value: Any) -> tuple[Any, Callable[[Any], Any]]:
                return tf.identity(given), lambda gradient: gradient

            point = swapped(value)
        self.tape.watch(point)
        self.sources.append(tensor)
        self.points.append(point)
        return point

    def gradients(self, along: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The gradient at each source of the outputs, weighed by what comes `along`; `None` where there is none."""
        pairs = [(out, from_torch(each)) for out, each in zip(self.outputs, along, strict=True) if each is not None]
        found = self.tape.gradient([out for out, _ in pairs], self.points, [each for _, each in pairs])
        return [None if each is None else to_torch(tf.convert_to_tensor(each)).clone() for each in found]


@contextmanager
def guided_relu() -> Iterator[None]:
    """Until the block ends, this thread's ReLUs pass back positive gradients only; other activations are refused."""

    def guided(function: Callable[[Any], Any], value: Any) -> Any:
        made = function(value)

        @tf.custom_gradient
        def positive(made: Any) -> tuple[Any, Callable[[Any], Any]]:
            return tf.identity(made), lambda gradient: tf.maximum(gradient, 0)

        return positive(made)

    with rectified(guided):
        yield


def snapshot(variable: Any) -> Any:
    """A variable's value, to be compared and put back."""
    return variable.value.numpy().copy()


def restore(variable: Any, value: Any) -> None:
    """Put a value back where it has changed."""
    if not np.array_equal(variable.value.numpy(), value, equal_nan=value.dtype.kind == "f"):
        variable.assign(value)
