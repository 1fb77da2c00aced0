from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import WhycamError
from whycam.kit.arrays import center_rows, largest_eigenpair, locations, orient
from whycam.kit.options import Count, Positive
from whycam.kit.registry import method

Kernel = Literal["sigmoid", "rbf", "poly", "cosine", "linear"]

#: A matrix of all pairs of locations is decomposed: at 64 x 64 it has 134 MB and takes about half a minute a sample.
MOST_LOCATIONS = 64 * 64


@method("KPCA-CAM", paper="arXiv:2410.00267")
def kpca_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    *,
    kernel: Kernel = "sigmoid",
    gamma: Positive | None = None,
    degree: Count = 3,
    coef0: float = 1.0,
) -> Float[Tensor, "batch *spatial"]:
    """Project each location on the first principal direction in the feature space of a kernel; no target is involved.

    With `x` and `y` two locations' channels less their means over space, the kernel is `tanh(gamma x.y + coef0)` for
    `"sigmoid"`, `exp(-gamma |x - y|^2)` for `"rbf"`, `(gamma x.y + coef0)^degree` for `"poly"`, the cosine between
    them for `"cosine"`, and `x.y` for `"linear"`, which is Eigen-CAM with `center=True`. `gamma` is 1 / channels
    unless given. The matrix of all pairs is centered in feature space; the map is its leading eigenvector times the
    root of its eigenvalue, so it sums to 0 and its squares sum to that eigenvalue.

    Its size and its contrast depend on gamma as much as on the layer, and the cost grows with the third power of the
    number of locations: choose a late layer. With `"sigmoid"`, which is no inner product for every gamma, there may
    be no positive eigenvalue; the map is then zero.

    The sign, which a principal direction lacks, is the one that correlates with the mean over channels. Kernels and
    defaults are those of pytorch-grad-cam, where the authors' own code is found; it leaves the sign to chance.
    """
    if (count := activations[0, 0].numel()) > MOST_LOCATIONS:
        raise WhycamError(
            f"KPCA-CAM compares every pair of locations, and this layer has {count}; choose a later layer, "
            f"with at most {MOST_LOCATIONS}."
        )
    rows = center_rows(locations(activations))
    similarities = _similarities(rows, kernel, 1 / activations.shape[1] if gamma is None else gamma, degree, coef0)
    value, vector = largest_eigenpair(center_rows(center_rows(similarities).mT))
    maps = orient(value.sqrt()[:, None] * vector, rows.mean(-1))
    return maps.to(activations.dtype).reshape_as(activations[:, 0])


def _similarities(
    rows: Float[Tensor, "batch location channel"], kernel: Kernel, gamma: float, degree: int, coef0: float
) -> Float[Tensor, "batch location location"]:
    if kernel == "cosine":
        lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        rows = (rows / lengths).masked_fill(lengths == 0, 0)
    products = rows @ rows.mT
    if kernel in ("linear", "cosine"):
        return products
    if kernel == "sigmoid":
        return (gamma * products + coef0).tanh()
    if kernel == "poly":
        return (gamma * products + coef0) ** degree
    squares = products.diagonal(dim1=1, dim2=2)
    return (-gamma * (squares[:, :, None] + squares[:, None] - 2 * products).clamp(min=0)).exp()
