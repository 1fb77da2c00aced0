"""The values that colors stand for: maps at the input's size on one scale, and the raw values at its ends."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import WhycamError
from whycam.kit.arrays import normalize, resize
from whycam.pictures.input_context import InputContext
from whycam.pictures.strips import Scale
from whycam.results.look import Look
from whycam.results.values import ExplanationValues

#: Gradients of single pixels have a few spikes that would leave all else without color: theirs ends at this quantile.
_PIXEL_QUANTILE = 0.995
CLIPPED = f"colors end at the {_PIXEL_QUANTILE:.1%} quantile"


def heat_of(explanation: ExplanationValues, look: Look) -> Tensor:
    """The maps, or those of each part, at the input's size, each sample on one scale for colors."""
    _check_drawable(explanation)
    return part_heat(explanation, look) if in_colors(explanation) else map_heat(explanation, look)


def map_heat(explanation: ExplanationValues, look: Look) -> Float[Tensor, "batch *space"]:
    """Maps at the input's size, on a scale that ends at `color_ends`; what is not finite has no value here either."""
    raw = _enlarged(explanation, look)
    ends = _ends(explanation, raw, look.signed).reshape(-1, *[1] * (raw.ndim - 1))
    scaled = (raw / ends).clamp(-1.0 if look.signed else 0.0, 1).where(ends > 0, 0.0)
    return scaled.where(raw.isfinite(), torch.nan)


def color_ends(explanation: ExplanationValues, look: Look) -> Float[Tensor, " batch"]:
    """The raw value of each sample at which its colors end: the largest that is drawn, or 0 where none is positive."""
    return _ends(explanation, _enlarged(explanation, look), look.signed)


def _enlarged(explanation: ExplanationValues, look: Look) -> Float[Tensor, "batch *space"]:
    return explanation.heatmaps(normalize="none", enlarge=look.way(explanation.maps.ndim - 1)).float().cpu()


def _ends(explanation: ExplanationValues, raw: Float[Tensor, "batch *space"], signed: bool) -> Float[Tensor, " batch"]:
    drawn, own = (strength(maps, signed).flatten(1) for maps in (raw, explanation.maps.float().cpu()))
    ends = drawn.amax(1).minimum(own.amax(1))  # splines may overshoot; no color stands for more than the map has
    if not is_by_pixel(explanation):
        return ends
    quantile = torch.from_numpy(np.quantile(drawn.numpy(), _PIXEL_QUANTILE, 1)).to(ends)  # torch's has a largest size
    return quantile.where(quantile > 0, ends)


def strength(maps: Float[Tensor, "batch *space"], signed: bool) -> Float[Tensor, "batch *space"]:
    """What of maps is drawn in color, not negative; what is not finite is 0."""
    finite = maps.detach().nan_to_num(0, 0, 0)
    return finite.abs() if signed else finite.clamp(min=0)


def color_scale(one: ExplanationValues, look: Look) -> Scale:
    """What the colors of one sample's map stand for."""
    end = float(color_ends(one, look)[0])
    about = one.target[0] if one.target else ""
    words = f"{one.title}{f': evidence {_SIDES[look.signed]} {about}' if about else ''}"
    return Scale(-end if look.signed else 0.0, end, f"{words}; {CLIPPED}" if is_by_pixel(one) else words)


_SIDES = {False: "for", True: "against and for"}


def is_by_pixel(explanation: ExplanationValues) -> bool:
    """Whether the maps are as fine as the input, as guided backprop's are."""
    return tuple(explanation.maps.shape[1:]) == tuple(context_of(explanation).size)


def in_colors(explanation: ExplanationValues) -> bool:
    """Whether parts are drawn over each other, in place of the map."""
    return explanation.parts is not None and not explanation.apart


def context_of(explanation: ExplanationValues) -> InputContext:
    """What the network was shown, without which nothing can be drawn."""
    if explanation.context is None:
        raise WhycamError("this explanation does not keep what the network was shown, so it cannot be drawn over it.")
    return explanation.context


def part_heat(explanation: ExplanationValues, look: Look) -> Tensor:
    """The parts at the input's size, those of one sample on one scale from 0 to 1."""
    assert explanation.parts is not None  # asked for where there are some
    parts = explanation.parts.cpu()
    large = resize(parts.flatten(0, 1), context_of(explanation).size, look.way(parts.ndim - 2))
    scaled = normalize(large.reshape(len(parts), -1), "max")
    return scaled.reshape(*parts.shape[:2], *large.shape[1:])


def _check_drawable(explanation: ExplanationValues) -> None:
    axes, own = explanation.maps.ndim - 1, len(context_of(explanation).size)
    if axes != own or own < 2:
        advice = "figure() draws signals." if own == axes == 1 else "Their values are in .maps and .heatmaps()."
        raise WhycamError(
            f"a picture needs maps with the input's axes, two or three; these have {axes} (shape "
            f"{tuple(explanation.maps.shape)}) and the input {own}. {advice}"
        )
