"""A Keras model is left as it was found: what layers write while they run, random seeds among it, is put back."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from keras.src.backend.common import global_state

from whycam.network.keras.layers import everything


@contextmanager
def kept(model: Any, backend: ModuleType) -> Iterator[None]:
    """A block in which running the model leaves no trace on it, nor on Keras' global random seed."""
    found = list(_states(model))
    values = [backend.snapshot(variable) for variable in found]
    flags = [(layer, layer._called) for layer in everything(model)]
    had = global_state.get_global_attribute("global_seed_generator") is not None
    try:
        yield
    finally:
        for variable, value in zip(found, values, strict=True):
            backend.restore(variable, value)
        for layer, called in flags:
            layer._called = called
        if not had and global_state.get_global_attribute("global_seed_generator") is not None:
            global_state.set_global_attribute("global_seed_generator", None)


def _states(model: Any) -> Iterator[Any]:
    """The variables that layers keep beside their weights: statistics, counters and the states of random generators.

    Weights that are merely frozen are not among them: nothing writes to those.
    """
    found = {id(each): each for layer in everything(model) for each in layer._non_trainable_variables}
    yield from (found | {id(each): each for each in seeds(model)}).values()


def seeds(model: Any) -> list[Any]:
    """The variables that random numbers come from: of the layers, and of Keras where nobody named a seed."""
    generators = [global_state.get_global_attribute("global_seed_generator")]
    for layer in everything(model):
        generators += list(layer._seed_generators)
    return [generator.state for generator in generators if generator is not None]
