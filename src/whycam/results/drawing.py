"""Explanations as pictures: which picture a map is laid on, and which panels stand side by side."""

import base64
import html as markup
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from whycam.errors import WhycamError
from whycam.kit.arrays import Enlarge, normalize, resize
from whycam.kit.files import Names
from whycam.network.input_axes import channels_first
from whycam.pictures import figures
from whycam.pictures.colormaps import colorize, hues
from whycam.pictures.figures import Panel
from whycam.pictures.geometry import Geometry
from whycam.pictures.input_context import InputContext
from whycam.pictures.marks import marked
from whycam.pictures.media import Volume
from whycam.pictures.overlay import captioned, overlay_parts, side_by_side
from whycam.pictures.overlay import overlay as blend
from whycam.results.slices import Stack
from whycam.results.values import ExplanationValues

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

#: Gradients of single pixels have a few spikes that would leave all else black: their colors end at this quantile.
_PIXEL_QUANTILE = 0.995
CLIPPED = f"colors end at the {_PIXEL_QUANTILE:.1%} quantile"
_THUMBNAIL, _THUMBNAILS = 256, 8

#: Of the shorter side of a film or a logged picture at least, in pixels, up to the last whole number of times.
_FILM = 256

#: In each row of a figure of one explanation.
_PANELS = 4

#: Opacity of one part by itself, where nothing but its strength is to be told.
ALONE = 0.8


@dataclass(frozen=True)
class Look:
    """How maps are drawn: the parameters of `Explanation.overlay`."""

    colormap: str | None = None
    opacity: float = 0.5
    signed: bool = False
    enlarge: Enlarge = "bilinear"
    on: str = "photo"
    caption: bool = True
    marks: bool = True
    at: tuple[int, ...] | None = None  # the voxel that a volume's cuts go through, if not the map's peak


def overlay(explanation: ExplanationValues, look: Look) -> Image.Image:
    """The maps over what they explain, as one picture; see `Explanation.overlay`."""
    if look.on not in ("photo", "input"):
        raise WhycamError(f"on must be 'photo' or 'input', not {look.on!r}.")
    pictures = []
    if len(context_of(explanation).size) == 3:
        for laid, status in zip(stacks(explanation, look), explanation.status, strict=True):
            picture = side_by_side([laid.picture(axis, index) for axis, index in laid.shown()])
            pictures.append(captioned(picture, str(status)) if look.caption and not status.ok else picture)
        return pictures[0] if len(pictures) == 1 else side_by_side(pictures)
    heat = heat_of(explanation, look)
    for i, status in enumerate(explanation.status):
        image, geometry = canvas(context_of(explanation), i, look.on)
        over, seen = _on_canvas(heat[i], geometry)
        how: dict[str, Any] = {"seen": seen, "caption": str(status) if look.caption and not status.ok else None}
        if look.marks and explanation.shown and not _in_colors(explanation):
            how["mark"] = partial(_marked, explanation, i, geometry)
        pictures.append(_lay(explanation, look, image, over, **how))
    return pictures[0] if len(pictures) == 1 else side_by_side(pictures)


def stacks(explanation: ExplanationValues, look: Look) -> list[Stack]:
    """Each sample of a volume or a clip, ready to be drawn slice by slice."""
    context, heat = context_of(explanation), heat_of(explanation, look)
    strength = explanation.maps.detach().float().cpu().nan_to_num(0, 0, 0)
    strength = strength.abs() if look.signed else strength.clamp(min=0)
    lay, made = partial(_lay, explanation, look), []
    for i in range(len(explanation)):
        mask = explanation.shown[i].mask if look.marks and explanation.shown and not _in_colors(explanation) else None
        region = None
        if mask is not None and mask.ndim == 3:
            region = resize(mask[None].float().cpu(), context.size, "nearest")[0].round().bool().numpy()
        made.append(Stack(_pixels(context, i), heat[i], strength[i], context.medium(i), lay, look.at, region))
    return made


def as_first(one: ExplanationValues, look: Look) -> Look:
    """How what is compared with one sample's explanation is drawn: a volume is cut at the same place."""
    return replace(look, at=stacks(one, look)[0].peak) if len(context_of(one).size) == 3 else look


def shown_input(one: ExplanationValues, look: Look) -> Image.Image:
    """What the map of one sample is drawn over."""
    if len(context_of(one).size) == 3:
        return overlay(one, replace(look, opacity=0.0, caption=False, marks=False))
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


def _lay(explanation: ExplanationValues, look: Look, image: Image.Image, heat: Tensor, **how: Any) -> Image.Image:
    """The map, or one of each part, over a picture of its size."""
    if _in_colors(explanation):
        return overlay_parts(image, heat, hues(len(heat), look.colormap), opacity=look.opacity, **how)
    return blend(image, heat, colormap=look.colormap, signed=look.signed, opacity=look.opacity, **how)


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


def four_panels(explanation: ExplanationValues, look: Look) -> Figure:
    """For each sample a row: the photo, the raw map at the layer's size, the map resized, the overlay."""
    rows = [row for each in explanation for row in (_row(each, look), *_part_rows(each, look.colormap))]
    what = explanation.title + (f": {explanation.target[0]}" if explanation.target and len(explanation) == 1 else "")
    return figures.grid(rows, title=what, colorbar=True, colormap=look.colormap)


def html(explanations: Sequence[ExplanationValues]) -> str:
    """Thumbnails with captions, for notebooks: static, with no script and no file beside it."""
    cells: list[str] = []
    for explanation in explanations:
        for one in explanation:
            if len(cells) == _THUMBNAILS:
                break
            try:
                picture = overlay(one, Look(caption=False))
            except WhycamError as error:
                cells.append(f"<div>{markup.escape(str(error))}</div>")
                continue
            picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
            data = io.BytesIO()
            picture.save(data, "png")
            text = "<br>".join(map(markup.escape, _words(one)))
            source = base64.b64encode(data.getvalue()).decode()
            cells.append(f'<figure style="margin:0 8px 8px 0"><img alt="{markup.escape(one.title)}" '
                         f'src="data:image/png;base64,{source}">'
                         f'<figcaption style="font-size:small">{text}</figcaption></figure>')  # fmt: skip
    total = sum(len(explanation) for explanation in explanations)
    more = f"<div>and {total - len(cells)} more</div>" if total > len(cells) else ""
    return f'<div style="display:flex;flex-wrap:wrap">{"".join(cells)}{more}</div>'


def with_words(explanation: ExplanationValues) -> dict[str, Image.Image]:
    """The overlay of each sample by a name of its own, above what a notebook says of it.

    Names are plain ASCII, which every logger takes. Small pictures are enlarged, each pixel as a block.
    """
    names, context = Names(), context_of(explanation)
    return {
        names(re.sub(r"[^ -~]", "_", context.name(i))): captioned(
            _large(overlay(one, Look(caption=False))), "\n".join(_words(one))
        )
        for i, one in enumerate(explanation)
    }


def _words(one: ExplanationValues) -> list[str]:
    """What a reader of one sample's overlay has to know, a line each."""
    said = [f"says {prediction(one)}"] if one.predictions else []
    explained = [f"explains {text}" for text in one.target if text]
    return [*said, *explained, f"{one.title} at {one.layer.short}", str(one.status[0])]


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


def _part_rows(one: ExplanationValues, colormap: str | None) -> list[list[Panel]]:
    """Each part by itself, in its color or with the map's, as many in a row as there are panels above."""
    if one.parts is None:
        return []
    image, geometry = canvas(context_of(one), 0, "photo")
    strengths, seen = _on_canvas(_part_heat(one)[0], geometry)
    colors = hues(len(strengths), colormap)
    how: dict[str, Any] = {"opacity": ALONE, "seen": seen, "legend": False}
    if one.apart:
        # each on a scale of its own, which is said below: beside the sharpest head the others would be black
        pictures = [blend(image, each, colormap=colormap, seen=seen) for each in normalize(strengths, "max")]
        notes = [f"up to {float(each.max()):.2g}" for each in one.parts[0]]
    else:
        pictures = [overlay_parts(image, strengths[[k]], colors[[k]], **how) for k in range(len(strengths))]
        notes = [""] * len(pictures)
    panels = [
        Panel(f"{one.apart or 'Part'} {k + 1}", image=picture, note=note)
        for k, (picture, note) in enumerate(zip(pictures, notes, strict=True))
    ]
    return [panels[start : start + _PANELS] for start in range(0, len(panels), _PANELS)]


def heat_picture(one: ExplanationValues, look: Look) -> Image.Image:
    """One sample's map alone, in its colors, at the input's size."""
    return Image.fromarray(colorize(_map_heat(one, look.signed)[0], look.colormap, look.signed))


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


def context_of(explanation: ExplanationValues) -> InputContext:
    """What the network was shown, without which nothing can be drawn."""
    if explanation.context is None:
        raise WhycamError("this explanation does not keep what the network was shown, so it cannot be drawn over it.")
    return explanation.context


def _check_drawable(explanation: ExplanationValues) -> None:
    axes, own = explanation.maps.ndim - 1, len(context_of(explanation).size)
    if axes != own or own < 2:
        advice = "figure() draws signals." if own == axes == 1 else "Their values are in .maps and .heatmaps()."
        raise WhycamError(
            f"a picture needs maps with the input's axes, two or three; these have {axes} (shape "
            f"{tuple(explanation.maps.shape)}) and the input {own}. {advice}"
        )


def _in_colors(explanation: ExplanationValues) -> bool:
    """Whether parts are drawn over each other, in place of the map."""
    return explanation.parts is not None and not explanation.apart


def _on_canvas(heat: Tensor, geometry: Geometry | None) -> tuple[Tensor, Tensor | None]:
    """A map, or one of each part, where it lies on what it is drawn on, and which of that the network saw."""
    if geometry is None:
        return heat, None
    if heat.ndim == 2:
        return geometry.to_photo(heat)
    laid, seen = zip(*map(geometry.to_photo, heat), strict=True)
    return torch.stack(laid), seen[0]


def _part_heat(explanation: ExplanationValues) -> Tensor:
    """The parts at the input's size, those of one sample on one scale from 0 to 1."""
    assert explanation.parts is not None  # asked for where there are some
    parts = explanation.parts.cpu()
    large = resize(parts.flatten(0, 1), context_of(explanation).size)
    scaled = normalize(large.reshape(len(parts), -1), "max")
    return scaled.reshape(*parts.shape[:2], *large.shape[1:])


def heat_of(explanation: ExplanationValues, look: Look) -> Tensor:
    """The maps, or those of each part, at the input's size, each sample on one scale for colors."""
    _check_drawable(explanation)
    if _in_colors(explanation):
        return _part_heat(explanation)
    return _map_heat(explanation, look.signed, look.enlarge)


def _map_heat(explanation: ExplanationValues, signed: bool, enlarge: Enlarge = "bilinear") -> Tensor:
    """Maps at the input's size, scaled for colors; NaN stays, and is drawn as no value."""
    if not is_by_pixel(explanation):
        return explanation.heatmaps(normalize="signed" if signed else "max", enlarge=enlarge).cpu()
    raw = explanation.heatmaps(normalize="none", enlarge=enlarge).cpu()
    strength = raw.abs() if signed else raw.clamp(min=0)
    end = torch.from_numpy(np.quantile(strength.flatten(1).numpy(), _PIXEL_QUANTILE, 1))  # torch's has a largest size
    end = end.to(raw).reshape(-1, *[1] * (raw.ndim - 1))
    return normalize(raw.clamp(-end, end).where(end > 0, raw), "signed" if signed else "max")


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
        laid, seen = _on_canvas(whole, geometry)
        region = (laid.round().bool() & (seen if seen is not None else True)).numpy()
    return marked(picture, place, box=shown.box, others=shown.others, region=region, point=shown.point, text=shown.text)


def is_by_pixel(explanation: ExplanationValues) -> bool:
    """Whether the maps are as fine as the input, as guided backprop's are."""
    return tuple(explanation.maps.shape[1:]) == tuple(context_of(explanation).size)


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
