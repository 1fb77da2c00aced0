"""Keras' JAX backend: tensors cross by DLPack, gradients are followed by `jax.vjp`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor

from whycam.network.keras.calls import UnseenError
from whycam.network.keras.guided import rectified

_ALIGNED = 64


def is_tensor(value: Any) -> bool:
    """Whether this is a tensor of the backend."""
    return isinstance(value, jax.Array)


def to_torch(value: Any) -> Tensor:
    """The same memory as a torch tensor, once it is computed; a copy where there is no other way."""
    value = jax.block_until_ready(value)
    try:
        return torch.utils.dlpack.from_dlpack(value)
    except Exception:  # kinds of numbers that DLPack has no name for
        return torch.from_numpy(np.array(value))


def from_torch(tensor: Tensor) -> Any:
    """The same memory as an array of the backend; a copy where it is not laid out in order."""
    plain = tensor.detach().contiguous()
    if plain.dtype == torch.bool or not plain.numel() or jax.default_backend() != "cpu":
        return jnp.asarray(plain.cpu().numpy())  # where JAX computes, and free to go elsewhere
    return jnp.from_dlpack(plain.clone() if plain.data_ptr() % _ALIGNED else plain)


class Tape:
    """One forward pass, whose output can be differentiated with respect to its `sources`.

    What is computed from a source is a tracer, whose value JAX hands to the forward rule of a function with a rule of
    its own for gradients. That is where values are looked at and replaced, so one pass does for all.
    """

    def __init__(self) -> None:
        self.sources: list[Tensor] = []
        self.found: dict[int, Any] = {}
        self.token: Any = None
        self.outputs: list[Any] = []
        self.back: Callable[[Any], Any] | None = None

    def run(self, function: Callable[[], list[Any]]) -> list[Any]:
        """What the function returns, followed from the first source on."""

        def followed(token: Any) -> list[Any]:
            self.token = token
            return function()

        self.outputs, self.back = jax.vjp(followed, jnp.zeros(()))
        self.token = None
        return self.outputs

    def concrete(self, value: Any) -> Any:
        """The value behind a tracer."""
        if not isinstance(value, jax.core.Tracer):
            return value
        seen: list[Any] = []

        @jax.custom_vjp
        def look(value: Any) -> Any:
            return value

        def forward(value: Any) -> tuple[Any, None]:
            seen.append(value)
            return value, None

        look.defvjp(forward, lambda _, gradient: (gradient,))
        look(value)
        if not seen or isinstance(seen[0], jax.core.Tracer):
            raise UnseenError("a layer inside code that JAX compiles cannot be looked at")
        return seen[0]

    def join(self, value: Any | None, tensor: Tensor) -> Any:
        """A torch tensor as a source, in the place of what the network computed there."""
        number = len(self.sources)
        given = from_torch(tensor)
        found = self.found

        @jax.custom_vjp
        def swapped(value: Any, token: Any) -> Any:
            return given

        def backward(_: None, gradient: Any) -> tuple[Any, Any]:
            found[number] = gradient
            return gradient, jnp.zeros(())

        swapped.defvjp(lambda value, token: (given, None), backward)
        self.sources.append(tensor)
        return swapped(given if value is None else value, self.token)

    def gradients(self, along: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The gradient at each source of the outputs, weighed by what comes `along`; `None` where there is none."""
        assert self.back is not None  # since the pass ended
        self.found.clear()
        pairs = zip(self.outputs, along, strict=True)
        self.back([jnp.zeros_like(out) if each is None else from_torch(each) for out, each in pairs])
        numbers = range(len(self.sources))
        return [to_torch(self.found[each]).clone() if each in self.found else None for each in numbers]


@contextmanager
def guided_relu() -> Iterator[None]:
    """Until the block ends, this thread's ReLUs pass back positive gradients only; other activations are refused."""

    @jax.custom_vjp
    def positive(value: Any) -> Any:
        return value

    positive.defvjp(lambda value: (value, None), lambda _, gradient: (jnp.maximum(gradient, 0),))
    with rectified(lambda function, value: positive(function(value))):
        yield


def snapshot(variable: Any) -> Any:
    """A variable's value, to be compared and put back: arrays of this backend never change."""
    return variable.value


def restore(variable: Any, value: Any) -> None:
    """Put a value back where it has changed."""
    if variable.value is not value:
        variable.assign(value)
