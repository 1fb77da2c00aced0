"""Figures of one explanation, each sort of input in its own way."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from whycam.errors import WhycamError
from whycam.network.input_axes import channels_first
from whycam.pictures import figures
from whycam.pictures.curves import Strip, over_time
from whycam.pictures.figures import Panel
from whycam.pictures.media import Clip, Signal, Spectrogram
from whycam.pictures.overlay import overlay as blend
from whycam.results.drawing import ALONE, Look, context_of, four_panels, is_by_pixel, overlay, prediction, stacks
from whycam.results.values import ExplanationValues

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

#: Frames in a row, and the strongest slices across each axis.
_SLICES = 4


def figure(explanation: ExplanationValues, look: Look) -> Figure:
    """What `Explanation.figure` returns."""
    context = context_of(explanation)
    medium = context.medium(0)
    if isinstance(medium, Signal):
        strips = [strip for one in explanation for strip in _signal(one, medium, look)]
        return over_time(strips, rate=medium.rate, title=_title(explanation, look), colormap=look.colormap)
    if isinstance(medium, Spectrogram):
        strips = [strip for one in explanation for strip in _spectrogram(one, medium, look)]
        return over_time(strips, rate=medium.rate, title=_title(explanation, look), colormap=look.colormap)
    if len(context.size) == 3:
        rows = [row for one in explanation for row in _slices(one, look)]
        return figures.grid(rows, title=_title(explanation, look), colormap=look.colormap)
    return four_panels(explanation, look)


def _signal(one: ExplanationValues, medium: Signal, look: Look) -> list[Strip]:
    """The curve of each channel over the map's colors."""
    context = context_of(one)
    if one.maps.ndim != 2:
        raise WhycamError(
            f"a signal's figure needs a map over time alone; this one, at {one.layer}, has {one.maps.ndim - 1} axes. "
            "Its values are in .maps; name a layer of the signal's own axis."
        )
    curves = channels_first(context.inputs, context.space or (2,))[0].detach().float().cpu().numpy()
    signed = look.signed or bool((one.maps < 0).any())
    heat = one.heatmaps(normalize="signed" if signed else "max", enlarge=look.enlarge).cpu()
    ground = Image.new("RGB", (curves.shape[1], 1))  # black, the color of no evidence
    band = blend(ground, heat, colormap=look.colormap, opacity=ALONE, signed=signed)
    names = medium.channels or tuple(f"channel {i}" if len(curves) > 1 else "" for i in range(len(curves)))
    return [
        Strip(name, curve, band, note="" if i else _note(one))
        for i, (name, curve) in enumerate(zip(names, curves, strict=True))
    ]


def _spectrogram(one: ExplanationValues, medium: Spectrogram, look: Look) -> list[Strip]:
    """The spectrogram under the map's colors, low frequencies below, and the map added up at each time."""
    time = medium.axes.index("time")
    picture = np.asarray(overlay(one, Look(look.colormap, look.opacity, look.signed, look.enlarge, caption=False)))
    raw = one.heatmaps(normalize="none", enlarge=look.enlarge)[0].cpu()
    if time == 0:
        picture = picture.swapaxes(0, 1)
    band = Image.fromarray(np.ascontiguousarray(picture))
    return [
        Strip(medium.axes[1 - time], band=band, note=_note(one)),
        Strip("map, added up", raw.sum(1 - time).numpy(), evidence=True),
    ]


def _slices(one: ExplanationValues, look: Look) -> list[list[Panel]]:
    """The frames that stand for a clip; the cuts through a volume's peak, and below each the strongest of its kind."""
    (stack,) = stacks(one, look)
    shown = [Panel(stack.name(*place), image=stack.picture(*place)) for place in stack.shown()]
    shown[0] = replace(shown[0], note=_note(one))
    if isinstance(stack.medium, Clip):
        return [shown[start : start + _SLICES] for start in range(0, len(shown), _SLICES)]
    columns = [
        [
            Panel(stack.name(axis, index), image=stack.picture(axis, index), note=f"{share:.0%} of the map")
            for index, share in stack.strongest(axis, _SLICES).items()
        ]
        for axis in range(3)
    ]
    empty = [Panel(image=Image.new("RGB", cut.image.size, "white")) for cut in shown if cut.image is not None]
    rows = [
        [column[row] if column[row:] else blank for column, blank in zip(columns, empty, strict=True)]
        for row in range(max(map(len, columns)))
    ]
    return [shown, *rows]


def _title(explanation: ExplanationValues, look: Look) -> str:
    """What is explained, and the one scale of colors of a single sample."""
    if len(explanation) > 1:
        return f"{explanation.title}; each sample on one scale of colors"
    largest = float(explanation.maps.abs().amax() if look.signed else explanation.maps.amax().clamp(min=0))
    target = f": {explanation.target[0]}" if explanation.target else ""
    told = 0 < largest < float("inf") and not is_by_pixel(explanation)
    scale = f"; one scale of colors, to {largest:.3g}" if told else ""
    return f"{explanation.title}{target}{scale}"


def _note(one: ExplanationValues) -> str:
    status = one.status[0]
    size = " x ".join(map(str, one.maps.shape[1:]))
    parts = (prediction(one), f"{one.layer.short}, {size}", "" if status.ok else str(status))
    return "; ".join(filter(None, parts))
