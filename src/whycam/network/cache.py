"""What was once found out about a network, kept for its next call with inputs of the same shape."""

import weakref
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from whycam.network.model_tree import tree_of
from whycam.network.pytree import tensors

Value = TypeVar("Value")
#: Every table of what was found out about networks.
_TABLES: list[weakref.WeakKeyDictionary[nn.Module, Any]] = []


def table() -> "weakref.WeakKeyDictionary[nn.Module, Any]":
    """An empty table by network, which goes with the network and is emptied by `forget`."""
    _TABLES.append(weakref.WeakKeyDictionary())
    return _TABLES[-1]


def forget(model: nn.Module) -> None:
    """Drop all that was found out about a network."""
    for each in _TABLES:
        each.pop(model, None)


class Cache(Generic[Value]):
    """A small table for each network and shape of inputs; it goes when the network goes, or changes its modules."""

    def __init__(self) -> None:
        self._tables: weakref.WeakKeyDictionary[nn.Module, dict[Any, dict[Any, Value]]] = table()

    def of(self, model: nn.Module, inputs: Any) -> dict[Any, Value]:
        """The table for this network, as it is built and set to train now, and for inputs of these shapes."""
        tables = self._tables.setdefault(model, {})
        key = _key(model, inputs)
        if key not in tables:
            tables[key] = {}
        return tables[key]


def _key(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.shape[1:], tree_of(model).code
    return tuple((path, tensor.shape[1:]) for path, tensor in tensors(inputs)), tree_of(model).code
