import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.kit.arrays import normalize
from whycam.kit.metric import Measurement, metric
from whycam.kit.options import Count


def _average_precision(counts: Float[Tensor, "sample 2 threshold"]) -> Float[Tensor, " sample"]:
    """The area under precision over recall, from how many pixels of the target and beside it are above which value."""
    right, wrong = counts.unbind(1)
    gained = right.diff(dim=1, prepend=right.new_zeros(len(right), 1)) / right[:, -1:]
    return (right / (right + wrong).clamp(min=1) * gained).sum(1)


def _of_all_pixels(values: Float[Tensor, " sample"], curves: Float[Tensor, "sample point"]) -> float:
    return float(_average_precision(curves.sum(0).reshape(1, 2, -1)))


@metric("PxAP", paper="arXiv:2001.07437", better="higher", values=(0, 1), over=_of_all_pixels)
def pixel_average_precision(
    maps: Float[Tensor, "batch *space"], masks: Bool[Tensor, "batch *space"], *, thresholds: Count = 1000
) -> Measurement:
    """Whether pixels of the target are brighter than those beside it: the area under the pixels' precision over their
    recall, as the threshold falls (Choe et al., section 4.2).

    Each map is shifted and scaled to [0, 1] and compared with `thresholds` equal steps. The value of a sample is that
    of its own pixels; the set's, PxAP, is of the pixels of all, whose counts `curve` holds: how many of the target, and
    then how many beside it, are at or above 1, and so on down to 0. A uniform map has the target's share of the
    picture. Not defined, NaN, where the mask is empty; such samples have no part in the set's.

    The paper resizes maps to 224 pixels; here they are measured at the input's size.
    """
    level = (normalize(maps, "minmax").flatten(1) * thresholds).floor().clamp(max=thresholds).long()
    sides = (masks.flatten(1), ~masks.flatten(1))
    empty = maps.new_zeros(len(maps), thresholds + 1)
    found = torch.stack([empty.scatter_add(1, level, each.to(maps.dtype)) for each in sides], 1)
    counts = found.flip(2).cumsum(2)
    values = _average_precision(counts).where(masks.flatten(1).any(1), maps.new_tensor(float("nan")))
    return Measurement(values, counts.flatten(1))
