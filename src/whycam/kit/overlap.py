"""How much of one place lies in another."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def iou(box: Tensor, boxes: Tensor) -> Tensor:
    """The intersection over union of one box with several, `(box,)`."""
    low, high = torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])
    inside = (high - low).clamp(min=0).prod(1)
    own, theirs = (box[2:] - box[:2]).clamp(min=0).prod(), (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    return inside / (own + theirs - inside).clamp(min=torch.finfo(boxes.dtype).tiny)


def share_inside(maps: Float[Tensor, "batch *space"], masks: Bool[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    """The share of a map's positive part that lies in the mask; NaN where nothing is positive."""
    positive = maps.clamp(min=0).flatten(1)
    return (positive * masks.flatten(1)).sum(1) / positive.sum(1)
