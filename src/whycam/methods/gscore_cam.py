from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import pool
from whycam.kit.masks import Baseline, strongest, through_channels, varying, weigh_channels
from whycam.kit.options import Count
from whycam.kit.quantities import Result, Score
from whycam.kit.registry import method


@method("gScoreCAM", paper="doi:10.1007/978-3-031-26316-3_35")
def gscore_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
    inputs: Float[Tensor, "batch color *space"],
    score: Score,
    *,
    channels: Count = 300,
    baseline: Baseline = "zero",
    softmax: Literal["chosen", "all"] = "chosen",
    align_corners: bool = False,
) -> Result:
    """Score-CAM of those channels only that have the largest mean gradient.

    Made for CLIP, whose last convolutional layers have thousands of channels: `channels` of them are run. With all of
    them it is Score-CAM, and `baseline`, the units and the scale of the scores are as there.

    The gradients choose, signed as in the authors' code, and do not weigh: where they are zero, as after the last
    block of a ViT read through its class token, the choice is arbitrary (the first channels).

    Channels that were not chosen have no part in the softmax, as the paper means it. `softmax="all"` gives them a score
    of 0 and lets them share in it and in the map, as the authors' code does: that is nothing beside CLIP's logits of 20
    and more, and waters down every other model's weights. `align_corners=True` resizes the masks as their code does;
    Score-CAM's, and these by default, are resized between pixel centers. Their masks are also divided by 1e-6 more.
    """
    maps = varying(strongest(activations, pool(gradients), activations.shape[1] if softmax == "all" else channels))
    gains = score(through_channels(inputs, maps[:, :channels], baseline, align_corners=align_corners))
    left = maps.shape[1] - len(gains)
    return weigh_channels(maps, F.pad(gains, (0, 0, 0, left)), softmax=True)
