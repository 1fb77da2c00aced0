from functools import lru_cache

from einops import reduce
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily
from whycam.kit.masks import Baseline, channel_mask, shown, stand_in, varying, weigh_channels
from whycam.kit.options import Count
from whycam.kit.quantities import Result, Score
from whycam.kit.registry import method


@method("IS-CAM", paper="arXiv:2010.03023")
def is_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    inputs: Float[Tensor, "batch color *space"],
    score: Score,
    *,
    steps: Count = 10,
    probability: bool = False,
    baseline: Baseline = "zero",
) -> Result:
    """Score-CAM whose score of each channel is the mean over masks that grow from nothing to the whole in steps.

    At step i of n the mask is i / n times Score-CAM's, so the last step is Score-CAM's own; before the first, at 0,
    every channel scores the same. `steps` runs per channel that is not flat. With one step it is Score-CAM, and
    `probability`, `baseline`, `effective_channels` and the units are as there.

    Where scores grow in proportion to the input, as in a network of ReLUs without biases,
    the mean is Score-CAM's score times (n + 1) / 2n, and all that changes is that the softmax is flatter.

    torch-cam adds up its masks from step to step, so that its last inputs are 5.5 times as bright as the picture; a
    path from nothing to the input never leaves [0, 1].
    """
    maps = varying(activations)
    behind, size = stand_in(inputs, baseline), inputs.shape[2:]

    @lru_cache(maxsize=1)  # all steps of one channel follow each other
    def mask(channel: int) -> Tensor:
        return channel_mask(maps, channel, size)

    def variant(number: int) -> Tensor:
        channel, step = divmod(number, steps)
        return shown(inputs, mask(channel) * ((step + 1) / steps), behind)

    scores = score(lazily(variant, range(maps.shape[1] * steps)), probability=probability)
    gains = reduce(scores, "(channel step) batch -> channel batch", "mean", step=steps)
    return weigh_channels(maps, gains, softmax=not probability)
