"""The canvas that a detector lays its input on: torchvision's resize and pad inside, so their layers cover more."""

import torch
from torch import Tensor, nn

#: For each sample, how many of the input's own heights and widths the canvas spans; the input lies at its top left.
Canvas = tuple[tuple[float, float], ...]


def canvas_of(model: nn.Module, inputs: Tensor) -> Canvas | None:
    """What the layers of a torchvision detector cover; `None` for networks that take their input as it is."""
    if "transform" not in model._modules or type(model.transform).__name__ != "GeneralizedRCNNTransform":
        return None
    with torch.no_grad():
        images = model.transform(list(inputs))[0]  # type: ignore[operator]
    height, width = images.tensors.shape[-2:]
    found = tuple((height / down, width / across) for down, across in images.image_sizes)
    return None if all(each == (1, 1) for each in found) else found
