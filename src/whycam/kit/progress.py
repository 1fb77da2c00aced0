"""How far long work is, and how long it will still take."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
else:
    Console = Any  # rich is for those who are shown something

#: Work that is done sooner is not worth a line.
_SECONDS = 3.0
#: First runs are slower than the rest: they say how long that takes only where the second would be long in coming.
_LONG = 10.0
#: The consoles on which a bar moves at this moment. Two at once would tear each other: a terminal has one last line.
_live: list[Console] = []


@contextmanager
def occupied(console: Console) -> Iterator[None]:
    """A block in which a bar of the caller's moves on this console: lines go above it, and no other bar is shown."""
    _live.append(console)
    try:
        yield
    finally:
        _live.remove(console)


class Progress:
    """Says on standard error what is run, how often, and about how long it will take, then shows a bar.

    Nothing is shown of work that takes less than three seconds. With `shown` left out, it is shown on terminals and in
    notebooks.
    """

    def __init__(self, shown: bool | None = None) -> None:
        self.shown = _watched() if shown is None else shown

    @contextmanager
    def of(self, what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        """A block of work; call what it yields with the number of runs that were just done."""
        bar = _Bar(what, total, unit) if self.shown else None
        try:
            yield bar.advance if bar is not None else _ignored
        finally:
            if bar is not None:
                bar.close()


class _Bar:
    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.started = time.monotonic()
        self.warm: float | None = None  # when the first runs were done
        self.first = self.done = 0
        self.said = False
        self.bar: Any = None
        self.task: Any = None

    def advance(self, runs: int) -> None:
        self.done += runs
        if not self.done:
            return
        now = time.monotonic()
        if self.warm is None:
            self.warm, self.first = now, self.done
        telling = self.total is None or self.done > self.first or now - self.started > _LONG
        if not self.said and telling and self._left(now) > _SECONDS:
            self.said = True
            self._show(now)
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done)

    def _left(self, now: float) -> float:
        """About how many seconds are left; of work without a known end, how many it took so far."""
        if self.total is None:
            return now - self.started
        measured = self.warm is not None and self.done > self.first
        since = (now - self.warm) / (self.done - self.first) if measured else 0.0  # type: ignore[operator]
        return (since or (now - self.started) / self.done) * (self.total - self.done)

    def _show(self, now: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = _live[-1] if _live else Console(stderr=True)
        count = f"{self.total:,} {self.unit}" if self.total is not None else self.unit
        about = f", about {duration(self._left(now))}" if self.total is not None else ""
        # a log has its lines whole; names may hold what looks like markup
        console.print(f"{self.what}: {count}{about}", highlight=False, markup=False, emoji=False, soft_wrap=True)
        if _live or not (console.is_terminal or console.is_jupyter):
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, transient=True)
        self.task = self.bar.add_task(self.what, total=self.total)
        _live.append(console)
        self.bar.start()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            _live.remove(self.bar.console)


def duration(seconds: float) -> str:
    """Seconds as people say them: `8 s`, `3 min`, `2 h`."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _ignored(_: int) -> None:
    pass


def _watched() -> bool:
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)
