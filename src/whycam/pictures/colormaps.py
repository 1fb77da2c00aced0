"""From map values to colors."""

import difflib
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from whycam.errors import WhycamError

# Looked at over photos, opaque where the map is strong. Plasma: even steps, also for color-blind eyes and in gray print
# (brighter is hotter); its first color is a blue, so that a map by itself is not black where it says nothing, and the
# purple of its lower half sets the bright part off from photos of warm colors, which inferno's orange does not.
# Vik is its signed counterpart: white at zero, blue against, red for.
DEFAULT = "bids:plasma"
DEFAULT_SIGNED = "crameri:vik"
#: The same for grounds on which light lines are drawn: black at zero.
DARK, DARK_SIGNED = "bids:inferno", "crameri:berlin"
# For parts that have no order: hues of one lightness, evenly apart, round the circle.
DEFAULT_HUES = "cmocean:phase"
#: Where a map has no value. Flat, so that it cannot be taken for a level of the map.
NO_VALUE = (128, 128, 128)

# Rounding may carry a normalized value a little past its end.
_SLACK = 1e-4


def colorize(
    values: Float[Tensor, "height width"] | Float[np.ndarray, "height width"],
    colormap: str | None = None,
    signed: bool = False,
) -> UInt8[np.ndarray, "height width 3"]:
    """RGB colors of a map in [0, 1], or in [-1, 1] when `signed`, where 0 takes the middle color.

    `colormap` is any name that the package cmap knows (`jet` is the classic look). NaN and infinity become `NO_VALUE`.
    Raises `WhycamError` for an unknown name, and for values out of range: nothing is stretched or clipped in silence.
    """
    table = palette(colormap, signed)
    array = values.detach().cpu().float().numpy() if isinstance(values, Tensor) else values
    known = np.isfinite(array)
    low = -1 if signed else 0
    share = (np.where(known, array, 0) - low) / (1 - low)
    if share.size and (share.min() < -_SLACK or share.max() > 1 + _SLACK):
        finite = array[known]
        raise WhycamError(
            f"the map runs from {finite.min():g} to {finite.max():g}; colors are for {low} to 1, so normalize it first"
        )
    colors: UInt8[np.ndarray, "height width 3"] = table[(share * len(table)).astype(np.int64).clip(0, len(table) - 1)]
    colors[~known] = NO_VALUE
    return colors


def hues(count: int, colormap: str | None = None) -> UInt8[np.ndarray, "count 3"]:
    """One RGB color for each of several things, taken from a color map at even distances."""
    table = palette(colormap or DEFAULT_HUES)
    places = [int((number + 0.5) / count * len(table)) for number in range(count)]
    chosen: UInt8[np.ndarray, "count 3"] = table[places]
    return chosen


@lru_cache(maxsize=64)
def palette(colormap: str | None = None, signed: bool = False) -> UInt8[np.ndarray, "levels 3"]:
    """The RGB levels of a color map, lowest first; an odd number when `signed`, so that zero has its own."""
    from cmap import Catalog, Colormap  # here: it reads its catalog of 1,500 maps

    name = colormap or (DEFAULT_SIGNED if signed else DEFAULT)
    try:
        table = Colormap(name).lut(257 if signed else 256)
    except (ValueError, TypeError, KeyError):
        known = {key.rpartition(":")[2].lower(): key.rpartition(":")[2] for key in Catalog()}
        near = [known[key] for key in difflib.get_close_matches(name.lower(), known, n=3)]
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "try 'turbo', 'inferno', 'viridis' or 'jet'"
        raise WhycamError(f"no color map {name!r}; {hint}") from None
    levels: UInt8[np.ndarray, "levels 3"] = np.rint(np.asarray(table)[:, :3] * 255).astype(np.uint8)
    levels.setflags(write=False)  # shared by all callers
    return levels
