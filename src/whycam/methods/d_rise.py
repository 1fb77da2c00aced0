from jaxtyping import Float
from torch import Tensor

from whycam.kit.likeness import is_flat, pearson
from whycam.kit.masks import Baseline, RandomMasks
from whycam.kit.options import Count, OpenShare
from whycam.kit.quantities import Result, Score
from whycam.kit.registry import method
from whycam.kit.status import Status

#: So many masks between two looks at how far the map has settled.
_ROUND = 500


@method("D-RISE", paper="arXiv:2006.03204")
def d_rise(
    inputs: Float[Tensor, "batch color *space"],
    score: Score,
    *,
    samples: Count = 5000,
    grid: Count | tuple[Count, ...] = 16,
    keep: OpenShare = 0.5,
    center: bool = True,
    until: OpenShare | None = 0.9,
    baseline: Baseline = "zero",
    seed: int = 0,
) -> Result:
    """Show a detector random parts of the input, and average these masks by how much of the box was found in each.

    What is found of a box is the largest IoU with a detected box times that one's probability of the same class, from
    0 to 1 (section 3.1; the paper's third factor, objectness, is in that probability, and the cosine of class vectors
    is left out, since it does not tell a sure box from a faint one). No gradient is needed, so any detector will do,
    and for a class or anything else that has a probability this is RISE with its scores centered.

    The same masks serve all boxes: with `targets=[Boxes()]` each is run once, however many boxes there are.

    Masks are RISE's. Each is weighted by its score less the mean of all, which takes away the noise of pixels that are
    shown more often than others; the map then is signed. `center=False` is the paper's plain sum. Values are in units
    of the score, whatever the number of masks.

    `split_half_correlation` is the map's error bar: the correlation of two maps, of the even and of the odd masks.
    After every 500 masks it is looked at. A sample that has reached `until` keeps the map of that moment, so that a
    batch equals its samples; once all have, no more are run. `until=None` runs all `samples`. A map that does not reach
    it has a status that says so. On a toy detector 300 masks of 5 cells with `keep=0.8` reached 0.9, of 9 cells 0.7;
    with the paper's `keep=0.5` hardly any mask left the detector a box.
    """
    masks = RandomMasks(inputs, grid, keep, baseline, seed)
    # of the even and of the odd masks: the sum of score times mask, of masks, and of scores
    weighted = inputs.new_zeros((2, *inputs[:, 0].shape))
    shows = inputs.new_zeros((2, *inputs.shape[2:]))
    scores = inputs.new_zeros((2, len(inputs)))
    maps, likeness, taken = weighted[0].clone(), scores[0].clone(), scores[0].clone()
    done, settled = 0, scores[0] > 0
    while done < samples and not settled.all():
        numbers = range(done, min(done + _ROUND, samples))
        for number, found in zip(numbers, score(masks.shown(numbers), probability=True).to(inputs), strict=True):
            mask, half = masks[number], number % 2
            weighted[half] += found.reshape(-1, *[1] * mask.ndim) * mask
            shows[half] += mask
            scores[half] += found
        done = numbers.stop
        halves = [_map(weighted[k], shows[k], scores[k], (done + 1 - k) // 2, keep, center) for k in range(2)]
        flat = is_flat(halves[0]) | is_flat(halves[1])
        both = _map(weighted.sum(0), shows.sum(0), scores.sum(0), done, keep, center)
        maps = maps.where(settled.reshape(-1, *[1] * mask.ndim), both)
        likeness = likeness.where(settled, pearson(*halves).where(~flat, halves[0].new_zeros(())))
        taken = taken.where(settled, taken.new_tensor(done))
        if until is not None:
            settled |= likeness >= until
    blank = ~weighted.flatten(2).any(2).any(0)
    return Result(
        maps,
        values={"split_half_correlation": likeness, "masks": taken},
        status=[_judged(bool(empty), float(each), done, until) for empty, each in zip(blank, likeness, strict=True)],
    )


def _map(
    weighted: Float[Tensor, "batch *space"],
    shows: Float[Tensor, "*space"],
    scores: Float[Tensor, " batch"],
    count: int,
    keep: float,
    center: bool,
) -> Float[Tensor, "batch *space"]:
    """The weighted mean of masks from their sums; centered, each weight is the score less the mean of all."""
    mean = (scores / max(1, count)).reshape(-1, *[1] * shows.ndim)
    return (weighted - mean * shows if center else weighted) / (max(1, count) * keep)


def _judged(blank: bool, likeness: float, masks: int, until: float | None) -> Status:
    if blank:
        return Status(
            "flat map",
            f"nothing like it was found under any of {masks} masks; show more of the picture with keep=.",
        )
    if until is not None and likeness < until:
        return Status(
            "not converged",
            f"after {masks} masks the map's two halves correlate by {likeness:.2f}, and {until:g} was asked for; take "
            "more samples, or larger cells.",
        )
    return Status()
