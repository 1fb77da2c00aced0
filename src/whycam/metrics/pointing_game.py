from collections import defaultdict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whycam.kit.likeness import is_flat
from whycam.kit.metric import Measurement, metric
from whycam.kit.options import NonNegative
from whycam.kit.ranking import order


def _mean_over_classes(hits: Float[Tensor, " sample"], curves: Float[Tensor, "sample point"]) -> float:
    of_class: dict[float, list[float]] = defaultdict(list)
    for hit, number in curves.tolist():
        of_class[number].append(hit)
    return sum(sum(each) / len(each) for _, each in sorted(of_class.items())) / len(of_class)


@metric("Pointing game", paper="arXiv:1608.00507", better="higher", values=(0, 1), over=_mean_over_classes)
def pointing_game(
    maps: Float[Tensor, "batch *space"],
    masks: Bool[Tensor, "batch *space"],
    classes: Int[Tensor, " batch"],
    *,
    tolerance: NonNegative = 15.0,
    seed: int = 0,
) -> Measurement:
    """Whether the map's highest pixel is on the target: 1 or 0 (Zhang et al., section 4.3).

    It is a hit too where the target is closer than `tolerance` pixels, as in TorchRay; 0 asks for the target itself.
    Of a set it is the mean over classes of the share of hits in each. A map that is flat points nowhere and misses; of
    several highest pixels one is drawn, by the seed. Not defined, NaN, where the mask is empty.

    Peers: Quantus has no tolerance, counts a hit where any of the highest pixels is on the target, so a map of zeros
    among others hits, and says that an empty mask is hit.
    """
    points = torch.unravel_index(order(maps, seed=seed)[:, 0], maps.shape[1:])
    away = torch.zeros_like(maps)
    for axis, (at, side) in enumerate(zip(points, maps.shape[1:], strict=True)):
        steps = torch.arange(side, device=maps.device) - at[:, None]
        away += (steps**2).reshape(len(maps), *[side if axis == each else 1 for each in range(maps.ndim - 1)])
    near = ((away < tolerance**2) | (away == 0)) & masks
    hits = (near.flatten(1).any(1) & ~is_flat(maps)).to(maps.dtype)
    hits = hits.where(masks.flatten(1).any(1), hits.new_tensor(float("nan")))
    return Measurement(hits, torch.stack([hits, classes.to(hits)], 1))
