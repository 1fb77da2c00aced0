"""Guided backprop's rule at the level of a backend's functions, where torch's are not the ones that run."""

import importlib
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from whycam.errors import WhycamError
from whycam.network.shared import Shared

#: (function, value) -> the function of the value, with the rule.
Rule: TypeAlias = Callable[[Callable[[Any], Any], Any], Any]

_RECTIFIERS = ("relu", "relu6")
_OTHERS = (
    "gelu", "silu", "elu", "selu", "celu", "leaky_relu", "softplus", "sigmoid", "log_sigmoid", "hard_sigmoid",
    "hard_silu", "hard_tanh", "soft_shrink", "hard_shrink", "tanh_shrink", "sparse_plus", "squareplus", "softsign",
    "softmax", "log_softmax", "glu", "threshold",
)  # fmt: skip


class _Rules(threading.local):
    def __init__(self) -> None:
        self.now: list[Rule] = []


_here = _Rules()


@Shared
def _patched() -> Generator[None]:
    home = importlib.import_module("keras.src.backend").nn
    known = {name: getattr(home, name) for name in (*_RECTIFIERS, *_OTHERS) if hasattr(home, name)}
    try:
        for name, function in known.items():
            setattr(home, name, _looked_at(name, function))
        yield
    finally:
        for name, function in known.items():
            setattr(home, name, function)


@contextmanager
def rectified(rule: Rule) -> Iterator[None]:
    """Until the block ends, this thread's ReLUs follow the rule, and other activations raise a `WhycamError`.

    The backend's functions are patched while any thread is in such a block; other threads' calls pass as they are.
    """
    with _patched():
        _here.now.append(rule)
        try:
            yield
        finally:
            _here.now.pop()


def _looked_at(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not _here.now:
            return function(*args, **kwargs)
        if name in _RECTIFIERS:
            return _here.now[-1](function, *args, **kwargs)
        raise WhycamError(
            f"guided backprop is defined for ReLU alone, and this network uses {name}; use a method made for any "
            "network, such as grad_cam or layer_cam."
        )

    return run
