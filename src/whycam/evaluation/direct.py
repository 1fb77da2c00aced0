"""A metric of maps that are there already, of whatever library."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.evaluation.explained import ASKED, Explained, at_size
from whycam.evaluation.quantities import Asking, Maps, enlarged, foreign_maps, own_maps
from whycam.evaluation.truth import as_boxes, as_masks
from whycam.kit.arrays import resize
from whycam.kit.metric import EXPLAINING, SCORING, Measurement, Metric
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
    explained = isinstance(maps, Explanation)
    request = Request.one(*_as_asked(maps) if explained else (ASKED.function,), **_once(maps, target, common))
    with session.tree():
        asking = Asking(Explained(session, session.batch(inputs, request), request), 0)
        size = asking.explained.batch.context.size
        if masks is not None or boxes is not None:
            asking.masks = as_masks(masks, boxes, len(asking.explained), size)
            asking.boxes = as_boxes(boxes, masks, len(asking.explained))
        return asking.measure(metric, _maps(asking.explained, maps, explain), options)


def _as_asked(explanation: Explanation) -> tuple[str]:
    return (explanation.method,)


def _once(maps: Any, target: Any, common: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of the request that an explanation's maps came of, or of none."""
    rest: dict[str, Any] = {"target": target, "layer": None, "fusion": None, "options": {}, **common}
    if isinstance(maps, Explanation):
        layers = maps.layer.name.split(" + ")
        rest["layer"] = None if layers == ["input"] else layers if len(layers) > 1 else layers[0]
        rest["options"] = dict(maps.options)
    return rest


def _maps(explained: Explained, maps: Any, explain: Callable[..., Any] | None) -> Maps:
    if isinstance(maps, Explanation):
        (key,) = explained.entries
        return Maps(at_size(maps), None, own_maps(explained, key).again)
    if explain is not None:
        return foreign_maps(explained, 0, explain, maps)
    return Maps(enlarged(maps, explained))


def _plain(metric: Metric, maps: Any, masks: Any, boxes: Any) -> dict[str, Any]:
    """What a metric reads that no model is asked for."""
    found = at_size(maps) if isinstance(maps, Explanation) else torch.as_tensor(maps).detach().double()
    if not isinstance(found, Tensor) or found.ndim < 2:
        raise WhycamError(f"maps have shape (batch, *spatial); {tuple(found.shape)} came. For one pass map[None].")
    quantities: dict[str, Any] = {"maps": found, "classes": torch.full((len(found),), -1)}
    if masks is not None or boxes is not None:
        size = tuple(torch.as_tensor(masks).shape[1:]) if masks is not None else tuple(found.shape[1:])
        quantities["maps"] = resize(found, size)
        quantities["masks"] = as_masks(masks, boxes, len(found), size)
        quantities["boxes"] = as_boxes(boxes, masks, len(found))
    missing = sorted(metric.takes - quantities.keys())
    if missing:
        raise WhycamError(f"{metric.title} asks where the target is; pass masks=, or boxes=.")
    return quantities
