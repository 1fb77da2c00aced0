from functools import lru_cache
from typing import Literal

from einops import reduce
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily, noise
from whycam.kit.masks import Baseline, channel_mask, shown, stand_in, varying, weigh_channels
from whycam.kit.options import Count, NonNegative
from whycam.kit.quantities import Result, Score
from whycam.kit.registry import method


@method("SS-CAM", paper="arXiv:2006.14255")
def ss_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    inputs: Float[Tensor, "batch color *space"],
    score: Score,
    *,
    noisy: Literal["mask", "input"] = "mask",
    samples: Count = 35,
    deviation: NonNegative = 2.0,
    probability: bool = False,
    baseline: Baseline = "zero",
    seed: int = 0,
) -> Result:
    """Score-CAM whose score of each channel is the mean over draws of noise on the mask, or on the masked input.

    `noisy="mask"` is the paper's first kind, smoothing of the feature map: one number per pixel is added to the mask
    of [0, 1]. `noisy="input"` is the second: one number per pixel and color is added to the masked input. The
    `deviation` is absolute, in units of the mask or of the inputs as the model is given them. `samples` runs per
    channel that is not flat: 35 as published are 45,000 runs of a layer of 1,280 channels. With a deviation of 0 it is
    Score-CAM, and `probability`, `baseline`, `effective_channels` and the units are as there.

    A deviation of 2 is ten to twenty times the noise that SmoothGrad adds for the range of a mask, and drowns mask and
    input: in a trial on the built-in network nothing was left of the order of Score-CAM's channels, of which a
    deviation of 0.15 kept most.

    The same draws serve every channel and every sample, so channels are told apart by their masks and not by their
    luck. Published code disagrees on the noise: 2 is added to the scaled mask (torch-cam, and here), or (2 / range)
    squared to the channel before it is scaled.
    """
    maps = varying(activations)
    behind, size = stand_in(inputs, baseline), inputs.shape[2:]
    shape = size if noisy == "mask" else inputs.shape[1:]

    @lru_cache(maxsize=1)  # all channels of one draw follow each other
    def draw(number: int) -> Tensor:
        return deviation * noise(shape, seed, number).to(inputs)

    def variant(number: int) -> Tensor:
        drawn, channel = divmod(number, maps.shape[1])
        mask = channel_mask(maps, channel, size)
        if noisy == "mask":
            return shown(inputs, mask + draw(drawn), behind)
        return shown(inputs, mask, behind) + draw(drawn)

    scores = score(lazily(variant, range(samples * maps.shape[1])), probability=probability)
    gains = reduce(scores, "(sample channel) batch -> channel batch", "mean", sample=samples)
    return weigh_channels(maps, gains, softmax=not probability)
