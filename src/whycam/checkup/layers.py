"""The layers of a model that a map can be made at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from whycam.engine.inputs import Batch
from whycam.engine.layer_plan import weighed
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.kit.registry import Side, methods
from whycam.models.vision_model import VisionModel
from whycam.network.hooks import Inputs
from whycam.network.input_axes import shape_of
from whycam.network.layer_refs import LayerRef
from whycam.network.layers.default_layer import choose
from whycam.network.layers.features import Feature, features
from whycam.network.layers.positions import Located, locate
from whycam.network.layers.segmenter import of_segmenter
from whycam.network.layouts import is_plain
from whycam.network.pytree import first_tensor


@dataclass(frozen=True)
class LayerInfo:
    """One layer that a map can be made at.

    Attributes:
        name: what to pass as `layer=`; `also` are other names of the very same feature.
        kind: the class of the module that made it. `shape`: what it returns for one sample.
        grid: its spatial sizes. `stride`: input pixels per location. `layout`: how its axes are read.
        location: how it is known where in the input each position lies, as in an explanation's `Layer`;
            `"refuted"` where it is known that they lie elsewhere, so that no map can be made.
        chosen_for: what it is chosen for when no layer is named, empty for most; `why` gives the reason. Nothing is
            chosen where the positions of all the last features are known to lie elsewhere.
    """

    name: str
    also: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    stride: tuple[float, ...]
    layout: str
    location: str
    chosen_for: tuple[str, ...]
    why: str


def layers(session: Session, inputs: Any) -> list[LayerInfo]:
    """What `Explainer.layers` returns."""
    vision, batch = session.vision, session.batch(inputs)
    found, _ = features(vision.module, batch.inputs)
    before, after = _chosen(session, batch)
    *most, last = (method.title for method in methods().values() if method.side == "before" and method.has_layer)
    titles = f"{', '.join(most)} and {last}"
    choices = {"every method": after} if before == after else {titles: before, "every other method": after}
    located = _located(vision, batch.inputs, found)
    size = shape_of(vision.module, first_tensor(batch.inputs))[2:]
    rows = []
    for feature in found:
        layout, location = located.get(feature.tap, (feature.layout, "by construction"))
        read = feature.layout if layout is None else layout
        grid = read.grid(feature.shape)
        name = str(feature.tap)
        matching = {purpose: choice for purpose, choice in choices.items() if choice[0] == name}
        rows.append(
            LayerInfo(
                name,
                tuple(each for each in dict.fromkeys(feature.names) if each != feature.tap.module),
                feature.kind,
                feature.shape,
                grid,
                tuple(side / cells for side, cells in zip(size, grid, strict=True)) if len(size) == len(grid) else (),
                str(read),
                "refuted" if layout is None else location,
                tuple(matching),
                "; ".join(dict.fromkeys(why for _, why in matching.values())),
            )
        )
    return rows


def _located(vision: VisionModel, inputs: Inputs, found: Sequence[Feature]) -> dict[LayerRef, Located]:
    """Where the positions lie of those features that are not plainly an image of channels; one pass for all of them."""
    shape = shape_of(vision.module, first_tensor(inputs))
    doubtful = {each.tap: each.readings for each in found if not is_plain(each.layout, each.shape, shape)}
    return locate(vision.module, inputs, doubtful)[0] if doubtful else {}


def _chosen(session: Session, batch: Batch) -> list[tuple[str, str]]:
    """Name and reason of the layer chosen before the last activation and of that after it; empty if none can be.

    Checked by their gradients, in one pass with a method of either side, where a score can be had without a target.
    """
    sides: tuple[Side, Side] = ("before", "after")
    gradient_methods = [each for each in methods().values() if each.needs == {"activations", "gradients"}]
    asked = [next(each.name for each in gradient_methods if each.side == side) for side in sides]
    try:
        made = session.run(batch, Request.several(asked, None, None, None, None))
        return [(made[name].layer.name, made[name].layer.why) for name in asked]
    except WhycamError:  # an output without classes, say
        pass
    try:
        of_places = [
            of_segmenter(session.module, batch.inputs, weighed, side=side, asked=False, part=None)[0] for side in sides
        ]
        if all(of_places):
            return [(str(every[0][0]), every[0][1]) for every in of_places]
        choices = [choose(session.module, batch.inputs, side=side)[0] for side in sides]
    except WhycamError:  # no position of the last features lies where the input has it: each row says so
        return [("", ""), ("", "")]
    return [(str(choice.tap), choice.why) for choice in choices]
