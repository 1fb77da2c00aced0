from jaxtyping import Float
from torch import Tensor

from whycam.kit.masks import Baseline, strongest, through_channels, varying, weigh_channels
from whycam.kit.options import Count
from whycam.kit.quantities import Result, Score
from whycam.kit.registry import method


@method("Faster Score-CAM", paper="tabayashi0117/Score-CAM")
def faster_score_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    inputs: Float[Tensor, "batch color *space"],
    score: Score,
    *,
    channels: Count = 10,
    probability: bool = False,
    baseline: Baseline = "zero",
) -> Result:
    """Score-CAM of those channels only that vary most over the locations, by their standard deviation.

    `channels` are run, whatever the layer has; with all of them it is Score-CAM, and `probability`, `baseline` and the
    units are as there. The author's code takes the class's probability unless asked otherwise, here the default is
    Score-CAM's. Its masks are divided by the channel's range without being shifted to 0 first, so that the lowest value
    of a channel still shows something, or less than nothing; these are Score-CAM's.

    How far a channel varies says nothing about the class: one that is weak and decides is never looked at, and a layer
    whose channels differ in scale shows the large ones.

    Each sample has its own channels. tf-keras-vis takes those of all samples together, so that a map depends on the
    batch it came in. Of channels that vary equally the first are taken.
    """
    maps = varying(strongest(activations, activations.flatten(2).std(2, correction=0), channels))
    gains = score(through_channels(inputs, maps, baseline), probability=probability)
    return weigh_channels(maps, gains, softmax=not probability)
