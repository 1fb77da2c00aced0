import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import center_rows, locations, orient, principal_component
from whycam.kit.registry import method


@method("Eigen-CAM", paper="arXiv:2008.00299")
def eigen_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    *,
    center: bool = False,
) -> Float[Tensor, "batch *spatial"]:
    """Project each location's channels on their first principal direction; no target is involved.

    In units of the activations: the squares of the map add up to the largest squared singular value of the locations
    x channels matrix, so a layer of rank one is given back exactly, up to the length of its channel vector. For
    activations of at least zero the map is nowhere negative.

    It shows what dominates the layer, whatever the class; a bright border or background dominates as well as an
    object. Two structures of equal strength have no first direction: which mixture is shown is then chance.

    A principal direction has no sign of its own. Here the map sums to at least 0. `center=True` subtracts the mean
    over locations first, as pytorch-grad-cam does and the method does not, and shows deviations from it; they sum to
    0, so the sign is the one that correlates with the mean over channels.
    """
    rows = locations(activations)
    if center:
        rows = center_rows(rows)
        evidence = rows.mean(-1)
    else:
        evidence = torch.ones_like(rows[..., 0])
    maps = orient(principal_component(rows), evidence)
    return maps.to(activations.dtype).reshape_as(activations[:, 0])
