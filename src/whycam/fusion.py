"""Several maps of one sample, made at different layers, into one.

A fusion takes the maps of each layer, `(batch, *spatial)` of its own size, and returns maps of the finest size. Any
such function can be passed as `fusion=`; those decorated here have a name.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.arrays import normalize, resize
from whycam.errors import WhycamError

Fusion: TypeAlias = Callable[[Sequence[Tensor]], Tensor]

_FUSIONS: dict[str, Fusion] = {}


def _named(function: Fusion) -> Fusion:
    _FUSIONS[function.__name__] = function
    return function


@_named
def mean(maps: Sequence[Float[Tensor, "batch ..."]]) -> Float[Tensor, "batch *spatial"]:
    """The mean of the maps, each divided by its largest magnitude, so that no layer counts more for being larger."""
    return torch.stack(_resized([normalize(each, "signed") for each in maps])).mean(0)


@_named
def maximum(maps: Sequence[Float[Tensor, "batch ..."]]) -> Float[Tensor, "batch *spatial"]:
    """The element-wise maximum of the maps, each divided by its maximum."""
    return torch.stack(_resized([normalize(each, "max") for each in maps])).amax(0)


@_named
def tanh(maps: Sequence[Float[Tensor, "batch ..."]]) -> Float[Tensor, "batch *spatial"]:
    """LayerCAM's fusion: maps of shallow layers are scaled by tanh(2 M / max M), then the element-wise maximum.

    Shallow are the layers finer than the coarsest one here. Scaling lifts their weak responses, which would drown
    beside a deep layer's (Jiang et al., doi:10.1109/TIP.2021.3089943; gamma = 2 as there. The paper scales the shallow
    stages of VGG-16 and ResNet-50 and leaves the deep ones; with layers of one size none is scaled).
    """
    coarsest = min(each[0].numel() for each in maps)
    scaled = [normalize(each, "max") for each in maps]
    lifted = [torch.tanh(2 * each) if each[0].numel() > coarsest else each for each in scaled]
    return torch.stack(_resized(lifted)).amax(0)


@_named
def product(maps: Sequence[Float[Tensor, "batch ..."]]) -> Float[Tensor, "batch *spatial"]:
    """RefineCAM's fusion: the product of the maps, each resized and then scaled to [0, 1] (arXiv:2605.14641)."""
    return torch.stack([normalize(each, "minmax") for each in _resized(maps)]).prod(0)


@_named
def poly(maps: Sequence[Float[Tensor, "batch ..."]]) -> Float[Tensor, "batch *spatial"]:
    """Poly-CAM's fusion: the coarsest map is resized and multiplied by each finer one, which first is made local.

    To be local a map is divided by itself resized to the coarser grid and back, so that it says where within the
    coarse one's locations the evidence lies and not how much there is; 0 where that divisor is. The result is in units
    of the coarsest map. Maps count as 0 where negative. Of layers of one size the earlier counts as the finer, and only
    says where the later one is kept.

    Englebert et al., arXiv:2204.13359, after the authors' code, which divides by 1e-12 where the divisor is less.
    """
    *finer, fused = sorted((each.relu() for each in maps), key=lambda each: (-each[0].numel(), each.shape))
    for each in reversed(finer):
        level = resize(resize(each, fused.shape[1:]), each.shape[1:])
        fused = (each / level).where(level != 0, each.new_zeros(())) * resize(fused, each.shape[1:])
    return _resized([fused, *maps])[0]


def find(fusion: "str | Fusion") -> Fusion:
    """The fusion of that name, or the function itself.

    Raises:
        WhycamError: no fusion has that name.
    """
    if callable(fusion):
        return fusion
    if not isinstance(fusion, str):
        raise WhycamError(f"fusion is one of {', '.join(_FUSIONS)}, or a function, not {type(fusion).__name__}.")
    if fusion not in _FUSIONS:
        near = get_close_matches(fusion, _FUSIONS, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise WhycamError(f"no fusion {fusion!r}; there are {', '.join(_FUSIONS)}.{hint}")
    return _FUSIONS[fusion]


def name_of(fusion: Fusion) -> str:
    """What a fusion is called."""
    inner = getattr(fusion, "func", fusion)  # of a functools.partial
    return str(getattr(inner, "__name__", "a function"))


def names() -> list[str]:
    """The names that `fusion=` accepts."""
    return list(_FUSIONS)


def _resized(maps: Sequence[Tensor]) -> list[Tensor]:
    """All maps at the finest size, axis by axis."""
    size = [max(sides) for sides in zip(*(each.shape[1:] for each in maps), strict=True)]
    return [resize(each, size) for each in maps]
