"""An evaluation as tables of methods and layers by metrics: as text of any width, as Markdown, as HTML."""

import html as markup
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from unicodedata import east_asian_width

from whycam.kit.metric import Metric
from whycam.kit.statistics import Interval
from whycam.kit.words import plural
from whycam.results.evaluation_values import EvaluationValues
from whycam.results.recommendation import STAYS, primary
from whycam.results.standing import BARRED, Place, Standing, spelled

#: The best of a column, what cannot be told apart from it, and what is not surely better than every control.
BEST, EQUAL, UNBEATEN = "*", "~", "!"
_WAYS = {"higher": "↑", "lower": "↓"}
_GAP = "  "
#: Letters of a column's head in one line, and of a layer's name; a longer one keeps its end, which tells it apart.
_HEAD, _LAYER = 14, 24


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table, and its marks."""

    text: str
    marks: str = ""


@dataclass(frozen=True)
class Column:
    """One column: its head in lines, and a cell for each row."""

    head: tuple[str, ...]
    cells: tuple[Cell, ...]
    left: bool = False

    @property
    def marked(self) -> int:
        """How wide its marks are."""
        return max((len(cell.marks) for cell in self.cells), default=0)

    @property
    def wide(self) -> int:
        """How wide it is."""
        return max(*map(_wide, self.head), max(_wide(cell.text) for cell in self.cells) + self.marked)


@dataclass(frozen=True)
class Table:
    """Columns that stand side by side; the last `controls` of their rows are set apart from the others."""

    title: str
    columns: tuple[Column, ...]
    controls: int

    @property
    def wide(self) -> int:
        """How wide it is."""
        return sum(column.wide for column in self.columns) + len(_GAP) * (len(self.columns) - 1)

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        """Its rows, methods first."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


def tables(found: EvaluationValues, width: int | None = None) -> list[Table]:
    """A table for each target, or several below each other where the metrics do not fit side by side."""
    return [part for target in found.targets for part in _parts(_whole(found, target), width)]


def legend(found: EvaluationValues) -> list[str]:
    """What is to be known to read them, in sentences."""
    of = f"{found.asked.get('model', 'The model')} over {plural(found.images, 'image')}"
    said = [f"{of}; ± is half of the 95% interval, Sec. what an image takes."]
    if any(not place.is_control for place in found.places):
        marks = f"↑ higher is better, ↓ lower; {BEST} the best of its column, {EQUAL} cannot be told apart from it"
        doubts = ["not surely better than every control"] if any(place.is_control for place in found.places) else []
        if any(metric.family == "randomization" for metric in found.metrics.values()):
            doubts.append("stays as it is when the network or the class is another")
        said.append(f"{marks}{f', {UNBEATEN} ' if doubts else ''}{', or '.join(doubts)}.")
    return said


def as_text(found: EvaluationValues, width: int | None) -> str:
    """The tables as lines of text, and how to read them."""
    parts = ["\n".join(_lines(table)) for table in tables(found, width)]
    said = legend(found) if width is None else [line for each in legend(found) for line in wrap(each, width)]
    return "\n\n".join([*parts, "\n".join(said)])


def as_markdown(found: EvaluationValues) -> str:
    """The tables in Markdown, with the best in bold."""
    return "\n\n".join([*map(_markdown, tables(found)), escaped(" ".join(legend(found)))])


def as_html(found: EvaluationValues) -> str:
    """The tables in HTML, for notebooks: static, with no script and no file beside it."""
    said = markup.escape(" ".join(legend(found)))
    return f'{"".join(map(_html, tables(found)))}<p style="font-size:small">{said}</p>'


def _whole(found: EvaluationValues, target: str) -> Table:
    """All metrics of one target side by side."""
    methods = [place for place in found.places if place.target == target and not place.is_control]
    controls = [place for place in found.places if place.target == target and place.is_control]
    decides = primary(found.metrics)
    first = found.judge.standing(found.placed(target, decides), decides).order
    methods = [*first, *(place for place in methods if place not in first)]
    rows = [*methods, *controls]
    columns = [
        Column(("Method",), tuple(Cell(place.method) for place in rows), left=True),
        Column(("Layer",), tuple(Cell(_short(place.layer)) for place in rows), left=True),
        *(_column(found, metric, methods, controls, target) for metric in found.metrics.values()),
        Column(("Sec.",), tuple(Cell(_seconds(found.seconds.get(place[:2]))) for place in rows)),
    ]
    return Table(f"Target {target}" if len(found.targets) > 1 else "", tuple(columns), len(controls))


def _column(
    found: EvaluationValues, metric: Metric, methods: Sequence[Place], controls: Sequence[Place], target: str
) -> Column:
    known = found.placed(target, metric.name)
    bar = found.placed(target, metric.name, controls=True) if metric.family in BARRED else []
    standing = found.judge.standing(known, metric.name)
    cells = []
    for place in (*methods, *controls):
        account = found.judge.bootstrap.accounts.get((place, metric.name))
        if account is None:
            cells.append(Cell(""))
            continue
        if metric.family == "randomization":
            marks = UNBEATEN * (place in known and account.compute() >= STAYS)
        else:
            failing = place in known and len(found.judge.beaten(place, metric.name, bar)) < len(bar)
            marks = _mark(place, standing) + UNBEATEN * failing
        cells.append(Cell(_value(metric, found.judge.bootstrap.interval((place, metric.name))), marks))
    return Column(tuple(wrap(f"{metric.title} {_WAYS[metric.better]}", _HEAD)), tuple(cells))


def _mark(place: Place, standing: Standing) -> str:
    if standing.order[:1] == (place,):
        return BEST
    return EQUAL if place in standing.equal else ""


def _value(metric: Metric, found: Interval) -> str:
    """A value and half of its interval, which is told with a digit less."""
    value, half = spelled(metric, found.value), (found.high - found.low) / 2
    if math.isnan(half):
        return value
    return f"{value} ±{half:.2f}" if max(abs(metric.low), metric.high) <= 1 else f"{value} ±{spelled(metric, half)}"


def _seconds(spent: float | None) -> str:
    return "" if spent is None else f"{spent:.2g}" if spent < 10 else f"{spent:.0f}"


def _short(layer: str) -> str:
    return layer if len(layer) <= _LAYER else f"...{layer[3 - _LAYER :]}"


def _parts(table: Table, width: int | None) -> Iterator[Table]:
    """As many columns as fit a width, each time beside the methods and layers."""
    named, rest = table.columns[:2], table.columns[2:]
    while rest:
        count = 1
        while count < len(rest) and (
            width is None or Table("", (*named, *rest[: count + 1]), table.controls).wide <= width
        ):
            count += 1
        yield Table(table.title, (*named, *rest[:count]), table.controls)
        rest = rest[count:]


def _lines(table: Table) -> Iterator[str]:
    """Heads, a rule, methods, a rule, controls."""
    if table.title:
        yield table.title
    high = max(len(column.head) for column in table.columns)
    for line in range(high):
        heads = [("",) * (high - len(column.head)) + column.head for column in table.columns]
        yield _joined(table, [Cell(head[line]) for head in heads], head=True)
    rule = "-" * table.wide
    for number, row in enumerate(table.rows):
        if number in (0, len(table.rows) - table.controls):
            yield rule
        yield _joined(table, row)


def _joined(table: Table, cells: Sequence[Cell], *, head: bool = False) -> str:
    made = []
    for column, cell in zip(table.columns, cells, strict=True):
        marked = 0 if head else column.marked
        rest = " " * (column.wide - (0 if column.left else marked) - _wide(cell.text))
        made.append(cell.text + rest if column.left else rest + cell.text + cell.marks.ljust(marked))
    return _GAP.join(made).rstrip()


def _wide(text: str) -> int:
    """How many letters wide a text is on a terminal, where one of Chinese is two."""
    return len(text) + sum(east_asian_width(letter) in "WF" for letter in text)


def _markdown(table: Table) -> str:
    heads = [" ".join(column.head) for column in table.columns]
    rules = ["---" if column.left else "---:" for column in table.columns]
    rows = [[_bold(cell) if BEST in cell.marks else _plain(cell) for cell in row] for row in table.rows]
    lines = [f"| {' | '.join(row)} |" for row in (heads, rules, *rows)]
    return "\n".join([*([f"**{table.title}**", ""] if table.title else []), *lines])


def escaped(text: str) -> str:
    """Text in Markdown, where some letters mean something."""
    return re.sub(r"([|*~_`\\])", r"\\\1", text)


def _plain(cell: Cell) -> str:
    return escaped(f"{cell.text} {cell.marks}".strip())


def _bold(cell: Cell) -> str:
    return f"**{escaped(cell.text)}** {escaped(cell.marks)}"


def _html(table: Table) -> str:
    def row(cells: Sequence[Cell], kind: str, style: str = "") -> str:
        made = []
        for column, cell in zip(table.columns, cells, strict=True):
            bold = ";font-weight:bold" if BEST in cell.marks else ""
            side = "left" if column.left else "right"
            text = markup.escape(cell.text)
            if column.marked and kind == "td":  # as wide in each row, so that numbers stand below each other
                text += f'<span style="display:inline-block;width:1.3em;text-align:left">{cell.marks}</span>'
            made.append(f'<{kind} style="text-align:{side};padding:2px 8px{bold}{style}">{text}</{kind}>')
        return f"<tr>{''.join(made)}</tr>"

    # where a head is broken its arrow goes with the last word, and values are not broken
    heads = row([Cell("\u00a0".join(" ".join(column.head).rsplit(" ", 1))) for column in table.columns], "th")
    first = len(table.rows) - table.controls
    rows = [
        row(cells, "td", ";white-space:nowrap" + ";border-top:1px solid" * (number == first))
        for number, cells in enumerate(table.rows)
    ]
    title = f"<caption>{markup.escape(table.title)}</caption>" if table.title else ""
    style = "border-collapse:collapse;margin-bottom:1em"
    return f'<table style="{style}">{title}<thead>{heads}</thead><tbody>{"".join(rows)}</tbody></table>'
