"""torchvision beside a CPU-only torch: its compiled operators are absent, and it asks for two of them when imported."""

import numpy as np
import torch


def register() -> None:
    """Declare the operators whose absence makes the import fail; nothing here calls them."""
    for schema in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        name = schema.partition("(")[0]
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(schema)
            _LIBRARIES.append(library)


def detectors() -> None:
    """Let torchvision's detectors run: non-maximum suppression in plain torch, and no check for compiled operators."""
    import sys

    import torchvision

    if not torchvision.extension._has_ops() and torchvision.ops.boxes._assert_has_ops is not _nothing:
        torchvision.extension._assert_has_ops = torchvision.ops.boxes._assert_has_ops = _nothing
        align = sys.modules["torchvision.ops.roi_align"]
        align._roi_align = getattr(
            align._roi_align, "__wrapped__", align._roi_align
        )  # plain Python, without torch.compile around it
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.impl("nms", _nms, "CompositeExplicitAutograd")
        _LIBRARIES.append(library)


def _nothing() -> None:
    pass


def _nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    order = scores.argsort(descending=True)
    boxes = boxes[order]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inside = (high - low).clamp(min=0).prod(2)
    over = (inside / (areas[:, None] + areas[None] - inside) > threshold).numpy()
    gone = np.zeros(len(boxes), bool)
    kept = []
    for i in range(len(boxes)):
        if not gone[i]:
            kept.append(i)
            gone |= over[i]
    return order[kept]


#: A library's definitions go with the object, so the objects are kept.
_LIBRARIES: list[torch.library.Library] = []
