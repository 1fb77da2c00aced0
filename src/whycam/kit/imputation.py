"""What a picture may have been where pixels are missing: ROAD's noisy linear imputation (arXiv:2202.00449, section 4).

Each missing pixel is the weighted mean of its neighbors, missing ones included: a linear system. Neighbors beside a
pixel weigh 1/6 and those across a corner 1/12; at the border the weights of those there are share the whole. Signals
and volumes likewise, each diagonal step halving the weight.
"""

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.errors import missing
from whycam.kit.arrays import noise


def impute(
    inputs: Float[Tensor, "batch color *space"],
    removed: Bool[Tensor, "batch *space"],
    *,
    deviation: float = 0.01,
    seed: int = 0,
) -> Float[Tensor, "batch color *space"]:
    """The inputs with their removed pixels imputed, plus normal noise of that deviation in units of the inputs.

    The noise is the same for each sample and whatever is removed. Where nothing is left to impute from, the system has
    no unique solution; each color is its mean then.

    Raises:
        MissingExtraError: scipy is not there.
    """
    filled = torch.stack([_solved(*each) for each in zip(inputs, removed, strict=True)])
    noisy = filled + deviation * noise(inputs.shape[1:], seed).to(inputs)
    return noisy.where(removed.unsqueeze(1), inputs)


def _solved(picture: Float[Tensor, "color *space"], removed: Bool[Tensor, "*space"]) -> Float[Tensor, "color *space"]:
    """The linear system's solution; for all colors at once, as the matrix depends on what is removed alone."""
    try:
        from scipy.sparse import csc_matrix
        from scipy.sparse.linalg import splu
    except ImportError:
        raise missing("scipy", "evaluate", "ROAD's imputation of pixels") from None
    values = picture.detach().cpu().double()
    gone = removed.cpu()
    if bool(gone.all()):
        return picture.flatten(1).mean(1).reshape(-1, *[1] * gone.ndim).expand_as(picture)
    if not bool(gone.any()):
        return picture
    around = (1, 1) * gone.ndim  # a frame that is in no picture, so that every pixel has all neighbors
    inside, unknown = (F.pad(each, around).flatten() for each in (torch.ones_like(gone), gone))
    shown = F.pad(values.masked_fill(gone, 0), around).flatten(1)
    places, numbers = unknown.nonzero()[:, 0], unknown.cumsum(0) - 1
    diagonal, right = torch.zeros(len(places), dtype=torch.float64), torch.zeros(len(places), len(values)).double()
    rows, columns, entries = [numbers[places]], [numbers[places]], [diagonal]
    for step, weight in _neighbors(tuple(side + 2 for side in gone.shape)):
        there = places + step
        diagonal += weight * inside[there].double()
        right += weight * shown[:, there].T
        both = unknown[there]
        rows.append(numbers[places[both]])
        columns.append(numbers[there[both]])
        entries.append(torch.full((int(both.sum()),), -weight, dtype=torch.float64))
    matrix = csc_matrix((torch.cat(entries).numpy(), (torch.cat(rows).numpy(), torch.cat(columns).numpy())))
    # symmetric and positive definite, so nothing is gained by exchanging rows, and fewer entries are filled in
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    made = values.clone()
    made[:, gone] = torch.from_numpy(factors.solve(right.numpy())).T
    return made.to(picture)


def _neighbors(shape: tuple[int, ...]) -> Iterator[tuple[int, float]]:
    """How far each neighbor is in a flat array of that shape, and its weight."""
    steps = [step for step in product((-1, 0, 1), repeat=len(shape)) if any(step)]
    weights = [0.5 ** sum(map(abs, step)) for step in steps]
    strides = torch.empty(shape, device="meta").stride()
    for step, weight in zip(steps, weights, strict=True):
        yield sum(way * stride for way, stride in zip(step, strides, strict=True)), weight / sum(weights)
