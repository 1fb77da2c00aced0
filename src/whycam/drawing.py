"""Explanations as pictures: which picture a map is laid on, and which panels stand side by side."""

import base64
import html as markup
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from whycam.arrays import normalize
from whycam.errors import WhycamError
from whycam.pictures import figures
from whycam.pictures.colours import colourise
from whycam.pictures.figures import Panel
from whycam.pictures.overlay import contact_sheet
from whycam.pictures.overlay import overlay as blend
from whycam.registry import methods as registered
from whycam.scene import Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from whycam.explanation import Comparison, Explanation
else:
    Figure = Comparison = Explanation = Any

#: The longest side of a photo as it is drawn. Larger photos are shrunk first: a 12,000 px one would need gigabytes.
LONGEST_SIDE = 2048

#: The most overlays side by side when a figure has one direction only.
_COLUMNS = 4
_COLUMNS_OF_A_TABLE = 7

#: Gradients of single pixels have a few spikes that would leave all else black: their colours end at this quantile.
_PIXEL_QUANTILE = 0.995
_CLIPPED = f"colours end at the {_PIXEL_QUANTILE:.1%} quantile"
_THUMBNAIL, _THUMBNAILS = 256, 8


def overlay(
    explanation: Explanation,
    *,
    colormap: str | None = None,
    opacity: float = 0.5,
    signed: bool = False,
    on: str = "photo",
    caption: bool = True,
) -> Image.Image:
    """The maps over what they explain, as one picture; see `Explanation.overlay`."""
    if on not in ("photo", "input"):
        raise WhycamError(f"on must be 'photo' or 'input', not {on!r}.")
    heat = _flat_heat(explanation, signed)
    pictures = []
    for i, status in enumerate(explanation.status):
        image, laid, seen = _laid(_scene(explanation), i, heat[i], on)
        text = str(status) if caption and not status.ok else None
        pictures.append(blend(image, laid, colormap=colormap, opacity=opacity, signed=signed, seen=seen, caption=text))
    return pictures[0] if len(pictures) == 1 else contact_sheet(pictures)


def heatmap(explanation: Explanation, *, colormap: str | None = None, signed: bool = False) -> Image.Image:
    """The maps alone, at the input's size, in colours."""
    heat = _flat_heat(explanation, signed)
    pictures = [Image.fromarray(colourise(each, colormap, signed)) for each in heat]
    return pictures[0] if len(pictures) == 1 else contact_sheet(pictures)


def four_panels(explanation: Explanation, *, colormap: str | None = None, signed: bool = False) -> Figure:
    """For each sample a row: the photo, the raw map at the layer's size, the map resized, the overlay."""
    rows = [_row(each, colormap, signed) for each in explanation]
    what = explanation.title + (f": {explanation.target[0]}" if explanation.target and len(explanation) == 1 else "")
    return figures.grid(rows, title=what, colorbar=True, colormap=colormap)


def grid(
    comparison: Comparison,
    *,
    sample: int = 0,
    colormap: str | None = None,
    signed: bool = False,
    on: str = "input",
) -> Figure:
    """Overlays of one sample; what varies (methods, layers, targets) makes the rows and columns."""
    keys = [*comparison, *comparison.failures]
    methods = list(dict.fromkeys(method for method, _, _ in keys))
    titles = {method: known.title for method, known in registered().items()}
    layers = list(dict.fromkeys(layer for _, layer, _ in keys if layer != "input"))
    per_method = [len({layer for name, layer, _ in keys if name == method}) for method in methods]
    several_layers = max(per_method) > 1  # else each method's own layer was chosen for it
    specific = {method: bool(each.target) for (method, _, _), each in comparison.items()}
    targets = list(dict.fromkeys(target for method, _, target in keys if specific.get(method, True))) or [None]
    words = {target: _spell(comparison, target, sample) for target in targets}

    axes: list[tuple[str, list[Any]]] = [("target", targets), ("layer", layers if several_layers else [None])]
    axes = [axis for axis in [("method", methods), *axes] if len(axis[1]) > 1]
    # the first makes the columns: one that fits a page, if there is one
    axes.sort(key=lambda axis: len(axis[1]) > _COLUMNS_OF_A_TABLE)
    names: dict[str, Callable[[Any], str]] = {
        "method": lambda m: titles.get(m, m),
        "layer": str,
        "target": lambda t: words[t],
    }
    first: dict[str, Any] = {"method": methods[0], "layer": None, "target": targets[0]}
    if not several_layers and len(methods) == 1 and layers:
        first["layer"] = layers[0]

    def panel(chosen: dict[str, Any], title: str) -> Panel:
        at = {**first, **chosen}
        return _cell(comparison, (at["method"], at["layer"], at["target"]), sample, title, colormap, signed, on)

    one = next(iter(comparison.values()))[sample]
    photo = Panel(
        "Photo" if on == "photo" else "Input", image=_laid(_scene(one), 0, None, on)[0], note=_prediction(one)
    )
    if len(axes) <= 1:
        name, values = axes[0] if axes else ("method", methods)
        panels = [photo, *(panel({name: value}, names[name](value)) for value in values)]
        columns = min(_COLUMNS, len(panels)) if len(panels) != 5 else 5
        fixed = [] if name == "method" else [titles.get(methods[0], methods[0])]
        fixed += [] if name == "target" or targets == [None] else [words[targets[0]]]
        return figures.grid(
            [panels[start : start + columns] for start in range(0, len(panels), columns)],
            title=", ".join(fixed) or None,
            colormap=colormap,
        )
    (column, across), *rest = axes
    combinations: list[dict[str, Any]] = [{}]
    for name, values in rest:
        combinations = [{**so_far, name: value} for so_far in combinations for value in values]
    blank = replace(photo, title="", note="")
    return figures.grid(
        [
            [photo if number == 0 else blank, *(panel({**row, column: value}, "") for value in across)]
            for number, row in enumerate(combinations)
        ],
        row_labels=[", ".join(names[name](value) for name, value in row.items()) for row in combinations],
        column_labels=["", *(names[column](value) for value in across)],
        colormap=colormap,
    )


def html(explanations: Sequence[Explanation]) -> str:
    """Thumbnails with captions, for notebooks: static, with no script and no file beside it."""
    cells: list[str] = []
    for explanation in explanations:
        for one in explanation:
            if len(cells) == _THUMBNAILS:
                break
            try:
                picture = overlay(one, caption=False)
            except WhycamError as error:
                cells.append(f"<div>{markup.escape(str(error))}</div>")
                continue
            picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
            data = io.BytesIO()
            picture.save(data, "png")
            lines = [_prediction(one), f"{one.title} at {one.layer.name}", *one.target[:1], str(one.status[0])]
            text = "<br>".join(markup.escape(line) for line in lines if line)
            source = base64.b64encode(data.getvalue()).decode()
            cells.append(f'<figure style="margin:0 8px 8px 0"><img alt="" src="data:image/png;base64,{source}">'
                         f'<figcaption style="font-size:small">{text}</figcaption></figure>')  # fmt: skip
    total = sum(len(explanation) for explanation in explanations)
    more = f"<div>and {total - len(cells)} more</div>" if total > len(cells) else ""
    return f'<div style="display:flex;flex-wrap:wrap">{"".join(cells)}{more}</div>'


def _row(one: Explanation, colormap: str | None, signed: bool) -> list[Panel]:
    scene, heat = _scene(one), _flat_heat(one, signed)[0]
    raw = one.maps[0]
    status = one.status[0]
    size = " x ".join(map(str, raw.shape))
    return [
        Panel("Photo", image=_laid(scene, 0, None, "photo")[0], note=_prediction(one)),
        Panel("Map at the layer", values=raw, signed=signed or bool((raw < 0).any()), note=f"{one.layer.name}, {size}"),
        Panel("Map at the input's size", image=Image.fromarray(colourise(heat, colormap, signed))),
        Panel("Overlay", image=overlay(one, colormap=colormap, signed=signed, caption=False),
              note=str(status) if not status.ok else _CLIPPED if is_by_pixel(one) else ""),
    ]  # fmt: skip


def _cell(
    comparison: Comparison,
    wanted: tuple[str, Any, Any],
    sample: int,
    title: str,
    colormap: str | None,
    signed: bool,
    on: str,
) -> Panel:
    try:
        one = comparison[wanted][sample]
    except WhycamError as error:
        return Panel(title, failure=str(error))
    except KeyError:
        return Panel(title, failure="not asked for")
    status = one.status[0]
    score = f"score {float(one.scores[0]):.2f}, " if one.target else ""
    note = f"{score}{one.layer.name}" + (f"; {_CLIPPED}" if is_by_pixel(one) else "")
    note += "" if status.ok else f"; {status.kind}"
    return Panel(title, image=overlay(one, colormap=colormap, signed=signed, on=on, caption=False), note=note)


def _spell(comparison: Comparison, target: Any, sample: int) -> str:
    for (_, _, key), each in comparison.items():
        if key == target and each.target:
            return each.target[sample]
    return str(target)


def _prediction(one: Explanation) -> str:
    return str(one.predictions[0]) if one.predictions else ""


def _scene(explanation: Explanation) -> Scene:
    if explanation.scene is None:
        raise WhycamError("this explanation does not keep what the network was shown, so it cannot be drawn over it.")
    return explanation.scene


def _flat_heat(explanation: Explanation, signed: bool) -> Tensor:
    """Maps of two spatial axes at the input's size, scaled for colours; NaN stays, and is drawn as no value."""
    if explanation.maps.ndim != 3 or len(_scene(explanation).size) != 2:
        raise WhycamError(
            f"a picture needs maps with two spatial axes; these have {explanation.maps.ndim - 1} "
            f"(shape {tuple(explanation.maps.shape)}). Their values are in .maps and .heatmaps()."
        )
    if not is_by_pixel(explanation):
        return explanation.heatmaps(normalize="signed" if signed else "max").cpu()
    raw = explanation.heatmaps(normalize="none").cpu()
    strength = raw.abs() if signed else raw.clamp(min=0)
    end = strength.flatten(1).quantile(_PIXEL_QUANTILE, dim=1)[:, None, None]
    return normalize(raw.clamp(-end, end).where(end > 0, raw), "signed" if signed else "max")


def is_by_pixel(explanation: Explanation) -> bool:
    """Whether the maps are as fine as the input, as guided backprop's are."""
    return tuple(explanation.maps.shape[1:]) == tuple(_scene(explanation).size)


def _laid(scene: Scene, sample: int, heat: Tensor | None, on: str) -> tuple[Image.Image, Tensor, Tensor | None]:
    """The picture to draw on, the heat laid over it, and which of its pixels the network saw (`None` for all)."""
    if on == "photo" and scene.photos is not None and scene.geometries is not None:
        image, geometry = scene.photos[sample].image, scene.geometries[sample]
        shrink = min(1.0, LONGEST_SIDE / max(image.size))
        if shrink < 1:
            size = (max(1, round(image.height * shrink)), max(1, round(image.width * shrink)))
            ratio = (size[0] / image.height, size[1] / image.width)
            image = image.resize(size[::-1], Image.Resampling.LANCZOS, reducing_gap=2)
            geometry = replace(
                geometry,
                photo_size=size,
                scale=(geometry.scale[0] * ratio[0], geometry.scale[1] * ratio[1]),
                offset=(geometry.offset[0] * ratio[0], geometry.offset[1] * ratio[1]),
            )
        if heat is None:
            return image, torch.empty(0), None
        laid, seen = geometry.to_photo(heat)
        return image, laid, seen
    picture = _input_picture(scene, sample)
    return picture, heat if heat is not None else torch.empty(0), None


def _input_picture(scene: Scene, sample: int) -> Image.Image:
    """What the network was given, as a picture: un-normalised where that is known, else stretched to its own range."""
    tensor = scene.inputs[sample].detach().float().cpu()
    if scene.preprocess is not None:
        return scene.preprocess.undo(tensor)
    if tensor.ndim != 3:
        raise WhycamError(f"a picture needs inputs with two spatial axes, not shape {tuple(scene.inputs.shape)}.")
    colours = tensor if len(tensor) == 3 else tensor.mean(0, keepdim=True).expand(3, -1, -1)
    scaled = normalize(colours.nan_to_num().flatten()[None], "minmax").reshape(colours.shape)
    return Image.fromarray((scaled * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
