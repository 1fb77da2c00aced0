"""torchvision beside a CPU-only torch: its compiled operators are absent, and it asks for two of them when imported."""

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


#: A library's definitions go with the object, so the objects are kept.
_LIBRARIES: list[torch.library.Library] = []
