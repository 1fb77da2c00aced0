"""Explanations as pictures: which picture a map is laid on, and which panels stand side by side."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from whycam.errors import OptionError, WhycamError
from whycam.kit.arrays import normalize, resize
from whycam.kit.files import Names
from whycam.network.input_axes import channels_first
from whycam.pictures.colormaps import colorize, hues
from whycam.pictures.figures import Panel
from whycam.pictures.geometry import Geometry
from whycam.pictures.input_context import InputContext
from whycam.pictures.marks import marked
from whycam.pictures.media import Volume
from whycam.pictures.overlay import paint as paint_map
from whycam.pictures.overlay import paint_parts, side_by_side
from whycam.pictures.strips import captioned, with_numbers, with_scale
from whycam.results.heat import color_scale, context_of, heat_of, in_colors, map_heat, strength
from whycam.results.look import Look
from whycam.results.regions import above
from whycam.results.slices import Stack
from whycam.results.values import ExplanationValues

#: What is wanted of a picture: all of it, the colors alone, or what they lie on.
Layer: TypeAlias = Literal["whole", "colors", "backdrop"]

#: Of the shorter side of a film or a logged picture at least, in pixels, up to the last whole number of times.
_FILM = 256


def overlay(explanation: ExplanationValues, look: Look) -> Image.Image:
    """The maps over what they explain, as one picture; see `Explanation.overlay`."""
    drawn = zip(explanation, _drawn(explanation, look, "whole"), strict=True)
    return side_by_side([_with_strips(one, look, picture) for one, picture in drawn])


def heat_layer(explanation: ExplanationValues, look: Look) -> Image.Image:
    """The colors of `overlay` alone, transparent where the map says nothing; see `Explanation.heat_layer`."""
    return side_by_side(_drawn(explanation, look, "colors"))


def backdrop(explanation: ExplanationValues, look: Look) -> Image.Image:
    """What `overlay` lays the colors on: this, and over it `heat_layer` at its opacity, is the overlay."""
    return side_by_side(_drawn(explanation, look, "backdrop"))


def _drawn(explanation: ExplanationValues, look: Look, layer: Layer) -> list[Image.Image]:
    """A picture of each sample, or one layer of it."""
    context = context_of(explanation)
    if look.on not in ("photo", "input"):
        raise OptionError(f"on must be 'photo' or 'input', not {look.on!r}.")
    if len(context.size) == 3:
        laid = stacks(explanation, look, layer)
        return [side_by_side([each.picture(axis, index) for axis, index in each.shown()]) for each in laid]
    heat, bright, pictures = heat_of(explanation, look), _bright(explanation, look), []
    for i in range(len(explanation)):
        image, geometry = canvas(context, i, look.on)
        over, seen = on_canvas(heat[i], geometry)
        how: dict[str, Any] = {"seen": seen, "outline": _outline(bright[i], geometry, look)}
        if look.marks and explanation.shown and not in_colors(explanation):
            how["mark"] = partial(_marked, explanation, i, geometry)
        pictures.append(_lay(explanation, look, layer, image, over, **how))
    return pictures


def _lay(
    explanation: ExplanationValues,
    look: Look,
    layer: Layer,
    image: Image.Image,
    heat: Tensor,
    *,
    seen: Tensor | None = None,
    outline: Tensor | None = None,
    mark: Callable[[Image.Image], Image.Image] | None = None,
) -> Image.Image:
    """The map, or one of each part, over a picture of its size, or one layer of that."""
    if in_colors(explanation):
        paint = paint_parts(heat, hues(len(heat), look.colormap), opacity=look.opacity)
    else:
        how: dict[str, Any] = {name: getattr(look, name) for name in ("colormap", "opacity", "signed", "blend")}
        paint = paint_map(heat, **how)
    if layer == "colors":
        return paint.alone(seen, outline)
    picture = paint.over(image, seen, outline) if layer == "whole" else paint.backdrop(image, seen)
    return picture if mark is None else mark(picture)


def _bright(explanation: ExplanationValues, look: Look) -> Sequence[Tensor | None]:
    """What contours go by, at the input's size: the same as `Explanation.mask`."""
    return [None] * len(explanation) if look.contour is None else [*explanation.heatmaps().cpu()]


def _outline(bright: Tensor | None, geometry: Geometry | None, look: Look) -> Tensor | None:
    """What the contour goes around, where one is asked for."""
    if bright is None or look.contour is None:
        return None
    return above(on_canvas(bright, geometry)[0], look.contour)


def _with_strips(one: ExplanationValues, look: Look, picture: Image.Image) -> Image.Image:
    """The picture of one sample above its legend and its words."""
    if one.parts is not None and in_colors(one):
        picture = with_numbers(picture, hues(one.parts.shape[1], look.colormap))
    elif look.legend:
        picture = with_scale(picture, color_scale(one, look), look.colormap, look.signed)
    status = one.status[0]
    if look.caption is True:
        return captioned(picture, "\n".join(words(one)))
    return captioned(picture, str(status)) if look.caption and not status.ok else picture


def stacks(explanation: ExplanationValues, look: Look, layer: Layer = "whole") -> list[Stack]:
    """Each sample of a volume or a clip, ready to be drawn slice by slice."""
    context, heat = context_of(explanation), heat_of(explanation, look)
    evidence = strength(explanation.maps.float().cpu(), look.signed)
    lay, bright, made = partial(_lay, explanation, look, layer), _bright(explanation, look), []
    for i in range(len(explanation)):
        mask = explanation.shown[i].mask if look.marks and explanation.shown and not in_colors(explanation) else None
        outline, region = _outline(bright[i], None, look), None
        if mask is not None and mask.ndim == 3:
            region = resize(mask[None].float().cpu(), context.size, "nearest")[0].round().bool().numpy()
        made.append(Stack(_pixels(context, i), heat[i], evidence[i], context.medium(i), lay, look.at, region, outline))
    return made


def as_first(one: ExplanationValues, look: Look) -> Look:
    """How what is compared with one sample's explanation is drawn: a volume is cut at the same place."""
    return replace(look, at=stacks(one, look)[0].peak) if len(context_of(one).size) == 3 else look


def shown_input(one: ExplanationValues, look: Look) -> Image.Image:
    """What the map of one sample is drawn over."""
    if len(context_of(one).size) == 3:
        return overlay(one, replace(look, opacity=0.0, caption=False, marks=False, contour=None, legend=False))
    return canvas(context_of(one), 0, look.on)[0]


def film(explanation: ExplanationValues, look: Look) -> list[Image.Image]:
    """Every frame of a clip, or slice of a volume, with its map; several samples side by side.

    Small ones are enlarged by a whole number, each pixel as a block.
    """
    if len(context_of(explanation).size) != 3:
        raise WhycamError("a film needs a clip or a volume, with three spatial axes; for this save a folder.")
    slices = zip(*(one.frames() for one in stacks(explanation, look)), strict=True)
    return [_large(side_by_side(each)) for each in slices]


def _large(picture: Image.Image) -> Image.Image:
    times = max(1, _FILM // min(picture.size))
    return picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST)


def colored(explanation: ExplanationValues) -> list[Image.Image]:
    """What `Explanation.colored` returns."""
    colors = explanation.colors
    if colors is None or colors.ndim != 4 or colors.shape[1] != 3:
        raise WhycamError(
            f"{explanation.title} has no map for each of three colors; use guided_backprop or guided_grad_cam at one "
            "layer on color pictures."
        )
    values = colors.detach().cpu().double()
    flat = values.flatten(1)
    deviation = flat.std(1, correction=0)[:, None, None, None]
    shifted = values - flat.mean(1)[:, None, None, None]
    gray = 0.5 + 0.1 * (shifted / deviation).where(deviation > 0, 0.0)
    pixels = (gray.clamp(0, 1) * 255).round().byte().movedim(1, -1)
    return [Image.fromarray(each.numpy()) for each in pixels]


def with_words(explanation: ExplanationValues) -> dict[str, Image.Image]:
    """The overlay of each sample by a name of its own, above what a notebook says of it.

    Names are plain ASCII, which every logger takes. Small pictures are enlarged, each pixel as a block.
    """
    names, context = Names(), context_of(explanation)
    return {
        names(re.sub(r"[^ -~]", "_", context.name(i))): captioned(
            _large(overlay(one, Look(caption=False))), "\n".join(words(one))
        )
        for i, one in enumerate(explanation)
    }


def words(one: ExplanationValues) -> list[str]:
    """What a reader of one sample's overlay has to know, a line each."""
    said = [f"says {prediction(one)}"] if one.predictions else []
    explained = [f"explains {text}" for text in one.target if text]
    return [*said, *explained, f"{one.title} at {one.layer.short}", str(one.status[0])]


def heat_picture(one: ExplanationValues, look: Look) -> Image.Image:
    """One sample's map alone, in its colors, at the input's size."""
    return Image.fromarray(colorize(map_heat(one, look)[0], look.colormap, look.signed))


def raw_panel(raw: Tensor, signed: bool) -> Panel:
    """A raw map at its own size; its colors have zero in the middle if it is signed, whether or not that was asked.

    Raises:
        WhycamError: a map of other than two axes.
    """
    if raw.ndim != 2:
        raise WhycamError(f"raw maps are drawn where they have two axes, and this one has {raw.ndim}; leave maps out.")
    return Panel(values=raw, signed=signed or bool((raw < 0).any()))


def prediction(one: ExplanationValues) -> str:
    """What the model says of the first sample, or nothing where its output holds no classes."""
    return str(one.predictions[0]) if one.predictions else ""


def on_canvas(heat: Tensor, geometry: Geometry | None) -> tuple[Tensor, Tensor | None]:
    """A map, or one of each part, where it lies on what it is drawn on, and which of that the network saw."""
    if geometry is None:
        return heat, None
    if heat.ndim == 2:
        return geometry.to_photo(heat)
    laid, seen = zip(*map(geometry.to_photo, heat), strict=True)
    return torch.stack(laid), seen[0]


def _marked(
    explanation: ExplanationValues, sample: int, geometry: Geometry | None, picture: Image.Image
) -> Image.Image:
    """The picture with what of the sample is explained: boxes, the outline of a region, a point."""
    shown = explanation.shown[sample]
    height, width = context_of(explanation).size

    def place(x: float, y: float) -> tuple[float, float]:
        if geometry is None:
            return x * picture.width / width, y * picture.height / height
        return x * geometry.scale[1] + geometry.offset[1], y * geometry.scale[0] + geometry.offset[0]

    region = None
    if shown.mask is not None and shown.mask.ndim == 2:
        whole = resize(shown.mask[None].float().cpu(), (height, width), "nearest")[0]
        laid, seen = on_canvas(whole, geometry)
        region = (laid.round().bool() & (seen if seen is not None else True)).numpy()
    return marked(picture, place, box=shown.box, others=shown.others, region=region, point=shown.point, text=shown.text)


def canvas(context: InputContext, sample: int, on: str) -> tuple[Image.Image, Geometry | None]:
    """The picture to draw on, and how the input lies on it; `None` where the picture is the input itself."""
    if on != "photo" or context.photos is None or context.geometries is None:
        return _input_picture(context, sample), None
    photo = context.photos[sample].to_draw
    return photo.image, context.geometries[sample].on_photo_of(photo.size)


def _input_picture(context: InputContext, sample: int) -> Image.Image:
    """What the network was given, as a picture: un-normalized where that is known, else stretched to its own range."""
    if context.preprocess is not None:
        return context.preprocess.undo(context.inputs[sample].detach().float().cpu())
    return Image.fromarray(np.ascontiguousarray(_pixels(context, sample)))


def _pixels(context: InputContext, sample: int) -> UInt8[np.ndarray, "... 3"]:
    """A sample's colors, on one scale from its least to its greatest value; volumes are gray."""
    tensor = context.inputs[[sample]].detach().float().cpu()
    space = context.space or tuple(range(2, tensor.ndim))
    if len(space) not in (2, 3):
        raise WhycamError(
            f"a picture needs inputs with two spatial axes or three, not shape {tuple(context.inputs.shape)}."
        )
    tensor = channels_first(tensor, space)[0]
    gray = len(tensor) != 3 or isinstance(context.medium(sample), Volume)
    colors = tensor.mean(0, keepdim=True) if gray else tensor
    scaled = normalize(colors.nan_to_num().flatten()[None], "minmax").reshape(colors.shape)
    return (scaled * 255).round().byte().expand(3, *tensor.shape[1:]).movedim(0, -1).numpy()
