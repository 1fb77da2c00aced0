"""How far long work is: what is said, when, and that two bars are never shown at once."""

import io
import sys

import pytest
from rich.console import Console

from whycam.kit import progress
from whycam.kit.progress import Progress, duration, occupied


class Clock:
    """Moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("time.monotonic", made)
    return made


def a_terminal(monkeypatch):
    """Standard error as a terminal of 80 columns; holds what was written. (No fixture: captures begin after those.)"""
    for name, value in (("COLUMNS", "80"), ("TERM", "xterm-256color"), ("TTY_COMPATIBLE", "1")):
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    made = io.StringIO()
    made.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", made)
    return made


def work(clock, seconds, total=10, what="RISE", runs=1, shown=True):
    """Ten runs, or as many, of so many seconds each."""
    with Progress(shown).of(what, total, "runs of the network") as advance:
        for _ in range(0, total or 10, runs):
            clock.now += seconds * runs
            advance(runs)


def test_a_line_says_how_much_and_how_long(clock, capsys):
    work(clock, 2, total=4000, runs=8)
    assert capsys.readouterr() == ("", "RISE: 4,000 runs of the network, about 2.2 h\n")


@pytest.mark.parametrize(("seconds", "lines"), [(0.37, 0), (0.38, 1)])
def test_work_of_three_seconds_says_nothing(clock, capsys, seconds, lines):
    work(clock, seconds)
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_nothing_is_shown_to_those_who_want_nothing(clock, monkeypatch):
    terminal = a_terminal(monkeypatch)
    work(clock, 60, shown=False)
    assert terminal.getvalue() == ""


def test_where_nobody_looks_nothing_is_shown_unless_asked(clock, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    work(clock, 60, shown=None)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", None)
    assert Progress().shown is False


def test_terminals_are_looked_at(monkeypatch):
    a_terminal(monkeypatch)
    assert Progress().shown is True


def test_the_very_first_runs_say_nothing_of_the_rest(clock, capsys):
    with Progress(True).of("RISE", 100, "runs") as advance:
        clock.now += 0.4
        advance(1)
        assert capsys.readouterr().err == ""
        clock.now += 0.4
        advance(3)  # 4 in 0.8 s: 96 more take 19.2 s
    assert capsys.readouterr().err == "RISE: 100 runs, about 19 s\n"


def test_runs_that_take_very_long_say_so_after_the_first(clock, capsys):
    with Progress(True).of("RISE", 100, "runs") as advance:
        clock.now += 12
        advance(1)
        assert capsys.readouterr().err == "RISE: 100 runs, about 20 min\n"


def test_no_runs_done_yet(clock, capsys):
    with Progress(True).of("RISE", 10, "runs") as advance:
        clock.now += 5
        advance(0)
        clock.now += 6
        advance(1)
        advance(0)
    assert capsys.readouterr().err == "RISE: 10 runs, about 99 s\n"
    with Progress(True).of("RISE", None, "runs") as advance:
        advance(0)


def test_work_without_a_known_end_is_told_once_it_takes_long(clock, capsys):
    work(clock, 0.3, total=None)
    assert capsys.readouterr().err == ""
    work(clock, 1, total=None)
    assert capsys.readouterr().err == "RISE: runs of the network\n"


def test_a_log_has_its_line_whole(clock, capsys):
    name = "a network [bold]of a long name[/bold] :smile: " * 4
    work(clock, 2, what=name)
    assert capsys.readouterr().err == f"{name}: 10 runs of the network, about 18 s\n"


def test_a_terminal_has_a_bar_that_goes_away(clock, monkeypatch):
    terminal = a_terminal(monkeypatch)
    work(clock, 2)
    assert "RISE: 10 runs of the network, about 18 s" in terminal.getvalue()
    assert "━" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is erased
    assert progress._live == []


def test_a_bar_goes_away_when_work_is_interrupted(clock, monkeypatch):
    terminal = a_terminal(monkeypatch)

    def interrupted():
        with Progress(True).of("RISE", 10, "runs") as advance:
            clock.now += 60
            advance(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert terminal.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K")  # the cursor is back
    assert progress._live == []


def test_a_bar_within_a_bar_is_a_line_above_it(clock, monkeypatch):
    terminal = a_terminal(monkeypatch)
    with Progress(True).of("Outer", 3, "methods") as advance:
        clock.now += 11
        advance(1)
        shown = terminal.getvalue()
        work(clock, 2)
        said = terminal.getvalue().removeprefix(shown)
    assert "━" in shown
    assert said.count("RISE") == 1
    assert "RISE: 10 runs of the network, about 18 s" in said
    assert said.count("Outer") == 1  # drawn again below the line


def test_beside_a_bar_of_the_callers_there_is_a_line_on_its_console(clock, monkeypatch):
    terminal = a_terminal(monkeypatch)
    theirs = Console(file=io.StringIO(), force_terminal=True, width=80)
    with occupied(theirs):
        work(clock, 2)
    assert terminal.getvalue() == ""
    assert theirs.file.getvalue() == "RISE: 10 runs of the network, about 18 s\n"
    work(clock, 2)
    assert "━" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0123, "0.012 s"),
        (8, "8 s"),
        (9.96, "10 s"),
        (99.4, "99 s"),
        (150, "2 min"),
        (5999, "100 min"),
        (9000, "2.5 h"),
    ],
)
def test_durations(seconds, said):
    assert duration(seconds) == said
