from itertools import chain
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily, pool, weighted_sum
from whycam.kit.masks import Baseline, stand_in
from whycam.kit.options import Count
from whycam.kit.quantities import Trace
from whycam.kit.registry import method


@method("Integrated Grad-CAM", paper="arXiv:2102.07805", side="before")
def integrated_grad_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
    inputs: Float[Tensor, "batch color *space"],
    trace: Trace,
    *,
    steps: Count = 50,
    baseline: Baseline = "zero",
    form: Literal["paper", "notebook"] = "paper",
) -> Float[Tensor, "batch *spatial"]:
    """Average Grad-CAM along the straight path from a baseline to the input, of what the layer gained on the baseline.

    In units of the score: at each point of the path the channels' gain over the baseline's activations is summed with
    the mean gradients there as weights, and the positive part is kept. Points are `1/steps`, `2/steps` up to the input
    itself, where the recording serves. With one step, and a baseline at which the layer is 0, it is Grad-CAM.

    Gradients that vanish at the input, where the network is sure, count by what they were on the way there. The map
    depends on the baseline, which is 0 unless another is given: in normalized inputs the data set's mean color. Many
    points on the path are pictures that the network has never seen.

    The sum over the points is divided by their number, so that it does not grow with `steps`. `form="notebook"` is the
    authors' notebook, which subtracts no activations of the baseline and takes the points `0/steps` up to
    `(steps - 1)/steps`; 50 steps are its default. The two may have nothing in common where the layer is far from 0 at
    the baseline.
    """
    start = stand_in(inputs, baseline)
    runs = iter(trace(lazily(lambda number: start + number / steps * (inputs - start), range(steps))))
    before = next(runs).activations if form == "paper" else torch.zeros_like(activations)
    points = ((run.gradients, run.activations) for run in runs)
    maps = torch.zeros_like(activations[:, 0])
    for slopes, values in chain(points, [(gradients, activations)] if form == "paper" else []):
        maps += weighted_sum(pool(slopes), values - before).relu()
    return maps / steps
