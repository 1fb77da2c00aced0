"""Methods are written for inputs `(N, C, *space)`; what they read and ask is turned for models of another order."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

from torch import Tensor

from whycam.kit.arrays import Variants, lazily
from whycam.network.input_axes import as_given, channels_first


def turned(name: str, value: Any, space: tuple[int, ...]) -> Any:
    """One quantity, of an input whose axes of space are these, as a method reads it."""
    if name in ("inputs", "input_gradients", "guided_gradients"):
        return channels_first(value, space)
    if name == "score":
        return lambda variants, **options: value(_given(variants, space), **options)
    if name == "trace":
        return lambda variants: value(_given(variants, space))
    if name == "relevance":
        return lambda **options: channels_first(value(**options), space)
    if name == "differentiate":
        return _differentiate(value, space)
    return value


def _differentiate(function: Callable[..., Any], space: tuple[int, ...]) -> Callable[..., Any]:
    def differentiate(inputs: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        scores, gradients = function(as_given(inputs, space), **options)
        return scores, channels_first(gradients, space)

    return differentiate


def _given(variants: Iterable[Tensor], space: tuple[int, ...]) -> Iterable[Tensor]:
    if isinstance(variants, Variants):
        return lazily(lambda each: as_given(variants.make(each), space), variants.over, shared=variants.shared)
    if isinstance(variants, Sized):
        every: Iterator[Tensor] = iter(variants)
        return lazily(lambda _: as_given(next(every), space), range(len(variants)))
    return (as_given(each, space) for each in variants)
