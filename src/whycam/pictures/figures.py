"""Grids of pictures and maps, drawn with matplotlib's objects alone: no pyplot, so no state shared by threads."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from whycam.errors import WhycamError, missing
from whycam.kit.files import write_whole
from whycam.pictures.colormaps import NO_VALUE, palette
from whycam.pictures.wrapping import wrapped

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

#: What text is written in, and what is less important.
INK = "#222222"
QUIET = "#6e6e6e"
_ALARM, _FAILED = "#9c2f24", "#f7f3f2"
# Inches. Panels of a row are equally high, at most _TALLEST; a figure that would be larger than a page gets smaller
# panels, down to a width at which a map can still be read.
_TALLEST = 2.3
_PAGE = (13.0, 15.0)
_NARROWEST = 1.2
# Pictures are shown at a few hundred pixels; a camera's 12 million would only cost memory in every panel.
_LONGEST_SIDE = 1024
_DPI = 160
# Below this share of its magnitude, a map's range is rounding.
_FLAT = 1e-6


@dataclass(frozen=True)
class Panel:
    """One cell of a figure: a picture, or a map's raw values drawn as blocks, or the reason why there is neither.

    `note` is a small line below, for a status or a score.
    """

    title: str = ""
    image: Image.Image | None = None
    values: Float[Tensor, "height width"] | None = None
    signed: bool = False
    note: str = ""
    failure: str | None = None

    @property
    def aspect(self) -> float | None:
        """Height over width; `None` where anything goes."""
        if self.image is not None:
            return self.image.height / self.image.width
        return None if self.values is None else self.values.shape[0] / self.values.shape[1]


def grid(
    panels: Sequence[Sequence[Panel]],
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    title: str | None = None,
    colorbar: bool = False,
    colormap: str | None = None,
) -> "matplotlib.figure.Figure":
    """Rows of panels; a row may be shorter than the others. `colorbar` gives each map a scale in its own units.

    Zero is always on a map's scale: at the lowest color, or in the middle when signed. A flat map takes the color of
    zero everywhere. Raises `MissingExtraError` without matplotlib.
    """
    columns = max(len(row) for row in panels)
    if column_labels:
        pairs = zip(column_labels, panels[0], strict=True)
        panels = [[replace(each, title=f"{label}\n{each.title}".strip()) for label, each in pairs], *panels[1:]]
    shapes = _column_shapes(panels, columns)
    height = min(_TALLEST, _PAGE[0] / sum(shapes), _PAGE[1] / len(panels))
    height = max(height, _NARROWEST * columns / sum(shapes))
    widths = [height * shape for shape in shapes]
    text = min(9.0, max(7.0, 5.5 + 1.4 * sum(widths) / columns))
    bars = sum(any(row[column:] and row[column].values is not None for row in panels) for column in range(columns))
    # about what the words take; the layout shares it out, and saving trims the rest
    words = 0.45 if title else 0.2
    size = (sum(widths) + 0.1 * columns + 0.5 * bars * colorbar + 0.4, (height + 0.55) * len(panels) + words)

    figure = blank(size)
    all_axes = figure.subplots(len(panels), columns, squeeze=False, gridspec_kw={"width_ratios": shapes})
    if title:
        figure.suptitle(_wrap(title, sum(widths), text + 3), fontsize=text + 3, color=INK, parse_math=False)

    for row, (axes_row, panels_row) in enumerate(zip(all_axes, panels, strict=True)):
        for column, axes in enumerate(axes_row):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if column < len(panels_row):
                _draw(axes, panels_row[column], (height, widths[column]), text, colorbar, colormap)
        if row_labels and row_labels[row]:
            label = _wrap(row_labels[row], height, text + 1)
            axes_row[0].set_ylabel(label, fontsize=text + 1, color=INK, labelpad=6, parse_math=False)
    return figure


def blank(size: tuple[float, float]) -> "matplotlib.figure.Figure":
    """An empty figure of that width and height in inches. Raises `MissingExtraError` without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ModuleNotFoundError:
        raise missing("matplotlib", "plot", "drawing a figure") from None
    # compressed: panels keep their shape, and the room that this leaves is taken back
    layout = ConstrainedLayoutEngine(compress=True, w_pad=0.04, h_pad=0.05, wspace=0.02, hspace=0.02)
    figure = Figure(figsize=size, dpi=_DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: "matplotlib.figure.Figure") -> bytes:
    """The figure as a PNG file's bytes."""
    return _rendered(figure, "png")


def save_figure(figure: "matplotlib.figure.Figure", path: str | Path) -> Path:
    """Write the figure in the format of the path's suffix (PNG, PDF, SVG, ...), whole or not at all; give the path.

    Raises `WhycamError` for a suffix that matplotlib cannot write, and a file that cannot be written. A missing folder
    is made.
    """
    path = Path(path)
    kind = kind_of(path)
    try:
        return write_whole(path, _rendered(figure, kind))
    except OSError as error:
        raise WhycamError(f"{path} cannot be written: {error.strerror or error}.") from error


def kind_of(path: Path) -> str:
    """The format that a path's suffix names. Raises `WhycamError` for one that matplotlib cannot write."""
    from matplotlib.backend_bases import FigureCanvasBase

    kind, known = path.suffix.lower().lstrip("."), FigureCanvasBase.get_supported_filetypes()
    if kind not in known:
        raise WhycamError(
            f"{path}: a figure is written as one of {', '.join(sorted(known))}; give the file such a suffix."
        )
    return kind


def _rendered(figure: "matplotlib.figure.Figure", kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=_DPI, bbox_inches="tight", pad_inches=0.08)
    return buffer.getvalue()


def _column_shapes(panels: Sequence[Sequence[Panel]], columns: int) -> list[float]:
    """Each column's width over its height: that of its widest panel, within reason."""
    shapes = []
    for column in range(columns):
        aspects = [aspect for row in panels if row[column:] and (aspect := row[column].aspect)]
        shapes.append(min(3.0, max(0.5, max((1 / aspect for aspect in aspects), default=1.0))))
    return shapes


def _draw(
    axes: "matplotlib.axes.Axes",
    panel: Panel,
    size: tuple[float, float],
    text: float,
    colorbar: bool,
    colormap: str | None,
) -> None:
    height, width = size
    if panel.title:
        axes.set_title(_wrap(panel.title, width, text), fontsize=text, color=INK, pad=4, parse_math=False)
    if panel.note:
        label = _wrap(panel.note, width, text - 1)
        axes.set_xlabel(label, fontsize=text - 1, color=QUIET, labelpad=3, parse_math=False)
    if panel.image is not None:
        image = panel.image.convert("RGB")
        image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), reducing_gap=2)
        # the extent keeps the panel's own shape, which a thumbnail's rounding may change
        axes.imshow(np.asarray(image), extent=(0, panel.image.width, panel.image.height, 0))
    elif panel.values is not None:
        _draw_map(axes, panel.values, panel.signed, text, colorbar, colormap)
    else:
        axes.set_box_aspect(height / width)
        axes.set_facecolor(_FAILED)
        style: dict[str, Any] = {"fontsize": text, "color": _ALARM, "parse_math": False}
        reason = _wrap(panel.failure or "", width * 0.9, text)
        axes.text(0.5, 0.5, reason, transform=axes.transAxes, ha="center", va="center", **style)


def _draw_map(
    axes: "matplotlib.axes.Axes",
    values: Float[Tensor, "height width"],
    signed: bool,
    text: float,
    colorbar: bool,
    colormap: str | None,
) -> None:
    from matplotlib.colors import ListedColormap

    array = values.detach().cpu().float().numpy()
    shown = np.ma.masked_invalid(array)
    colors = ListedColormap(palette(colormap, signed) / 255).with_extremes(bad="#{:02x}{:02x}{:02x}".format(*NO_VALUE))
    low, high, ticks = _scale(array[np.isfinite(array)], signed)
    drawn = axes.imshow(shown, cmap=colors, vmin=low, vmax=high, interpolation="nearest")
    if colorbar:
        # an inset is exactly as tall as the map, whatever the layout gives the panel
        bar = axes.figure.colorbar(drawn, cax=axes.inset_axes((1.03, 0, 0.05, 1)))
        bar.outline.set_visible(False)
        bar.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
        bar.ax.tick_params(labelsize=text - 2, length=2, width=0.5, pad=2, colors=QUIET)


def _scale(values: Float[np.ndarray, " known"], signed: bool) -> tuple[float, float, list[float]]:
    """What the lowest and the highest color stand for, and the values to name beside them."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    largest = max(abs(low), abs(high))
    if high - low <= _FLAT * largest:
        # one color, that of no evidence: the scale is placed so that the flat value gets it, and names nothing else
        room = largest or 1.0
        return (low - room if signed else low), low + room, [low]
    low, high = (-largest, largest) if signed else (min(low, 0.0), max(high, 0.0))
    return low, high, [low, (low + high) / 2, high]


def _wrap(text: str, inches: float, points: float) -> str:
    """Lines that fit a width; a letter is about half as wide as it is high."""
    return wrapped(text, int(inches * 72 / (0.57 * points)))
