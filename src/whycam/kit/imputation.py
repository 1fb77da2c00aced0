"""What a picture may have been where pixels are missing: ROAD's noisy linear imputation (arXiv:2202.00449, section 4).

Each missing pixel is the weighted mean of its neighbors, missing ones included: a linear system. Neighbors beside a
pixel weigh 1/6 and those across a corner 1/12; at the border the weights of those there are share the whole. Signals
and volumes likewise, each diagonal step halving the weight.
"""

import functools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
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
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # scipy's solver lets other threads run meanwhile
        filled = torch.stack([*threads.map(_solved, inputs, removed)])
    noisy = filled + deviation * noise(inputs.shape[1:], seed).to(inputs)
    return noisy.where(removed.unsqueeze(1), inputs)


def _solved(picture: Float[Tensor, "color *space"], removed: Bool[Tensor, "*space"]) -> Float[Tensor, "color *space"]:
    """The linear system's solution; for all colors at once, as the matrix depends on what is removed alone."""
    try:
        from scipy.sparse import csc_matrix
        from scipy.sparse.linalg import splu
    except ImportError:
        raise missing("scipy", "evaluate", "ROAD's imputation of pixels") from None
    gone = removed.cpu()
    if bool(gone.all()):
        return picture.flatten(1).mean(1).reshape(-1, *[1] * gone.ndim).expand_as(picture)
    if not bool(gone.any()):
        return picture
    around = (1, 1) * gone.ndim  # a frame that is in no picture, so that every pixel has all neighbors
    framed = F.pad(picture.detach().cpu().double().masked_fill(gone, 0), around)
    inside, unknown = (F.pad(each, around).flatten() for each in (torch.ones_like(gone), gone))
    shown, order = framed.flatten(1), _dissected(tuple(side + 2 for side in gone.shape))
    places = order[unknown[order]]
    numbers = torch.empty_like(order).index_copy_(0, places, torch.arange(len(places)))
    diagonal, right = torch.zeros(len(places), dtype=torch.float64), torch.zeros(len(places), len(shown)).double()
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
    factors = splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    shown[:, places] = torch.from_numpy(factors.solve(right.numpy())).T
    return F.pad(framed, (-1, -1) * gone.ndim).to(picture)


@functools.lru_cache(maxsize=8)
def _dissected(shape: tuple[int, ...]) -> Int[Tensor, " pixel"]:
    """The pixels in an order that fills in little: both halves of the picture, then the wall between them, and so on
    in each half (nested dissection, George 1973).
    """

    def parts(block: Int[Tensor, "*space"]) -> list[Tensor]:
        side = max(block.shape)
        if side <= 4:
            return [block.flatten()]
        first, wall, second = torch.split(block, [side // 2, 1, (side - 1) // 2], block.shape.index(side))
        return [*parts(first), *parts(second), wall.flatten()]

    return torch.cat(parts(torch.arange(math.prod(shape)).reshape(shape)))


def _neighbors(shape: tuple[int, ...]) -> Iterator[tuple[int, float]]:
    """How far each neighbor is in a flat array of that shape, and its weight."""
    steps = [step for step in product((-1, 0, 1), repeat=len(shape)) if any(step)]
    weights = [0.5 ** sum(map(abs, step)) for step in steps]
    strides = torch.empty(shape, device="meta").stride()
    for step, weight in zip(steps, weights, strict=True):
        yield sum(way * stride for way, stride in zip(step, strides, strict=True)), weight / sum(weights)
