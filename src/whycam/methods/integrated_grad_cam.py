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
) -> Float[Tensor, "batch *spatial"]:
    """Average Grad-CAM along the straight path from a baseline to the input, of what the layer gained on the baseline.

    In units of the score: at each point of the path the channels' gain over the baseline's activations is summed with
    the mean gradients there as weights, and the positive part is kept. Points are `1/steps`, `2/steps` up to the input
    itself, where the recording serves. With one step, and a baseline at which the layer is 0, it is Grad-CAM.

    Gradients that vanish at the input, where the network is sure, count by what they were on the way there. The map
    depends on the baseline, which is 0 unless another is given: in normalized inputs the data set's mean color. Many
    points on the path are pictures that the network has never seen.

    The sum over the points is divided by their number, so that it does not grow with `steps`. The authors' notebook
    subtracts no activations of the baseline, and begins its points at the baseline instead of ending them at the
    input; 50 steps are its default.
    """
    start = stand_in(inputs, baseline)
    runs = iter(trace(lazily(lambda number: start + number / steps * (inputs - start), range(steps))))
    before = next(runs).activations

    def gained(gradients: Tensor, activations: Tensor) -> Tensor:
        return weighted_sum(pool(gradients), activations - before).relu()

    maps = torch.zeros_like(activations[:, 0])
    for run in runs:
        maps += gained(run.gradients, run.activations)
    return (maps + gained(gradients, activations)) / steps
