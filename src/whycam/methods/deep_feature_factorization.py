import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import locations
from whycam.kit.options import Count, NonNegative
from whycam.kit.quantities import Result
from whycam.kit.registry import method
from whycam.kit.status import Status

#: The error is looked at once in so many steps, as in the authors' code.
_BETWEEN = 10


@method("DFF", paper="arXiv:1806.10206", assumes_non_negative=True, couples=True)
def deep_feature_factorization(
    activations: Float[Tensor, "batch channel *spatial"],
    *,
    concepts: Count = 4,
    steps: Count = 500,
    tolerance: NonNegative = 1e-4,
) -> Result:
    """Factor all locations of all samples into a few concepts, each a mixture of channels; no target is involved.

    Non-negative matrix factorization: the matrix of locations x channels, of the whole batch, is approximated by
    strengths x concepts, both at least zero. The parts are the strengths, in units of the activations as each
    concept's channels have length 1, and the map is their sum. Concept 1 is the strongest over the batch. With one
    concept it is Eigen-CAM.

    `values["residual"]` is each sample's share of activations left over, the length of what the concepts do not
    reproduce over the length of what there is. Neither order nor number of the concepts has a meaning of its own: ask
    for more, and they split. A sample's map depends on the others of its batch, which is the point: a part that
    several photos share becomes one concept. More concepts than the layer has independent channels or locations stay
    zero.

    Multiplicative updates (Lee and Seung), as in the authors' code, until ten of them lower the error by less than
    `tolerance` of the activations, or `steps` are done. Theirs stop below 1e-4 of the error at the start, or after 200
    steps. They start from random numbers; here the start is the
    positive sides of the leading singular vectors (NNDSVD, zeros filled with the mean), so the concepts are the same
    every time, and the error no higher than from most random starts. The paper factors the output of a ReLU: values
    below zero count as zero, where pytorch-grad-cam shifts each channel by its minimum. Samples that are not finite
    are left out and have NaN.
    """
    shape = activations[:, 0].shape
    parts = activations.new_full((shape[0], concepts, *shape[1:]), torch.nan)
    residual = activations.new_full(shape[:1], torch.nan)
    finite = activations.flatten(1).isfinite().all(1)
    settled = True
    if finite.any():
        rows = locations(activations[finite]).relu()
        table = rows.flatten(0, 1)
        strengths, mixtures, settled = _factors(table, concepts, steps, tolerance)
        left = (table - strengths @ mixtures).reshape(len(rows), -1).norm(dim=1)
        whole = rows.flatten(1).norm(dim=1)
        strengths = strengths * mixtures.norm(dim=1)
        order = strengths.norm(dim=0).argsort(descending=True, stable=True)
        maps = strengths[:, order].reshape(*rows.shape[:2], concepts).mT
        parts[finite] = maps.reshape(len(rows), *parts.shape[1:]).to(parts)
        residual[finite] = (left / whole).where(whole > 0, 0).to(residual)
    late = Status("not converged", f"the concepts were still changing after {steps} steps; allow more of them.")
    return Result(parts.sum(1), parts=parts, values={"residual": residual}, status=() if settled else [late] * shape[0])


def _factors(
    table: Float[Tensor, "location channel"], concepts: int, steps: int, tolerance: float
) -> tuple[Float[Tensor, "location concept"], Float[Tensor, "concept channel"], bool]:
    """Strengths and mixtures whose product is near the table, and whether they settled within that many steps."""
    mixtures = _starts(table, concepts)
    strengths = table.new_ones(len(table), concepts)
    enough = tolerance * table.norm()
    before = torch.inf
    for step in range(steps):
        strengths = strengths * _ratio(table @ mixtures.T, strengths @ (mixtures @ mixtures.T))
        mixtures = mixtures * _ratio(strengths.T @ table, (strengths.T @ strengths) @ mixtures)
        if step % _BETWEEN == 0:
            error = (table - strengths @ mixtures).norm()
            if before - error <= enough:
                return strengths, mixtures, True
            before = error
    return strengths, mixtures, False


def _ratio(wanted: Float[Tensor, "row column"], had: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
    """What a factor is multiplied by; 0 where there is nothing of it any more."""
    return (wanted / had).where(had > 0, 0)


def _starts(table: Float[Tensor, "location channel"], concepts: int) -> Float[Tensor, "concept channel"]:
    """Of each leading singular vector the side, positive or negative, that holds more of the table."""
    tall = len(table) > table.shape[1]
    squares, vectors = torch.linalg.eigh(table.T @ table if tall else table @ table.T)
    count = min(concepts, len(squares))
    used = squares > squares[-1] * len(squares) * torch.finfo(squares.dtype).eps
    leading = (vectors * used)[:, -count:].flip(1)  # of the largest, largest first; what is rounding becomes 0
    channels = leading.T if tall else leading.T @ table
    places = channels @ table.T
    sides = [(sign * channels).relu() for sign in (1, -1)]
    held = [side.norm(dim=1) * (sign * places).relu().norm(dim=1) for sign, side in zip((1, -1), sides, strict=True)]
    chosen = sides[0].where((held[0] >= held[1])[:, None], sides[1])
    filled = chosen.where(chosen > 0, chosen.mean(1, keepdim=True))
    return torch.cat([filled, filled.new_zeros(concepts - count, filled.shape[1])])
