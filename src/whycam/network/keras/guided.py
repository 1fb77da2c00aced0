"""Guided backprop's rule at the level of a backend's functions, where torch's are not the ones that run."""

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from whycam.errors import WhycamError

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
_lock = threading.Lock()
_users = 0
_originals: dict[str, Callable[..., Any]] = {}


@contextmanager
def rectified(rule: Rule) -> Iterator[None]:
    """Until the block ends, this thread's ReLUs follow the rule, and other activations raise a `WhycamError`.

    The backend's functions are patched while any thread is in such a block; other threads' calls pass as they are.
    """
    global _users
    home = importlib.import_module("keras.src.backend").nn
    with _lock:
        if not _users:
            for name in (*_RECTIFIERS, *_OTHERS):
                if (function := getattr(home, name, None)) is not None:
                    _originals[name] = function
                    setattr(home, name, _looked_at(name, function))
        _users += 1
    _here.now.append(rule)
    try:
        yield
    finally:
        _here.now.pop()
        with _lock:
            _users -= 1
            if not _users:
                for name, function in _originals.items():
                    setattr(home, name, function)
                _originals.clear()


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
