"""What a command prints: results on stdout, progress and problems on stderr, one JSON document when asked."""

import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fsdecode
from typing import Any, Literal

import typer
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from whycam.errors import WhycamError
from whycam.kit.files import for_json
from whycam.kit.progress import occupied

#: Not every image was explained; the command itself was wrong; stopped by Ctrl-C.
SOME_FAILED, USAGE, INTERRUPTED = 1, 2, 130

#: Where nobody looks, a line is as long as it is: wrapping would tear file names apart.
_ENDLESS = 100_000

_STYLES = {"ok": "green", "non-finite": "bold red"}


class Output:
    """Printing for one command. `json` keeps stdout for the document, `quiet` keeps everything but problems back."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json, self.quiet = json, quiet
        self.results, self.problems = _console(stderr=False), _console(stderr=True)

    def show(self, *parts: RenderableType) -> None:
        """Print results for people."""
        if not self.json and not self.quiet:
            for part in parts:
                if self.results.is_terminal:
                    self.results.print(part)
                else:  # tables pad their lines
                    with self.results.capture() as printed:
                        self.results.print(part)
                    lines = printed.get().splitlines()
                    self.results.file.write("".join(f"{line.rstrip()}\n" for line in lines))

    def fits(self, part: RenderableType) -> bool:
        """Whether results are shown so wide that this needs no wrapping."""
        unbounded = self.results.options.update(width=_ENDLESS)
        return Measurement.get(self.results, unbounded, part).maximum <= self.results.width

    def document(self, value: Mapping[str, Any]) -> None:
        """Print results for programs, if they are asked for."""
        if self.json:
            sys.stdout.write(json.dumps(for_json(value), indent=2, allow_nan=False) + "\n")

    def problem(self, sentence: str) -> None:
        """Print what went wrong."""
        self.problems.print(text(f"whycam: {sentence}"))

    def remark(self, sentence: str) -> None:
        """Print what a person may want to know, but nothing went wrong."""
        if not self.quiet:
            self.problem(sentence)

    def listed(self, what: str, reasons: Sequence[str], most: int | None = None) -> None:
        """Print problems of one sort: one as a line, several as a list, of which so many at most are named."""
        if len(reasons) == 1:
            self.problem(reasons[0])
        elif reasons:
            self.problem(f"{len(reasons):,} {what}:")
            for reason in reasons[:most]:
                self.problems.print(text(f"  {reason}"))
            if more := len(reasons[most:]) if most is not None else 0:
                self.problems.print(text(f"  and {more:,} more"))

    @contextmanager
    def sentences(self) -> Iterator[None]:
        """Turn what the caller can put right into a sentence, and Ctrl-C into its exit status."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_, **__: self.problem(str(message))
                yield
        except WhycamError as error:
            self.problem(str(error))
            self.document({"error": str(error)})
            raise typer.Exit(USAGE) from None
        except KeyboardInterrupt:
            self.problem("interrupted.")
            raise typer.Exit(INTERRUPTED) from None

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar for several photos, on terminals; the function that is handed out moves it on by one."""
        shown = total > 1 and not self.quiet and self.problems.is_terminal
        # where results go to the same terminal they must go through the bar's own console, or they would tear it
        console = self.results if self.results.is_terminal and not self.json else self.problems
        if not shown:
            yield lambda: None
            return
        with (
            occupied(console),
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
                redirect_stdout=False,
            ) as bar,
        ):
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)


def fields(rows: Mapping[str, RenderableType], indent: str = "", style: str = "dim") -> Table:
    """Names and values, one pair a line, long values wrapped under themselves."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=style, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        grid.add_row(f"{indent}{name}", value)
    return grid


def table(*columns: str, whole: tuple[str, ...] = (), right: tuple[str, ...] = ()) -> Table:
    """A table with these columns; `whole` ones are never broken, for copying, and `right` ones hold numbers."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", collapse_padding=True)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        made.add_column(column, overflow="fold", no_wrap=column in whole, justify=justify)
    return made


def text(value: object, style: str = "") -> Text:
    """Text that a terminal shows as it is: file names may hold stray bytes, control codes and brackets."""
    spelled = fsdecode(value) if isinstance(value, PathLike) else str(value)
    return Text(
        "".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in spelled), style
    )


def status_text(kind: str, message: str = "") -> Text:
    """A status in its color."""
    return Text.assemble((kind, _STYLES.get(kind, "bold yellow")), f": {message}" if message else "")


def grouped(said: Iterable[tuple[str, str]]) -> list[Text]:
    """What is said of several things, once, from pairs of a name and that: `fem, rise: why`."""
    names: dict[str, list[str]] = {}
    for name, what in said:
        names.setdefault(what, []).append(name)
    return [text(f"{', '.join(each)}: {what}") for what, each in names.items()]


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _ENDLESS
    return console
