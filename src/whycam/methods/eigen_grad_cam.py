from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import center_rows, locations, orient, principal_component, wide
from whycam.kit.registry import method


@method("Eigen-Grad-CAM", paper="pytorch-grad-cam")
def eigen_grad_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
    *,
    center: bool = True,
) -> Float[Tensor, "batch *spatial"]:
    """Project each location's products of gradient and activation on their first principal direction.

    In units of the score: HiResCAM adds these products with weight 1 for every channel, this with the entries of a
    unit vector; the squares of the map add up to the largest squared singular value of locations x products.

    A principal direction has no sign of its own. Here the map agrees with HiResCAM's, their product summing to at
    least 0, so positive values still speak for the target and a map may be negative throughout. Where HiResCAM's map
    is zero or unrelated, the sign means nothing.

    The mean over locations is subtracted first, as in pytorch-grad-cam, where this variant comes from, without a
    paper; it leaves the sign to chance. Without (`center=False`), what all locations share leads the components and
    the map points less well (docs/benchmarks.md).
    """
    rows = locations(wide(activations) * wide(gradients))
    if center:
        rows = center_rows(rows)
    maps = orient(principal_component(rows), rows.sum(-1))
    return maps.to(activations.dtype).reshape_as(activations[:, 0])
