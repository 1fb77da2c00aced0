"""A metric of maps that are there already, of whatever library."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from whycam.engine.inputs import Batch
from whycam.engine.request import LayerRequest, Request
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.evaluation.explained import ASKED, Explained, at_size
from whycam.evaluation.quantities import Asking, Maps, enlarged, foreign_maps, own_maps
from whycam.evaluation.truth import as_boxes, as_masks, entries
from whycam.kit.arrays import SAME, apart, resize
from whycam.kit.metric import EXPLAINING, SCORING, Measurement, Metric
from whycam.kit.registry import find
from whycam.models.adopt import as_vision_model
from whycam.results.explanation import Explanation


def measure(
    metric: Metric,
    maps: Any,
    model: Any,
    inputs: Any,
    target: Any,
    *,
    masks: Any,
    boxes: Any,
    explain: Callable[..., Any] | None,
    options: Mapping[str, Any],
    common: Mapping[str, Any],
    preprocess: Any,
    labels: Any,
) -> Measurement:
    """See `Metric.__call__`."""
    metric.check_options(options)
    if not metric.takes & (SCORING | EXPLAINING | {"inputs"}) and model is None:
        return metric.measure(_plain(metric, maps, masks, boxes), options)
    if model is None or inputs is None:
        raise WhycamError(
            f"{metric.title} runs the model on changed inputs: pass whycam.metrics.{metric.name}(maps, model, inputs, "
            "target)."
        )
    session = Session(as_vision_model(model, preprocess, labels))
    own: Maps | None = None
    with session.tree():
        batch = session.batch(inputs, Request((ASKED,), targets=(target,), **common))
        if isinstance(maps, Explanation) and metric.takes & EXPLAINING:
            explained, own = _explained_as(metric, session, batch, maps, target, common)
        else:
            explained = Explained(session, batch, Request((ASKED,), targets=(target,), **common))
            if explain is not None:
                own = foreign_maps(explained, 0, explain, _values(maps))
        asking = Asking(explained, 0)
        size = explained.batch.context.size
        if masks is not None or boxes is not None:
            asking.masks = as_masks(masks, boxes, len(explained), size)
            asking.boxes = as_boxes(boxes, masks, len(explained))
        return asking.measure(metric, own or Maps(enlarged(_values(maps), explained)), options)


def _values(maps: Any) -> Any:
    return at_size(maps) if isinstance(maps, Explanation) else maps


def _explained_as(
    metric: Metric, session: Session, batch: Batch, explanation: Explanation, target: Any, common: Mapping[str, Any]
) -> tuple[Explained, Maps]:
    """The same explanation once more, whose method then can be asked again."""
    method, names = find(explanation.method), tuple(explanation.layer.name.split(" + "))
    as_usual, as_named = LayerRequest(), LayerRequest(names, fused=len(names) > 1)
    chosen = not explanation.layer.why.startswith("as asked") or names == ("input",)
    options = {method.name: dict(explanation.options)}
    for place in (as_usual, as_named) if chosen else (as_named,):
        explained = Explained(session, batch, Request((method,), (place,), (target,), options=options, **common))
        found = [own_maps(explained, key) for key in explained.entries]
        if len(found) == 1 and apart(found[0].values, at_size(explanation)) < SAME[1]:
            return explained, replace(found[0], values=at_size(explanation), key=None)
    raise WhycamError(
        f"{metric.title} asks {explanation.title} again, and for this target it has other maps at "
        f"{explanation.layer.short} than the explanation. Pass the target and the inputs that it was made with; of one "
        "that was smoothed, tiled or fused by fusion= pass the maps, and explain=, a function of (module, inputs, "
        "classes)."
    )


def _plain(metric: Metric, maps: Any, masks: Any, boxes: Any) -> dict[str, Any]:
    """What a metric reads that no model is asked for."""
    found = at_size(maps) if isinstance(maps, Explanation) else torch.as_tensor(maps).detach().double()
    if not isinstance(found, Tensor) or found.ndim < 2:
        raise WhycamError(f"maps have shape (batch, *spatial); {tuple(found.shape)} came. For one pass map[None].")
    quantities: dict[str, Any] = {"maps": found, "classes": torch.full((len(found),), -1)}
    if masks is not None or boxes is not None:
        sizes = [each.shape for each in entries("masks", masks)] if masks is not None else []
        size = next((tuple(each) for each in sizes if len(each) == found.ndim - 1), tuple(found.shape[1:]))
        quantities["maps"] = resize(found, size)
        quantities["masks"] = as_masks(masks, boxes, len(found), size).to(found.device)
        quantities["boxes"] = as_boxes(boxes, masks, len(found))
    missing = sorted(metric.takes - quantities.keys())
    if missing:
        raise WhycamError(f"{metric.title} asks where the target is; pass masks=, or boxes=.")
    return quantities
