"""Figures of one explanation, each sort of input in its own way."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from whycam.errors import WhycamError
from whycam.kit.arrays import normalize
from whycam.network.input_axes import channels_first
from whycam.pictures import figures
from whycam.pictures.colormaps import DARK, DARK_SIGNED, hues
from whycam.pictures.curves import Strip, over_time
from whycam.pictures.figures import Panel
from whycam.pictures.media import Clip, Signal, Spectrogram
from whycam.pictures.overlay import paint, paint_parts
from whycam.results.drawing import canvas, heat_picture, on_canvas, overlay, prediction, raw_panel, stacks
from whycam.results.heat import CLIPPED, context_of, is_by_pixel, map_heat, part_heat
from whycam.results.look import Look
from whycam.results.values import ExplanationValues

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

#: Frames in a row, and the strongest slices across each axis.
_SLICES = 4

#: In each row of a figure of pictures.
_PANELS = 4

#: Opacity where nothing but a map's strength is to be told.
_ALONE = 0.8


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
    return _panels(explanation, look)


def _panels(explanation: ExplanationValues, look: Look) -> Figure:
    """For each sample a row: the photo, the raw map at the layer's size, the map resized, the overlay."""
    rows = [row for each in explanation for row in (_row(each, look), *_part_rows(each, look))]
    what = explanation.title + (f": {explanation.target[0]}" if explanation.target and len(explanation) == 1 else "")
    return figures.grid(rows, title=what, colorbar=True, colormap=look.colormap)


def _row(one: ExplanationValues, look: Look) -> list[Panel]:
    context = context_of(one)
    raw = one.maps[0]
    status = one.status[0]
    size = " x ".join(map(str, raw.shape))
    beside = []
    if one.tile_scores is not None:  # a hot place in a tile of no score is no evidence
        beside = [replace(raw_panel(one.tile_scores[0], look.signed), title="Score of each tile")]
    return [
        Panel("Photo", image=canvas(context, 0, "photo")[0], note=prediction(one)),
        replace(raw_panel(raw, look.signed), title="Map at the layer", note=f"{one.layer.short}, {size}"),
        Panel("Map at the input's size", image=heat_picture(one, look)),
        Panel("Overlay", image=overlay(one, replace(look, caption=False)),
              note=str(status) if not status.ok else CLIPPED if is_by_pixel(one) else ""),
        *beside,
    ]  # fmt: skip


def _part_rows(one: ExplanationValues, look: Look) -> list[list[Panel]]:
    """Each part by itself, in its color or with the map's, as many in a row as there are panels above."""
    if one.parts is None:
        return []
    image, geometry = canvas(context_of(one), 0, "photo")
    strengths, seen = on_canvas(part_heat(one, look)[0], geometry)
    if one.apart:
        # each on a scale of its own, which is said below: beside the sharpest head the others would show nothing
        paints = [paint(each, colormap=look.colormap, blend=look.blend) for each in normalize(strengths, "max")]
        notes = [f"up to {float(each.max()):.2g}" for each in one.parts[0]]
    else:
        colors = hues(len(strengths), look.colormap)
        paints = [paint_parts(strengths[[k]], colors[[k]], opacity=_ALONE) for k in range(len(strengths))]
        notes = [""] * len(paints)
    pictures = [each.over(image, seen) for each in paints]
    panels = [
        Panel(f"{one.apart or 'Part'} {k + 1}", image=picture, note=note)
        for k, (picture, note) in enumerate(zip(pictures, notes, strict=True))
    ]
    return [panels[start : start + _PANELS] for start in range(0, len(panels), _PANELS)]


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
    heat = map_heat(one, replace(look, signed=signed))
    colormap = look.colormap or (DARK_SIGNED if signed else DARK)
    ground = Image.new("RGB", (curves.shape[1], 1))  # black, the color of no evidence
    band = paint(heat, colormap=colormap, opacity=_ALONE, signed=signed, blend=look.blend).over(ground)
    names = medium.channels or tuple(f"channel {i}" if len(curves) > 1 else "" for i in range(len(curves)))
    return [
        Strip(name, curve, band, note="" if i else _note(one))
        for i, (name, curve) in enumerate(zip(names, curves, strict=True))
    ]


def _spectrogram(one: ExplanationValues, medium: Spectrogram, look: Look) -> list[Strip]:
    """The spectrogram under the map's colors, low frequencies below, and the map added up at each time."""
    time = medium.axes.index("time")
    picture = np.asarray(overlay(one, replace(look, caption=False, legend=False)))
    raw = one.heatmaps(normalize="none")[0].cpu()
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
