"""Comparisons as figures: what varies makes the rows and columns."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from whycam.errors import WhycamError
from whycam.kit.registry import methods as registered
from whycam.pictures import figures
from whycam.pictures.figures import Panel
from whycam.results.drawing import as_first, overlay, prediction, raw_panel, shown_input
from whycam.results.heat import CLIPPED, context_of, is_by_pixel
from whycam.results.look import Look
from whycam.results.values import ComparisonValues, ExplanationValues

Compared: TypeAlias = ComparisonValues[ExplanationValues]

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

#: The most overlays side by side where one thing varies, and the most columns of a table where several do.
_COLUMNS, _COLUMNS_OF_A_TABLE = 4, 7


def of_one_sample(comparison: Compared, sample: int, look: Look, said: Mapping[Any, str] | None = None) -> Figure:
    """Overlays of one sample beside its picture: a wrapped row where one thing varies, else a table.

    `said`: what else to say below an overlay, by its key.
    """
    plan = _Plan(comparison, sample)
    one = next(iter(comparison.values()))[sample]
    look = as_first(one, look)
    picture = shown_input(one, look)
    shown = Panel("Photo" if look.on == "photo" else "Input", image=picture, note=prediction(one))
    if len(plan.axes) <= 1:
        name, values = plan.axes[0] if plan.axes else ("method", plan.methods)
        say_where = name != "layer"  # a layer's own title says it
        keys = [(plan.key({name: value}), plan.name(name, value)) for value in values]
        cells = [_cell(comparison, key, sample, title, look, said, say_where=say_where) for key, title in keys]
        panels = [shown, *cells]
        columns = 5 if len(panels) == 5 else min(_COLUMNS, len(panels))
        rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
        return figures.grid(rows, title=plan.what_stays(), colormap=look.colormap)
    (column, across), *_ = plan.axes
    again = replace(shown, title="", note="")
    return figures.grid(
        [
            [
                shown if number == 0 else again,
                *(_cell(comparison, plan.key({**row, column: value}), sample, "", look, said) for value in across),
            ]
            for number, row in enumerate(plan.rows())
        ],
        row_labels=[", ".join(plan.name(name, value) for name, value in row.items()) for row in plan.rows()],
        column_labels=["", *(plan.name(column, value) for value in across)],
        colormap=look.colormap,
    )


def of_every_sample(comparison: Compared, look: Look, *, maps: bool) -> Figure:
    """A row for each explanation and a column for each sample; with `maps`, the raw map beside each overlay."""
    plan = _Plan(comparison, 0)
    first = next(iter(comparison.values()))
    looks = [as_first(one, look) for one in first]
    where = dict(plan.axes).get("layer", [])
    rows = [
        [panel for i, how in enumerate(looks) for panel in _pair(comparison, key, i, how, maps, where)]
        for key in plan.keys
    ]
    heads = [text for one in first for text in ([_title(one), "overlay"] if maps else [_title(one)])]
    labels = [", ".join(plan.varying(key)) for key in plan.keys]
    return figures.grid(
        rows,
        row_labels=labels if any(labels) else None,
        column_labels=heads,
        title=plan.what_stays() if not any(labels) else None,
        colormap=look.colormap,
    )


class _Plan:
    """What varies in a comparison, and how it is called."""

    def __init__(self, comparison: Compared, sample: int) -> None:
        self.keys: list[tuple[str, str, Any]] = [*comparison, *comparison.failures]
        keys = self.keys
        self.methods = list(dict.fromkeys(method for method, _, _ in keys))
        self.titles = {name: known.title for name, known in registered().items()}
        self.layers = list(dict.fromkeys(layer for _, layer, _ in keys if layer != "input"))
        # if each method has one layer, it was chosen for it and does not vary by itself
        several = any(len({layer for name, layer, _ in keys if name == method}) > 1 for method in self.methods)
        specific = {method: bool(each.target) for (method, _, _), each in comparison.items()}
        self.targets = list(dict.fromkeys(t for method, _, t in keys if specific.get(method, True))) or [None]
        self.words = {target: _spell(comparison, target, sample) for target in self.targets}
        axes: list[tuple[str, list[Any]]] = [
            ("method", self.methods),
            ("target", self.targets),
            ("layer", self.layers if several else [None]),
        ]
        # the first makes the columns: one that fits a page, if there is one
        self.axes = sorted(
            (axis for axis in axes if len(axis[1]) > 1), key=lambda axis: len(axis[1]) > _COLUMNS_OF_A_TABLE
        )

    def key(self, chosen: dict[str, Any]) -> tuple[str, Any, Any]:
        """The explanation meant by a choice of what varies."""
        method = chosen.get("method", self.methods[0])
        alone = self.layers[0] if len(self.layers) == 1 else None
        return method, chosen.get("layer", alone), chosen.get("target", self.targets[0])

    def rows(self) -> list[dict[str, Any]]:
        """What varies beyond the columns, in every combination."""
        combinations: list[dict[str, Any]] = [{}]
        for name, values in self.axes[1:]:
            combinations = [{**so_far, name: value} for so_far in combinations for value in values]
        return combinations

    def name(self, axis: str, value: Any) -> str:
        """A value of one axis as people read it."""
        if axis == "target":
            return self.words.get(value, "no class")
        return str(self.titles.get(value, value) if axis == "method" else value)

    def varying(self, key: tuple[str, str, Any]) -> list[str]:
        """The parts of a key that vary, as people read them."""
        parts = dict(zip(("method", "layer", "target"), key, strict=True))
        names = {name for name, _ in self.axes}
        return [self.name(name, value) for name, value in parts.items() if name in names]

    def what_stays(self) -> str | None:
        """What does not vary, for the title."""
        names = {name for name, _ in self.axes}
        fixed = [] if "method" in names else [self.titles.get(self.methods[0], self.methods[0])]
        fixed += [] if "target" in names or self.targets == [None] else [self.words[self.targets[0]]]
        return ", ".join(fixed) or None


def _cell(
    comparison: Compared,
    wanted: tuple[Any, ...],
    sample: int,
    title: str,
    look: Look,
    said: Mapping[Any, str] | None = None,
    *,
    say_where: bool = True,
) -> Panel:
    try:
        found = comparison[wanted]
    except WhycamError as error:
        return Panel(title, failure=str(error))
    except KeyError:
        return Panel(title, failure="not asked for")
    one = found[sample]
    status = one.status[0]
    notes = [
        f"score {float(one.scores[0]):.2f}" if one.target else "",
        one.layer.short if say_where else "",
        CLIPPED if is_by_pixel(one) else "",
        "" if status.ok else status.kind,
    ]
    own = [text for key, text in (said or {}).items() if comparison[key] is found]
    picture = overlay(one, replace(look, caption=False))
    return Panel(title, image=picture, note="\n".join(filter(None, ["; ".join(filter(None, notes)), *own])))


def _pair(
    comparison: Compared, key: tuple[str, str, Any], sample: int, look: Look, maps: bool, where: Sequence[str]
) -> list[Panel]:
    """An overlay, with `maps` the raw map before it; `where` are the layers that a row's label names already."""
    cell = _cell(comparison, key, sample, "", look, say_where=key[1] not in where)
    if not maps:
        return [cell]
    if cell.failure is not None:
        return [cell, cell]
    return [raw_panel(comparison[key].maps[sample], look.signed), cell]


def _title(one: ExplanationValues) -> str:
    """A sample's name, if it has one, and what the model says of it."""
    context = context_of(one)
    named = context.photos is not None and context.photos[0].path is not None
    return ", ".join(part for part in (context.name(0) if named else "", prediction(one)) if part)


def _spell(comparison: Compared, target: Any, sample: int) -> str:
    for (_, _, key), each in comparison.items():
        if key == target and each.target:
            return each.target[sample]
    return str(target)
