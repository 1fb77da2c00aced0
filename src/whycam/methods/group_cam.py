import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily, pool, weighted_sum
from whycam.kit.masks import Baseline, channel_mask, flat_channels, shown, stand_in
from whycam.kit.options import Count, PartialShare
from whycam.kit.quantities import Score
from whycam.kit.registry import method


@method("Group-CAM", paper="arXiv:2103.13859")
def group_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
    inputs: Float[Tensor, "batch color *space"],
    score: Score,
    *,
    groups: Count = 32,
    denoise: PartialShare = 0.0,
    probability: bool = True,
    baseline: Baseline = "blur",
) -> Float[Tensor, "batch *spatial"]:
    """Add up the Grad-CAMs of groups of channels, each weighted by what the input shown through it gains on the blur.

    Channels that follow each other form at most `groups` groups of equal size (the last may be smaller). A group's map
    is the positive part of its channels times their mean gradients; resized to the input and scaled to [0, 1] it is a
    mask, with the blurred input behind it. The gain is the class's probability less that of the blurred input alone,
    where positive. One run per group and one more. In units of the gain times Grad-CAM's.

    Zero where no group gains: the blurred input may be as likely, or every gain negative, as for a class that the
    image does not hold. `probability=False` weighs by the target's own score.

    As in the authors' latest code. `denoise` is the share of locations, the lowest of each group, that are set to 0
    before; the latest code takes none. Their code of June 2021 took 0.7, but no value of `denoise` gives its maps: it
    adds up the masks in place of the groups' maps, and takes the positive part of that sum in place of the gains'. A
    group whose mask is flat has no weight, and no NaN as in the authors' code.
    """
    parts = zip(pool(gradients).chunk(groups, 1), activations.chunk(groups, 1), strict=True)
    maps = torch.stack([_without_lowest(weighted_sum(*part, final=False).relu(), denoise) for part in parts], 1)
    behind, size = stand_in(inputs, baseline), inputs.shape[2:]

    def variant(number: int) -> Tensor:
        return shown(inputs, channel_mask(maps, number - 1, size), behind) if number else behind

    scores = score(lazily(variant, range(maps.shape[1] + 1)), probability=probability)
    gains = (scores[1:] - scores[0]).relu().T.to(maps.dtype)
    return weighted_sum(gains.masked_fill(flat_channels(maps), 0), maps)


def _without_lowest(maps: Float[Tensor, "batch *spatial"], share: float) -> Float[Tensor, "batch *spatial"]:
    """Each map where it is above the quantile of its values, else 0; with a share of 0 as it is."""
    if not share:
        return maps
    flat = maps.flatten(1)
    highest = torch.stack([row.quantile(share) for row in flat])[:, None]  # row by row: it has a largest size
    return flat.masked_fill(flat <= highest, 0).reshape_as(maps)
