from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily, noise, positive, precise, total, weighted_sum
from whycam.kit.options import Count, NonNegative
from whycam.kit.quantities import Trace
from whycam.kit.registry import method


@method("Smooth Grad-CAM++", paper="arXiv:1908.01224", assumes_non_negative=True)
def smooth_grad_cam_plus_plus(
    activations: Float[Tensor, "batch channel *spatial"],
    inputs: Float[Tensor, "batch color *space"],
    trace: Trace,
    *,
    samples: Count = 25,
    deviation: NonNegative = 0.15,
    numerator: Literal["second", "first"] = "second",
    seed: int = 0,
) -> Float[Tensor, "batch *spatial"]:
    """Grad-CAM++ whose gradients, and their squares and cubes, are means over noisy copies of the input.

    With `D1`, `D2` and `D3` those means at a location and `A` the activations without noise, a channel's weight is the
    sum of `relu(D1) * D2 / (2 * D2 + total(A) * D3)` over the locations. Without noise that is Grad-CAM++, in whose
    units the map is: not the score's, and not invariant to the score's scale.

    The noise is normal. Its deviation is a share of each image's own range, its largest value less its smallest, as in
    SmoothGrad, whose 0.1 to 0.2 are meant by the default; torch-cam adds 0.3 of whatever the input is in, whatever its
    range. The draws depend on the seed and their number alone, and are the same for every sample. Few of them leave
    the weights noisy; too strong noise explains another picture.

    The paper has `D1` as the numerator of alpha, as torch-cam's text notes, where Grad-CAM++, which it means to
    smooth, has `D2`. `D2` is taken here, as torch-cam does; `numerator="first"` is as printed. The derivatives are of
    the score and not of its exponential, as in Grad-CAM++ here. Where a signed layer takes the denominator to 0 or
    below, alpha is 0. No authors' code was found.
    """
    flat = inputs.flatten(1)
    scale = deviation * (flat.amax(1) - flat.amin(1)).reshape(-1, *[1] * (inputs.ndim - 1))
    powers = precise(torch.zeros_like(activations)).repeat(3, *[1] * activations.ndim)
    noisy = lazily(lambda number: inputs + scale * noise(inputs.shape[1:], seed, number).to(inputs), range(samples))
    for run in trace(noisy):
        gradients = precise(run.gradients)  # in float32 the powers of small ones are zeros
        for power in (1, 2, 3):
            powers[power - 1] += gradients**power
    first, second, third = (powers / samples).flatten(3)
    # eq. 19 of Grad-CAM++ divided through by the second power, which needs no epsilon
    denominators = 2 + precise(total(activations))[..., None] * (third / second).masked_fill(second == 0, 0)
    slopes = first.relu()
    if numerator == "first":
        slopes = (slopes * first / second).masked_fill(second == 0, 0)
    weights = (slopes / denominators).masked_fill(denominators <= 0, 0).sum(-1)
    return positive(weighted_sum(weights.to(activations), activations))
