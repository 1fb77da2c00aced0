"""How far long work is, and how long it will still take."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
else:
    Console = Any  # rich is for those who are shown something

#: Work that is done sooner is not worth a line.
_SECONDS = 3.0
#: Nothing is told of the whole before so many seconds of it.
_WARM = 0.5
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
    notebooks. Whoever wants to stop long work gives it a progress of their own, whose `tick` raises.
    """

    def __init__(self, shown: bool | None = None) -> None:
        self._shown = shown

    @property
    def shown(self) -> bool:
        """Whether somebody is watching."""
        return _watched() if self._shown is None else self._shown

    def say(self, sentence: str) -> None:
        """Tell whoever is watching."""
        if self.shown:
            _said(_console(), sentence)

    def tick(self) -> None:
        """Called between the runs of long work, and between maps."""

    @contextmanager
    def of(self, what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        """A block of work; call what it yields with the number of runs that were just done."""
        started, done = time.monotonic(), 0
        bar: Any = None
        with ExitStack() as stack:

            def advance(runs: int) -> None:
                nonlocal done, bar
                self.tick()
                done += runs
                spent = time.monotonic() - started
                # of work without a known end, how long it took so far; the first runs are slower than the rest
                left = spent if total is None else spent / max(done, 1) * (total - done)
                if bar is None and self.shown and done and spent > _WARM and left > _SECONDS:
                    count = unit if total is None else f"{total:,} {unit}, about {duration(left)}"
                    bar = _bar(stack, what, count, total)
                if bar is not None:
                    bar.update(bar.task_ids[0], completed=done)

            yield advance


def _bar(stack: ExitStack, what: str, count: str, total: int | None) -> Any:
    """Say what is run, and show a bar of it where one can move."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = _console()
    _said(console, f"{what}: {count}")
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    moves = not _live and (console.is_terminal or console.is_jupyter)
    bar = Progress(*columns, console=console, transient=True, disable=not moves)
    bar.add_task(what, total=total)
    if moves:
        stack.enter_context(occupied(console))
    return stack.enter_context(bar)


def _console() -> Console:
    from rich.console import Console

    return _live[-1] if _live else Console(stderr=True)


def _said(console: Console, sentence: str) -> None:
    """A log has its lines whole; names may hold what looks like markup."""
    console.print(sentence, highlight=False, markup=False, emoji=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as people say them: `8 s`, `3 min`, `2 h`."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _watched() -> bool:
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)
