"""A photo with a small overlay for each layer that a map can be made at: where in a network to look, at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from whycam.checkup.layers import LayerInfo
from whycam.engine.request import MethodLike
from whycam.errors import WhycamError
from whycam.explainer import compare, layers
from whycam.kit.registry import Method, find
from whycam.models.adopt import ModelLike
from whycam.pictures import figures
from whycam.pictures.figures import Panel
from whycam.pictures.input_context import InputContext
from whycam.pictures.photos import Photo
from whycam.results.drawing import canvas, overlay, prediction, scene_of
from whycam.results.explanation import Comparison, Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any  # an extra that only figures need

#: The most thumbnails unless all are asked for, and how few of the shallow names are too few to go by.
_MOST, _FEW = 24, 8
#: The longest side of the photo under an overlay, in pixels; a panel is no larger.
_SIDE = 400
_CHOSEN = "#2a9d3a"


@dataclass(frozen=True)
class Sheet:
    """A contact sheet.

    Attributes:
        figure: the photo, then one overlay for each layer in running order; the chosen one is framed.
        comparison: the explanations drawn, by method, layer and target; all are from one pass.
        shown: the layers drawn. `left_out`: the layers that were not, and why not, in words (`""` if there are none).
    """

    figure: Figure
    comparison: Comparison
    shown: tuple[LayerInfo, ...]
    left_out: tuple[LayerInfo, ...]
    why: str


def thumbnails(
    model: ModelLike,
    inputs: Any,
    found: Sequence[LayerInfo] | None = None,
    method: MethodLike = "grad_cam",
    *,
    every: bool = False,
    colormap: str | None = None,
) -> Sheet:
    """Draw one method's map at many layers of a network, for the first of the inputs.

    Args:
        model, inputs, method: as for `explain`.
        found: the layers, if they have been listed; `every` of them is drawn, or else a selection that shows each
            stage of the network.

    Raises:
        WhycamError: a method without a layer, or a network without a layer that can be drawn.
        MissingExtraError: matplotlib is absent.
    """
    chosen = find(method)
    if not chosen.has_layer:
        raise WhycamError(f"{chosen.title} works at the input and reads no layer, so it has one map and no thumbnails.")
    listed = list(found) if found is not None else layers(model, inputs)
    drawable = [each for each in listed if len(each.grid) == 2 and each.location != "refuted"]
    if not drawable:
        raise WhycamError("no layer of this network has two spatial axes that lie as in the input, so none is drawn.")
    shown = drawable if every else select(drawable)
    made = compare(model, inputs, [method], layers=[each.name for each in shown])
    figure = _figure(made, shown, chosen, len(listed), colormap)
    left_out = tuple(each for each in listed if each not in shown)
    return Sheet(figure, made, tuple(shown), left_out, _why(left_out, drawable, every=every))


def select(found: Sequence[LayerInfo], most: int = _MOST) -> list[LayerInfo]:
    """At most so many layers (the chosen ones besides) that show each stage of a network, in running order.

    Those of shallow names, as many levels as fit: stages first, then their blocks, then what is inside. Where the first
    levels hold few and the next too many, the last layer of each grid joins them, and then the last layers.
    """
    if len(found) <= most:
        return list(found)
    depth = {each.name: each.name.count(".") for each in found}
    kept: set[str] = set()
    for level in sorted(set(depth.values())):
        more = [each for each in found if depth[each.name] <= level]
        if len(more) > most:
            if len(kept) < _FEW:
                kept |= {each.name for each in {each.grid: each for each in more}.values()}
                kept |= {each.name for each in more[-_FEW:]}
            break
        kept = {each.name for each in more}
    return [each for each in found if each.name in kept or each.chosen_for]


def is_chosen(layer: LayerInfo, method: Method) -> bool:
    """Whether a layer is the one that this method gets when none is named."""
    others = {"every method", "every other method"}
    if method.side == "before":
        return "every method" in layer.chosen_for or any(each not in others for each in layer.chosen_for)
    return not others.isdisjoint(layer.chosen_for)


def _why(left_out: Sequence[LayerInfo], drawable: Sequence[LayerInfo], *, every: bool) -> str:
    names = {each.name for each in drawable}
    undrawable = sum(each.name not in names for each in left_out)
    reasons = []
    if more := len(left_out) - undrawable:
        reasons.append(f"{more} inside those drawn or like them")
    if undrawable:
        reasons.append(f"{undrawable} whose positions do not lie as in the input, or are not in two axes")
    return " and ".join(reasons)


def _figure(made: Comparison, shown: Sequence[LayerInfo], method: Method, total: int, colormap: str | None) -> Figure:
    first = next(iter(made.values()))[0]
    context = _small(scene_of(first))
    panels = [Panel("photo" if context.photos is not None else "input", image=canvas(context, 0, "photo")[0],
                    note=prediction(first))]  # fmt: skip
    panels += [_panel(made, each, method, context, colormap) for each in shown]
    columns = max(4, ceil(sqrt(1.5 * len(panels)))) if len(panels) > 5 else len(panels)
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    explained = f" for {first.target[0]}" if first.target else ""
    return figures.grid(rows, title=f"{method.title}{explained} at {len(shown)} of {total} layers", colormap=colormap)


def _panel(made: Comparison, layer: LayerInfo, method: Method, context: InputContext, colormap: str | None) -> Panel:
    mine = is_chosen(layer, method)
    title = f"{layer.name} (chosen)" if mine else layer.name
    note = "x".join(map(str, layer.grid))
    try:
        one = _at(made, layer.name)
    except WhycamError as error:
        return Panel(title, failure=str(error))
    picture = overlay(replace(one[0], context=context), colormap=colormap, caption=False)
    status = one.status[0]
    if layer.location not in ("by construction", "verified"):
        note += f", place {layer.location}"
    return Panel(
        title, image=_framed(picture) if mine else picture, note=note if status.ok else f"{note}; {status.kind}"
    )


def _at(made: Comparison, layer: str) -> Explanation:
    """The explanation at one layer; the key's own name may carry the number of the call."""
    return made[next(name for name, *_ in [*made, *made.failures]), layer]


def _framed(picture: Image.Image) -> Image.Image:
    """The picture under a frame, at its own size: among others a smaller one would look like another crop."""
    width = max(4, max(picture.size) // 40)
    ImageDraw.Draw(picture).rectangle((0, 0, picture.width - 1, picture.height - 1), outline=_CHOSEN, width=width)
    return picture


def _small(context: InputContext) -> InputContext:
    """The first sample's context with its photo as small as it is drawn: maps over a camera's photo would take long."""
    one = context[:1]
    if one.photos is None or one.geometries is None:
        return one
    image = one.photos[0].image
    shrink = _SIDE / max(image.size)
    if shrink >= 1:
        return one
    size = (max(1, round(image.height * shrink)), max(1, round(image.width * shrink)))
    small = image.resize(size[::-1], Image.Resampling.LANCZOS, reducing_gap=2)
    photo = Photo(small, one.photos[0].name, one.photos[0].path)
    return replace(one, photos=(photo,), geometries=(one.geometries[0].on_photo_of(size),))
