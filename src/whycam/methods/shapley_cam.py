from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import channel_sum, pool, positive, total, weighted_sum
from whycam.kit.registry import method

#: How the gradients, corrected, become a map: as in Grad-CAM, HiResCAM, XGrad-CAM, or element by element.
Form = Literal["mean", "hires", "xgrad", "elementwise"]


@method("ShapleyCAM", paper="arXiv:2501.06261", side="before")
def shapley_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
    curvature: Float[Tensor, "batch channel *spatial"],
    *,
    form: Form = "mean",
) -> Float[Tensor, "batch *spatial"]:
    """Grad-CAM with the gradients less half the Hessian times the activations, which lead to Shapley values.

    To second order, the Shapley value of a part of the layer is its activations times G - HA / 2, where a first-order
    one has the gradient G alone. The map is what Grad-CAM makes of that in place of its gradients, in the same units.

    Equal to Grad-CAM wherever the score is piecewise linear in the activations, as a logit above nothing but ReLU and
    pooling: the Hessian is 0. The paper's answer is the target `whycam.targets.ReST`, the logit plus the
    log-probability, which always curves. Half a Hessian can be more than the gradient: where the score bends strongly
    the second order is no better a picture of it than the first.

    `form` is how weights and map are made of G - HA / 2: `"mean"` over the locations, which is the paper's ShapleyCAM
    and pytorch-grad-cam's; `"hires"`, each location by its own; `"xgrad"`, the mean weighted by the activations;
    `"elementwise"`, the positive part before the channels are summed. They are the paper's variants after HiResCAM,
    XGrad-CAM and element-wise Grad-CAM, and as in the authors' code the positive part is taken in each. For `"xgrad"`
    a channel that sums to exactly 0 gets weight 0, where the authors' code adds 1e-7 to the sum.
    """
    corrected = gradients - curvature / 2
    if form == "mean":
        return positive(weighted_sum(pool(corrected), activations))
    values = corrected * activations
    if form == "xgrad":
        totals, attributed = total(activations), total(values)
        return positive(weighted_sum(torch.where(totals == 0, 0 * attributed, attributed / totals), activations))
    return positive(channel_sum(values.relu() if form == "elementwise" else values))
