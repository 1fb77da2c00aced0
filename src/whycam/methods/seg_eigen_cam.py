import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import center_rows, locations, orient, principal_component, wide
from whycam.kit.registry import method

#: Extremes that differ by no more than this part of the larger are equal but for rounding.
_ROUNDING = 1e-9


@method("Seg-Eigen-CAM", paper="doi:10.3390/app15137562")
def seg_eigen_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
    *,
    center: bool = True,
) -> Float[Tensor, "batch *spatial"]:
    """Project each location's products of activation and gradient magnitude on their first principal direction.

    In units of the score, up to the entries of a unit vector. Made for segmentation, with the sum of a class's scores
    over some pixels as target; it takes any other.

    It shows where the score is sensitive to what the layer shows, and not in which direction: a location that speaks
    against the target counts like one that speaks for it. The sign is that of the larger extreme (eq. 13), so a map
    whose strongest location stood out downwards is turned round. Where both extremes are equal the map's sum of
    products with the weighted activations is made positive; where that is 0 too, its first value that is not.

    The mean over locations is subtracted first, as in the code in pytorch-grad-cam; `center=False` leaves it in. That
    code shows the positive part; negative values are kept here.
    """
    rows = locations(wide(activations) * wide(gradients).abs())
    evidence = rows.sum(-1)
    if center:
        rows = center_rows(rows)
    component = _first_positive(principal_component(rows))
    component = orient(component, evidence)
    high, low = component.amax(1, keepdim=True), -component.amin(1, keepdim=True)
    turned = torch.where(low - high > _ROUNDING * low.abs(), -component, component)
    return turned.to(activations.dtype).reshape_as(activations[:, 0])


def _first_positive(components: Float[Tensor, "batch location"]) -> Float[Tensor, "batch location"]:
    first = components.ne(0).to(torch.uint8).argmax(1, keepdim=True)
    return torch.where(components.gather(1, first) < 0, -components, components)
