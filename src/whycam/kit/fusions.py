"""Several maps of one sample, made at different layers, into one.

A fusion takes the maps of each layer, `(batch, *spatial)` of its own size, and returns maps of the finest size. Any
such function can be passed as `fusion=`; those decorated here have a name.

A fusion that needs more than maps names it: its further parameters before `*` are quantities of the layers, such as
`gradients`, each given as a sequence with one tensor for each map. Parameters after `*` are options, which
`functools.partial` gives: `fusion=partial(whycam.fusions.winsor, percentile=50)`. `needs` reads the names.
"""

import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Literal, TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import OptionError, WhycamError
from whycam.kit.arrays import normalize, pool, resize
from whycam.kit.options import Count, Percentile, check
from whycam.kit.quantities import FUNCTIONS, LAYER_QUANTITIES, OF_ATTENTION

Fusion: TypeAlias = Callable[..., Tensor]
F = TypeVar("F", bound=Fusion)

#: What a fusion may ask for beside the maps.
_QUANTITIES = sorted(LAYER_QUANTITIES - FUNCTIONS - OF_ATTENTION)

_FUSIONS: dict[str, Fusion] = {}


def _named(function: F) -> F:
    _FUSIONS[function.__name__] = function
    return function


@_named
def mean(maps: Sequence[Float[Tensor, "batch ..."]]) -> Float[Tensor, "batch *spatial"]:
    """The mean of the maps, each divided by its largest magnitude, so that no layer counts more for being larger.

    Examples:
        >>> whycam.explain(net, batch, layer=["0", "1"], fusion="mean").layer.why
        '2 layers fused by mean'
    """
    return torch.stack(_resized([normalize(each, "signed") for each in maps])).mean(0)


@_named
def sum(maps: Sequence[Float[Tensor, "batch ..."]]) -> Float[Tensor, "batch *spatial"]:
    """The sum of the raw maps, which adds up to the sum over all layers: a coarse cell's value is spread over its area.

    For maps in units of the score, gradient times activation, such as those of the levels of a pyramid. No map is
    scaled first, so a level with next to no evidence stays dark.

    Examples:
        >>> whycam.explain(net, batch, "hires_cam", layer=["0", "1"], fusion="sum").layer.why
        '2 layers fused by sum'
    """
    size = [max(sides) for sides in zip(*(each.shape[1:] for each in maps), strict=True)]
    spread = []
    for each in maps:
        for axis, (length, wanted) in enumerate(zip(each.shape[1:], size, strict=True), 1):
            # how much each cell counts after resizing along this axis
            counted = resize(torch.eye(length, dtype=each.dtype, device=each.device), (wanted,)).sum(1)
            each = each / counted.reshape(-1, *[1] * (each.ndim - 1 - axis))
        spread.append(resize(each, size))
    return torch.stack(spread).sum(0)


@_named
def maximum(maps: Sequence[Float[Tensor, "batch ..."]]) -> Float[Tensor, "batch *spatial"]:
    """The element-wise maximum of the maps, each divided by its maximum.

    Examples:
        >>> whycam.explain(net, batch, layer=["0", "1"], fusion="maximum").layer.why
        '2 layers fused by maximum'
    """
    return torch.stack(_resized([normalize(each, "max") for each in maps])).amax(0)


@_named
def tanh(maps: Sequence[Float[Tensor, "batch ..."]]) -> Float[Tensor, "batch *spatial"]:
    """LayerCAM's fusion: maps of shallow layers are scaled by tanh(2 M / max M), then the element-wise maximum.

    Shallow are the layers finer than the coarsest one here. Scaling lifts their weak responses, which would drown
    beside a deep layer's (Jiang et al., doi:10.1109/TIP.2021.3089943; gamma = 2 as there. The paper scales the shallow
    stages of VGG-16 and ResNet-50 and leaves the deep ones; with layers of one size none is scaled).

    Examples:
        >>> whycam.explain(net, batch, layer=["0", "1"], fusion="tanh").layer.why
        '2 layers fused by tanh'
    """
    coarsest = min(each[0].numel() for each in maps)
    scaled = [normalize(each, "max") for each in maps]
    lifted = [torch.tanh(2 * each) if each[0].numel() > coarsest else each for each in scaled]
    return torch.stack(_resized(lifted)).amax(0)


@_named
def product(
    maps: Sequence[Float[Tensor, "batch ..."]], *, size: Sequence[Count] | None = None
) -> Float[Tensor, "batch *spatial"]:
    """RefineCAM's fusion: the product of the maps, each resized and then scaled to [0, 1] (arXiv:2605.14641).

    At the finest layer's size, or at `size`: the authors' code multiplies at the input's, as
    `partial(whycam.fusions.product, size=(224, 224))` does. A product of enlarged maps is not the enlarged product.

    Examples:
        >>> whycam.explain(net, batch, layer=["0", "1"], fusion="product").layer.why
        '2 layers fused by product'
    """
    return torch.stack([normalize(each, "minmax") for each in _resized(maps, size)]).prod(0)


@_named
def poly(maps: Sequence[Float[Tensor, "batch ..."]]) -> Float[Tensor, "batch *spatial"]:
    """Poly-CAM's fusion: the coarsest map is resized and multiplied by the detail of each finer one.

    The detail of a map is the map divided by its own low-pass version: resized down to the coarser grid and up again.
    That keeps where the evidence lies and removes how much there is; it is 0 where the low-pass version is. The result
    is in units of the coarsest map. Maps count as 0 where negative. Of layers of one size the earlier counts as the
    finer, and only says where the later one is kept.

    Englebert et al., arXiv:2204.13359, after the authors' code, which divides by 1e-12 where the divisor is less.
    """
    *finer, fused = sorted((each.relu() for each in maps), key=lambda each: (-each[0].numel(), each.shape))
    for each in reversed(finer):
        level = resize(resize(each, fused.shape[1:]), each.shape[1:])
        fused = (each / level).where(level != 0, each.new_zeros(())) * resize(fused, each.shape[1:])
    return _resized([fused, *maps])[0]


@_named
def winsor(
    maps: Sequence[Float[Tensor, "batch ..."]],
    gradients: Sequence[Float[Tensor, "batch _ ..."]],
    *,
    percentile: Percentile = 90.0,
    importance: Literal["mean", "max"] = "mean",
) -> Float[Tensor, "batch *spatial"]:
    """Winsor-CAM's fusion: the maps, each scaled to [0, 1], weighted by their layers' importance with its top cut off.

    A layer's importance is the mean (or the largest) of its channels' Grad-CAM weights, the mean gradients. Layers of
    no positive importance count nothing; the others are cut at that percentile of theirs, then spread over 0.1 to 1,
    sample by sample: at 0 all count alike, at 100 nothing is cut, so that the layers with the largest gradients rule.
    The sum is not divided by anything. Negative values of the maps, which Grad-CAM has none of, count as 0.

    Wall et al., arXiv:2507.10846, after the authors' code: its default percentile is 99 and its README's 90; it resizes
    by nearest neighbors unless told otherwise, here it is linear.

    Examples:
        >>> from functools import partial
        >>> half = partial(whycam.fusions.winsor, percentile=50)
        >>> whycam.explain(net, batch, layer=["0", "1"], fusion=half).maps.shape
        torch.Size([2, 14, 14])
    """
    weights = [pool(each) for each in gradients]
    ranks = torch.stack([each.mean(1) if importance == "mean" else each.amax(1) for each in weights]).relu()
    counted = ranks.where(ranks > 0, torch.nan)
    cut = torch.minimum(counted, counted.nanquantile(percentile / 100, dim=0))
    low, high = cut.nan_to_num(torch.inf).amin(0), cut.nan_to_num(-torch.inf).amax(0)
    spread = (0.1 + 0.9 * (cut - low) / (high - low)).where(high > low, 1)
    shares = spread.where(ranks > 0, ranks)  # 0 stays 0, and what is not finite shows
    scaled = torch.stack(_resized([normalize(each.relu(), "minmax") for each in maps]))
    return (shares.reshape(*shares.shape, *[1] * (scaled.ndim - 2)).to(scaled) * scaled).sum(0)


def needs(fusion: Fusion) -> frozenset[str]:
    """The quantities of the layers that a fusion asks for beside their maps.

    Raises:
        WhycamError: it asks for something that is none, or has an option without a value.
    """
    try:
        parameters = list(inspect.signature(fusion).parameters.values())
    except (TypeError, ValueError):  # a built-in function that does not say
        return frozenset()
    asked = set()
    for each in parameters[1:]:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            continue
        if each.kind is each.POSITIONAL_OR_KEYWORD and each.name in _QUANTITIES:
            asked.add(each.name)
        elif each.default is each.empty:
            raise WhycamError(
                f"the fusion {name_of(fusion)} asks for {each.name!r}; before `*` a fusion can ask for "
                f"{', '.join(_QUANTITIES)}, and functools.partial gives its options."
            )
    return frozenset(asked)


def find(fusion: "str | Fusion") -> Fusion:
    """The fusion of that name, or the function itself.

    Raises:
        WhycamError: no fusion has that name.
    """
    if callable(fusion):
        if isinstance(fusion, partial):
            parameters = inspect.signature(fusion.func).parameters
            check(name_of(fusion), {name: each.annotation for name, each in parameters.items()}, fusion.keywords)
        return fusion
    if not isinstance(fusion, str):
        raise OptionError(f"fusion is one of {', '.join(_FUSIONS)}, or a function, not {type(fusion).__name__}.")
    if fusion not in _FUSIONS:
        near = get_close_matches(fusion, _FUSIONS, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"no fusion {fusion!r}; there are {', '.join(_FUSIONS)}.{hint}")
    return _FUSIONS[fusion]


def name_of(fusion: Fusion) -> str:
    """What a fusion is called."""
    inner = getattr(fusion, "func", fusion)  # of a functools.partial
    return str(getattr(inner, "__name__", "a function"))


def names() -> list[str]:
    """The names that `fusion=` accepts."""
    return list(_FUSIONS)


def _resized(maps: Sequence[Tensor], size: Sequence[int] | None = None) -> list[Tensor]:
    """All maps at that size, or at the finest, axis by axis."""
    size = size or [max(sides) for sides in zip(*(each.shape[1:] for each in maps), strict=True)]
    return [resize(each, size) for each in maps]
