"""Masks over inputs and what shows through them, for methods that score edited inputs."""

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.arrays import normalize, resize
from whycam.errors import WhycamError

#: What stands where nothing is shown: 0 (the data set's mean colour, in inputs that were normalised), the inputs
#: blurred, a number, or an input of one's own.
Baseline: TypeAlias = Literal["zero", "blur"] | float | Tensor


def stand_in(inputs: Float[Tensor, "batch colour *space"], baseline: Baseline) -> Float[Tensor, "batch colour *space"]:
    """What the inputs are replaced by where a mask hides them."""
    if isinstance(baseline, str):
        if baseline == "zero":
            return torch.zeros_like(inputs)
        if baseline == "blur":
            return blur(inputs)
    elif isinstance(baseline, (int, float)):
        return torch.full_like(inputs, baseline)
    elif isinstance(baseline, Tensor):
        try:
            return baseline.to(inputs).expand_as(inputs)
        except RuntimeError:
            raise WhycamError(
                f"baseline has shape {tuple(baseline.shape)}, which cannot stand in for inputs of shape "
                f"{tuple(inputs.shape)}."
            ) from None
    raise WhycamError(f"baseline must be 'zero', 'blur', a number or a tensor like the inputs, not {baseline!r}.")


def blur(
    inputs: Float[Tensor, "batch colour *space"], deviation: float = 50.0, size: int = 51
) -> Float[Tensor, "batch colour *space"]:
    """Every axis convolved with a Gaussian of that deviation, cut off at `size` pixels; edges are reflected.

    The values are Group-CAM's (arXiv:2103.13859, the authors' code), made for inputs of 224 pixels. Axes shorter than
    the window reach are blurred by as much of it as fits.
    """
    for axis in range(2, inputs.ndim):
        length = inputs.shape[axis]
        reach = min(size // 2, length - 1)
        at = torch.arange(-reach, reach + 1, dtype=torch.float64)
        kernel = torch.exp(-((at / deviation) ** 2) / 2)
        kernel = (kernel / kernel.sum()).to(inputs)
        rows = inputs.movedim(axis, -1)
        padded = F.pad(rows.reshape(-1, 1, length), (reach, reach), mode="reflect")
        inputs = F.conv1d(padded, kernel[None, None]).reshape(rows.shape).movedim(-1, axis)
    return inputs


def shown(
    inputs: Float[Tensor, "batch colour *space"],
    mask: Float[Tensor, "batch *space"],
    behind: Float[Tensor, "batch colour *space"],
) -> Float[Tensor, "batch colour *space"]:
    """The inputs where the mask is 1, what is `behind` them where it is 0, and in between a mixture."""
    return behind + mask.unsqueeze(1) * (inputs - behind)


def channel_mask(
    maps: Float[Tensor, "batch channel *spatial"], channel: int, size: tuple[int, ...]
) -> Float[Tensor, "batch *size"]:
    """One channel resized to the input and then scaled to [0, 1], in this order; 0 where the channel is flat.

    Resizing first is what the Score-CAM paper and its authors' code do. One channel at a time, because all channels at
    the input's size are more than memory holds.
    """
    return normalize(resize(maps[:, channel], size), "minmax")


def flat_channels(maps: Float[Tensor, "batch channel *spatial"]) -> Bool[Tensor, "batch channel"]:
    """Whether each channel has one value everywhere, and so can mask nothing."""
    flat = maps.flatten(2)
    return flat.amax(2) == flat.amin(2)
