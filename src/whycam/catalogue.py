"""What there is to choose from: the methods, and a model's layers."""

from dataclasses import dataclass
from typing import Any

from whycam.batches import make_batch
from whycam.engine import ModelLike, as_vision_model
from whycam.models.vision_model import PreprocessLike
from whycam.network.choice import choose, features
from whycam.registry import Method, methods


def list_methods() -> list[Method]:
    """Every method, each with its name, title, paper, needs and options."""
    return list(methods().values())


@dataclass(frozen=True)
class LayerInfo:
    """One layer that a map can be made at.

    Attributes:
        name: what to pass as `layer=`; `also` are other names of the very same feature.
        kind: the class of the module that made it. `shape`: what it returns for one sample.
        grid: its spatial sizes. `stride`: input pixels per location. `layout`: how its axes are read.
        chosen_for: what it is chosen for when no layer is named, empty for most; `why` gives the reason.
    """

    name: str
    also: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    stride: tuple[float, ...]
    layout: str
    chosen_for: tuple[str, ...]
    why: str


def layers(model: ModelLike, inputs: Any, *, preprocess: PreprocessLike | None = None) -> list[LayerInfo]:
    """The layers of a model that have spatial axes for these inputs, in running order, with the chosen ones marked.

    One forward of the first sample, kept for the next call.

    Raises:
        WhycamError: inputs that the model does not take, or a model without spatial features.
    """
    vision = as_vision_model(model, preprocess)
    batch = make_batch(vision, inputs)
    found, _ = features(vision.module, batch.inputs)
    before = choose(vision.module, batch.inputs, side="before")[0]
    after = choose(vision.module, batch.inputs, side="after")[0]
    titles = " and ".join(method.title for method in list_methods() if method.side == "before" and method.has_layer)
    choices = {"every method": after} if before == after else {titles: before, "every other method": after}
    rows = []
    for feature in found:
        name = str(feature.tap)
        matching = {purpose: choice for purpose, choice in choices.items() if str(choice.tap) == name}
        rows.append(
            LayerInfo(
                name,
                tuple(each for each in dict.fromkeys(feature.names) if each != feature.tap.module),
                feature.kind,
                feature.shape,
                feature.grid,
                feature.stride,
                str(feature.layout),
                tuple(matching),
                "; ".join(dict.fromkeys(choice.why for choice in matching.values())),
            )
        )
    return rows
