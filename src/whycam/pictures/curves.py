"""Signals and spectrograms with their maps, drawn over time with matplotlib's objects alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from whycam.pictures.colormaps import palette
from whycam.pictures.figures import INK, QUIET, blank
from whycam.pictures.wrapping import wrapped

if TYPE_CHECKING:
    import matplotlib.figure

# Inches, and the letters that fit across.
_WIDTH, _HIGHEST, _PAGE, _LETTERS = 9.0, 1.5, 15.0, 100
_TEXT = 8.0


@dataclass(frozen=True)
class Strip:
    """One panel over time.

    Attributes:
        name: beside it, such as a channel's.
        values: a curve. `band`: colors, drawn behind the curve, and from the lowest row up where there are several.
        evidence: whether the values are a map's, whose positive and negative parts are filled in its colors.
        note: below.
    """

    name: str
    values: Float[np.ndarray, " time"] | None = None
    band: Image.Image | None = None
    evidence: bool = False
    note: str = ""

    @property
    def length(self) -> int:
        """How many samples or columns."""
        return len(self.values) if self.values is not None else self.band.width if self.band is not None else 0

    @property
    def share(self) -> float:
        """How high it is beside a curve."""
        return 2.0 if self.band is not None and self.band.height > 1 else 1.0


def over_time(
    strips: Sequence[Strip], *, rate: float | None = None, title: str = "", colormap: str | None = None
) -> "matplotlib.figure.Figure":
    """Strips one below the other, in seconds where `rate` says how many samples there are in one.

    Sample i stands at `i / rate`, in the middle of its color. Raises `MissingExtraError` without matplotlib.
    """
    shares = [strip.share for strip in strips]
    height = min(_HIGHEST, _PAGE / sum(shares))
    figure = blank((_WIDTH, height * sum(shares) + 0.9))
    if title:
        figure.suptitle(wrapped(title, _LETTERS), fontsize=_TEXT + 3, color=INK, parse_math=False)
    rows = figure.subplots(len(strips), 1, squeeze=False, gridspec_kw={"height_ratios": shares})[:, 0]
    step = 1 / rate if rate is not None else 1.0
    for axes, strip in zip(rows, strips, strict=True):
        left, right = -step / 2, (strip.length - 0.5) * step
        axes.set_xlim(left, right)
        axes.spines[:].set_visible(False)
        axes.tick_params(labelsize=_TEXT - 1, length=2, width=0.5, colors=QUIET)
        axes.set_ylabel(strip.name, fontsize=_TEXT, color=INK, parse_math=False)
        if strip is not strips[-1]:
            axes.tick_params(labelbottom=False)
        if strip.note:
            axes.set_title(strip.note, fontsize=_TEXT - 1, color=QUIET, loc="right", pad=2, parse_math=False)
        times = np.arange(strip.length) * step
        if strip.values is not None:
            _curve(axes, times, strip, colormap)
        if strip.band is not None:
            low, high = axes.get_ylim() if strip.values is not None else (-0.5, strip.band.height - 0.5)
            axes.imshow(
                np.asarray(strip.band), extent=(left, right, low, high), aspect="auto", origin="lower", zorder=0
            )
    rows[-1].set_xlabel("seconds" if rate is not None else "samples", fontsize=_TEXT, color=INK)
    return figure


def _curve(axes: Any, times: Float[np.ndarray, " time"], strip: Strip, colormap: str | None) -> None:
    values = strip.values
    assert values is not None
    if strip.evidence:
        ends = palette(colormap, signed=True) / 255
        for part, color in ((values.clip(min=0), ends[-1]), (values.clip(max=0), ends[0])):
            axes.fill_between(times, part, color=color, linewidth=0)
    axes.plot(times, values, color=INK if strip.evidence else "white", linewidth=0.9)
