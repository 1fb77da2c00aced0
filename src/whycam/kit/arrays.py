"""Rank-agnostic tensor steps that methods, fusions and drawings share: `*spatial` is one, two or three axes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from whycam.errors import OptionError, WhycamError

#: How a map's values are brought to a common scale. Raw values are the truth; this is for looking at them.
Normalize = Literal["max", "minmax", "signed", "none"]

#: How the input's channels become one map: their signed sum, the largest magnitude, or the Euclidean length.
Colors = Literal["sum", "max", "norm"]

#: How a map is enlarged: each location as a block of one value, linearly, or by cubic splines (two axes alone).
Enlarge = Literal["nearest", "bilinear", "cubic"]

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


def pool(maps: Float[Tensor, "batch channel *spatial"]) -> Float[Tensor, "batch channel"]:
    """The mean over all locations."""
    return maps.reshape(*maps.shape[:2], -1).mean(2)


def total(maps: Float[Tensor, "batch channel *spatial"]) -> Float[Tensor, "batch channel"]:
    """The sum over all locations."""
    return maps.reshape(*maps.shape[:2], -1).sum(2)


def weighted_sum(
    weights: Float[Tensor, "batch channel"], maps: Float[Tensor, "batch channel *spatial"], *, final: bool = True
) -> Float[Tensor, "batch *spatial"]:
    """The `channel_sum` of the maps, each times its weight.

    With `final=False`, for what is not yet a method's map, such as a mask, it is the sum whatever the block.
    """
    making = _making.get()
    if final and making is not None and (making.component or making.per_channel):
        return channel_sum(weights.reshape(*weights.shape, *[1] * (maps.ndim - 2)) * maps)
    # a product of matrices never builds the weighted maps: five times quicker at 1280 x 7 x 7
    return torch.bmm(weights[:, None], maps.flatten(2)).reshape_as(maps[:, 0])


def channel_sum(products: Float[Tensor, "batch channel *spatial"]) -> Float[Tensor, "batch *spatial"]:
    """A method's channels as one map: their sum, or within a block of `making` what that says."""
    making = _making.get()
    if making is None:
        return products.sum(1)
    if making.per_channel:
        making.products = products
    if not making.component:
        return products.sum(1)
    making.summed = True
    rows = center_rows(locations(products))
    maps = orient(principal_component(rows), rows.sum(-1))
    return maps.to(products.dtype).reshape_as(products[:, 0])


def positive(maps: Float[Tensor, "batch *spatial"]) -> Float[Tensor, "batch *spatial"]:
    """The last step of the methods that keep what speaks for the target: the positive part, unless a block of `making`
    asks for the signed map.
    """
    making = _making.get()
    if making is None or not making.signed:
        return maps.relu()
    making.unrectified = True
    return maps


@dataclass
class Making:
    """How the maps of a block are made, and what happened in it.

    Attributes:
        component: channels are not summed but projected on their first principal component. This is pytorch-grad-cam's
            `eigen_smooth`: what most channels agree on stays, what few of them say by themselves goes. The mean over
            locations is subtracted first, as there, so the map adds up to 0 before any positive part is taken; its
            sign is that of its product with the sum, where pytorch-grad-cam leaves it to chance.
        signed: the last step, the positive part, is left out.
        per_channel: what each channel adds to the map is kept, in `products`, `(batch, channel, *spatial)`.
        colors: the map of each color before they were merged, `(batch, color, *space)`, of methods at the input.
        summed, unrectified: whether any channels were projected, any last step left out.
    """

    component: bool = False
    signed: bool = False
    per_channel: bool = False
    summed: bool = False
    unrectified: bool = False
    products: Tensor | None = None
    colors: Tensor | None = None


_making: ContextVar[Making | None] = ContextVar("making", default=None)


@contextmanager
def making(settings: Making) -> Iterator[Making]:
    """A block in which methods' maps are made as `settings` say."""
    token = _making.set(settings)
    try:
        yield settings
    finally:
        _making.reset(token)


def resize(
    maps: Float[Tensor, "batch *spatial"],
    size: Sequence[int],
    enlarge: Enlarge = "bilinear",
    *,
    align_corners: bool = False,
) -> Float[Tensor, "batch *size"]:
    """Interpolation between pixel centers, or from corner to corner, of one to three spatial axes; linear unless asked.

    Raises:
        OptionError: an unknown way, or cubic splines for other than two axes.
    """
    if maps.shape[1:] == tuple(size):
        return maps
    modes = {"nearest": "nearest-exact", "bilinear": _INTERPOLATION[len(size)]}
    mode = "bicubic" if enlarge == "cubic" and len(size) == 2 else modes.get(enlarge)
    if mode is None:
        raise OptionError(f"enlarge is 'nearest', 'bilinear' or, for two axes, 'cubic'; not {enlarge!r}.")
    corners = None if enlarge == "nearest" else align_corners
    return F.interpolate(maps.unsqueeze(1), tuple(size), mode=mode, align_corners=corners).squeeze(1)


def normalize(maps: Float[Tensor, "batch *spatial"], how: Normalize = "max") -> Float[Tensor, "batch *spatial"]:
    """Scale each map by itself.

    - `"max"`: negative values to 0, then divided by the maximum; a map that is nowhere positive becomes 0.
    - `"minmax"`: shifted and scaled to [0, 1]; a constant map becomes 0.
    - `"signed"`: divided by the largest magnitude, to [-1, 1]; zero stays zero.
    - `"none"`: as it is.

    Divisors are tested, never padded with an epsilon, so that the strength of a map does not change its picture.
    """
    if how == "none":
        return maps
    flat = maps.flatten(1)
    ones = [1] * (maps.ndim - 1)
    low, high, largest = (edge.reshape(-1, *ones) for edge in (flat.amin(1), flat.amax(1), flat.abs().amax(1)))
    if how == "max":
        return (maps.clamp(min=0) / high).where(high > 0, maps.new_zeros(()))
    if how == "minmax":
        return ((maps - low) / (high - low)).where(high > low, maps.new_zeros(()))
    if how == "signed":
        return (maps / largest).where(largest > 0, maps.new_zeros(()))
    raise ValueError(f"normalize must be 'max', 'minmax', 'signed' or 'none', not {how!r}")


def scaled_sum(terms: Float[Tensor, "batch channel *spatial"]) -> Float[Tensor, "batch *spatial"]:
    """The magnitudes of one layer, scaled together to [0, 1] in each image, summed over the channels."""
    return normalize(terms.abs(), "minmax").sum(1) + 0 * terms.sum(1)  # which leaves NaN and infinity to be seen


def merge_colors(maps: Float[Tensor, "batch color *space"], how: Colors) -> Float[Tensor, "batch *space"]:
    """One map from a map per color: the sum keeps the sign, `"max"` and `"norm"` are magnitudes."""
    if (making := _making.get()) is not None:
        making.colors = maps
    if how == "sum":
        return maps.sum(1)
    if how == "max":
        return maps.abs().amax(1)
    if how == "norm":
        lengths: Tensor = torch.linalg.vector_norm(maps, dim=1)
        return lengths
    raise WhycamError(f"colors must be 'sum', 'max' or 'norm', not {how!r}.")


def is_half(values: Tensor) -> bool:
    """Whether all values are numbers that half precision has, as its results are and others hardly ever."""
    return any(torch.equal(values, values.to(half).to(values)) for half in (torch.float16, torch.bfloat16))


def wide(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Half precision as float32; everything else as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def precise(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """In float64, or float32 on MPS, which has nothing finer: for thresholds and decompositions."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def locations(maps: Float[Tensor, "batch channel *spatial"]) -> Float[Tensor, "batch location channel"]:
    """One precise row of channel values per location."""
    return precise(maps).flatten(2).mT


def center_rows(rows: Float[Tensor, "batch row column"]) -> Float[Tensor, "batch row column"]:
    """Subtract the mean row. Rows that are all equal become exactly zero, not rounding noise to be magnified later."""
    shifted = rows - rows[:, :1]
    return shifted.sub_(shifted.mean(1, keepdim=True))


def largest_eigenpair(
    symmetric: Float[Tensor, "batch row row"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch row"]]:
    """The largest eigenvalue, 0 where it is not above rounding, and its unit eigenvector of arbitrary sign.

    A matrix that is not finite gives NaN and leaves the rest of the batch alone; torch by itself raises for all.
    """
    finite = symmetric.isfinite().flatten(1).all(1)
    nan = symmetric.new_full((), torch.nan)
    values, vectors = torch.linalg.eigh(symmetric.where(finite[:, None, None], symmetric.new_zeros(())))
    largest = values[:, -1]
    rounding = values.abs().amax(1) * values.shape[1] * torch.finfo(values.dtype).eps
    return (
        largest.masked_fill(largest <= rounding, 0).where(finite, nan),
        vectors[..., -1].where(finite[:, None], nan),
    )


def principal_component(rows: Float[Tensor, "batch row column"]) -> Float[Tensor, "batch row"]:
    """Each row's coordinate along the leading right-singular vector `v`, that is `rows @ v`; the sign is arbitrary.

    Through the eigenvectors of whichever Gram matrix is smaller, rows by rows or columns by columns: a 2048 x 7 x 7
    layer needs a 49 x 49 matrix. Where squares come near what the precision holds, values are scaled first.
    """
    few = rows.shape[1] <= rows.shape[2]
    scale = rows.new_ones(len(rows), 1, 1)
    gram = rows @ rows.mT if few else rows.mT @ rows
    largest = gram.diagonal(dim1=1, dim2=2).amax(1)
    edge = torch.finfo(rows.dtype).tiny ** 0.5
    if not ((largest > edge) & (largest < 1 / edge)).all():
        scale = rows.abs().amax((1, 2), keepdim=True)
        scale = scale.where(scale > 0, scale.new_ones(()))
        gram = (rows / scale) @ (rows / scale).mT if few else (rows / scale).mT @ (rows / scale)
    value, vector = largest_eigenpair(gram)
    if few:
        return scale[..., 0] * value.sqrt()[:, None] * vector
    return (rows @ vector[..., None])[..., 0]


def orient(
    components: Float[Tensor, "batch location"], evidence: Float[Tensor, "batch location"]
) -> Float[Tensor, "batch location"]:
    """Turn round each component whose product with the evidence is negative. Where it is 0 the sign stays arbitrary."""
    return torch.where((components * evidence).sum(1, keepdim=True) < 0, -components, components)


@dataclass(frozen=True)
class Variants:
    """Tensors made one by one as they are drawn; how many there will be is known before.

    `shared`: they follow from the inputs and from what they are made `over` alone, so that what the network answered
    for one target is read again for the next.
    """

    make: Callable[[Any], Tensor]
    over: Sequence[Any]
    shared: bool = False

    def __len__(self) -> int:
        return len(self.over)

    def __iter__(self) -> Iterator[Tensor]:
        return map(self.make, self.over)


def lazily(make: Callable[[Any], Tensor], over: Sequence[Any], *, shared: bool = False) -> Variants:
    """What `make` makes of each, made when it is drawn. `shared`: see `Variants`."""
    return Variants(make, over, shared)


def noise(shape: Sequence[int], seed: int, number: int = 0) -> Float[Tensor, "..."]:
    """Normal noise, float64, that depends on the seed and the draw's number alone: not on the device, the batch, or
    what was drawn before. torch's own random state is not touched.
    """
    return torch.randn(tuple(shape), generator=generator(seed, number), dtype=torch.float64)


def noise_like(values: Tensor, seed: int = 0) -> Tensor:
    """Normal noise as wide as the values are spread (1 where they are all one), in their precision and place; the same
    every time.
    """
    spread = float(values.detach().cpu().double().std(correction=0))
    # on the CPU, as the generator is, whatever the default device; and not every device has float64
    drawn = torch.randn(
        values.shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float64, device="cpu"
    )
    return (drawn * (spread if isfinite(spread) and spread else 1.0)).to(values)


#: How far two runs of a network may be apart by rounding alone, in parts of the largest value; in half precision.
SAME = (1.2e-5, 1e-2)


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference in parts of the largest value expected; infinite for other shapes, NaN for NaN."""
    if found.shape != expected.shape:
        return inf
    if not expected.numel() or torch.equal(found, expected):
        return 0.0
    return float((found - expected).abs().amax() / expected.abs().amax())


def generator(seed: int, number: int = 0) -> torch.Generator:
    """A source of random numbers of its own for each draw, so that draws can be made in any order and any batches."""
    mixed = torch.Generator().manual_seed(seed)
    start = int(torch.randint(2**62, (1,), generator=mixed)) + number
    return torch.Generator().manual_seed(start)
