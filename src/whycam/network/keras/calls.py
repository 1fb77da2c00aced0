"""Calls of Keras layers, seen while a network runs: the one place where Keras itself is patched."""

import importlib
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from whycam.network.shared import Shared


@runtime_checkable
class Session(Protocol):
    """What is asked in a layer's place."""

    def called(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the layer returns."""


class UnseenError(RuntimeError):
    """A tensor has no value yet, since the code around it is being compiled."""


class _Sessions(threading.local):
    def __init__(self) -> None:
        self.stack: list[Session] = []


_here = _Sessions()
_original: Callable[..., Any] | None = None


def original(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a layer as Keras does."""
    assert _original is not None  # only sessions call it
    return _original(layer, *args, **kwargs)


def current() -> Session | None:
    """The innermost session of this thread."""
    return _here.stack[-1] if _here.stack else None


@Shared
def _patched() -> Generator[None]:
    global _original
    kind = importlib.import_module("keras").layers.Layer
    _original = kind.__call__
    try:
        kind.__call__ = _call
        yield
    finally:
        kind.__call__ = _original


@contextmanager
def intercepted(session: Session) -> Iterator[None]:
    """Until the block ends, this thread's calls of layers go to the session; other threads' calls pass as they are.

    Keras' class is patched while any thread is in such a block and is itself again afterwards. No layer is changed.
    """
    with _patched():
        _here.stack.append(session)
        try:
            yield
        finally:
            _here.stack.pop()


def _call(layer: Any, *args: Any, **kwargs: Any) -> Any:
    session = current()
    return original(layer, *args, **kwargs) if session is None else session.called(layer, args, kwargs)
