"""A switch of the whole process, thrown for a block: the first thread in turns it on, the last one out turns it off."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager


class Shared:
    """Decorates a generator that turns something on, yields, and turns it off in `finally`; what it makes are blocks.

    Blocks in several threads share it. Ctrl-C at any moment leaves it off, as far as what it calls can be interrupted.
    """

    def __init__(self, make: Callable[[], Generator[None]]) -> None:
        self._make, self._lock = make, threading.RLock()
        self._users: set[object] = set()
        self._on: Generator[None] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """A block in which it is on."""
        me = object()
        try:
            with self._lock:
                self._users.add(me)
                if self._on is None:
                    self._on = self._make()
                    next(self._on)
            yield
        finally:
            try:
                self._leave(me)
            finally:
                self._leave(me)  # does nothing, unless Ctrl-C came in the line before

    def __bool__(self) -> bool:
        return bool(self._users)

    def _leave(self, me: object) -> None:
        with self._lock:
            self._users.discard(me)
            if self._on is not None and not self._users:
                self._on.close()
                self._on = None
