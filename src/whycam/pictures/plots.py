"""Curves beside each other in panels, drawn with matplotlib's objects alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from whycam.pictures.colormaps import hues
from whycam.pictures.figures import INK, QUIET, blank

if TYPE_CHECKING:
    import matplotlib.figure

# Inches.
_WIDE, _HIGH, _LINE, _COLUMNS = 4.6, 3.4, 0.2, 3
_TEXT = 8.0


@dataclass(frozen=True)
class Curve:
    """A mean and the band in which it lies.

    `quiet`: drawn gray and dashed, for what others are compared with.
    """

    name: str
    values: Float[np.ndarray, " point"]
    low: Float[np.ndarray, " point"]
    high: Float[np.ndarray, " point"]
    quiet: bool = False


@dataclass(frozen=True)
class Plot:
    """One panel: curves over the same points."""

    title: str
    along: str
    at: Sequence[float]
    curves: Sequence[Curve]


def plots(panels: Sequence[Plot], *, title: str = "", note: str = "") -> "matplotlib.figure.Figure":
    """Panels in rows of three, below them a note, and what color each curve has, which is the same in all of them.

    Raises `MissingExtraError` without matplotlib.
    """
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    loud = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves if not curve.quiet))
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    across = max(1, columns * 2)
    figure = blank((_WIDE * columns, _HIGH * rows + _LINE * (1 + -(-len(names) // across)) + 0.5 * bool(title)))
    styles = _styles(names, loud)
    if title:
        figure.suptitle(title, fontsize=_TEXT + 3, color=INK, parse_math=False)
    every = figure.subplots(rows, columns, squeeze=False).flatten()
    handles = {}
    for axes, panel in zip(every, panels, strict=False):
        axes.set_title(panel.title, fontsize=_TEXT + 1, color=INK, parse_math=False)
        axes.set_xlabel(panel.along, fontsize=_TEXT, color=INK, parse_math=False)
        axes.tick_params(labelsize=_TEXT - 1, length=2, width=0.5, colors=QUIET)
        axes.margins(x=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(QUIET)
        for curve in panel.curves:
            style = styles[curve.name]
            (handles[curve.name],) = axes.plot(panel.at, curve.values, linewidth=1.4, zorder=2, **style)
            if np.isfinite(curve.low).all():
                axes.fill_between(
                    panel.at, curve.low, curve.high, color=style["color"], alpha=0.15, linewidth=0, zorder=1
                )
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    figure.legend(
        [handles[name] for name in names], names, loc="outside lower center", ncols=across, fontsize=_TEXT,
        frameon=False, labelcolor=INK, title=note, title_fontsize=_TEXT - 1,
    )  # fmt: skip
    return figure


def _styles(names: Sequence[str], loud: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A color for each loud curve, and a gray and a pattern for each other."""
    made: dict[str, dict[str, Any]] = {}
    for name, color in zip(loud, hues(len(loud)) / 255, strict=True):
        made[name] = {"color": tuple(color), "linestyle": "-"}
    for number, name in enumerate(name for name in names if name not in loud):
        made[name] = {
            "color": ("#333333", "#777777", "#999999")[number % 3],
            "linestyle": ("--", ":", "-.")[number % 3],
        }
    return made
