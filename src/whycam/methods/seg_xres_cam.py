from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import channel_sum, positive
from whycam.kit.options import Count
from whycam.kit.registry import method


@method("Seg-XRes-CAM", paper="Nouman97/Seg_XRes_CAM")
def seg_xres_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
    *,
    window: Count = 2,
    pool: Literal["mean", "max"] = "mean",
) -> Float[Tensor, "batch *spatial"]:
    """Weight each location by the gradient pooled over its block of `window` locations along each axis; sum, positive.

    Between two methods: with a window of 1 the positive part of HiResCAM, with one as large as the map Grad-CAM. The
    gradient of a segmentation's score is local; pooled over the whole map it lights up every object of the class alike
    (Hasany et al., CVPR Workshops 2023).

    Blocks lie side by side from the first location, and the last of an axis may be smaller. As in the authors' code,
    but that a smaller block is there filled up with zeros before it is averaged.
    """
    space = gradients.shape[2:]
    sides = [min(window, side) for side in space]
    blocks = _POOLS[pool][len(space) - 1](gradients, sides, sides, ceil_mode=True)
    for axis, (length, side) in enumerate(zip(space, sides, strict=True), 2):
        blocks = blocks.repeat_interleave(side, axis).narrow(axis, 0, length)
    return positive(channel_sum(blocks * activations))


_POOLS: dict[str, tuple[Callable[..., Tensor], ...]] = {
    "mean": (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    "max": (F.max_pool1d, F.max_pool2d, F.max_pool3d),
}
