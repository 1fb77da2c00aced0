import itertools
import math
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily, normalize, pool, resize, weighted_sum
from whycam.kit.masks import blur
from whycam.kit.options import Count, PartialShare, Positive
from whycam.kit.quantities import Score, Trace
from whycam.kit.registry import method

#: The size that the input is enlarged to, and the first corner of a window as large as the input.
Window: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]


@method("SESS", paper="arXiv:2207.01769", side="before", moves=True)
def sess(
    inputs: Float[Tensor, "batch color *space"],
    score: Score,
    trace: Trace,
    *,
    steps: Count = 12,
    growth: Positive = 2 / 7,
    drop: PartialShare = 0.0,
    threshold: float = 0.0,
    merge: Literal["mean", "max"] = "mean",
    smooth: bool = True,
    probability: bool = True,
) -> Float[Tensor, "batch *space"]:
    """Enlarge the input step by step, take Grad-CAM of every window of its own size, and average these, weighted.

    At the input's own size, in [0, 1] as long as scores are probabilities: each window's map is scaled to [0, 1],
    multiplied by the window's score over the best window's, and put back in its place. A pixel gets the mean over the
    windows that show something above `threshold` there; a window without positive evidence, or of no score, shows
    nothing. Small objects, and several of one class, come out that a single run misses. A window shows the network
    a part of the context, larger than it is, so a part that looks like the class on its own lights up as well.

    The defaults are those of the authors' code: 12 sizes, each 64 pixels larger at an input of 224, windows side by
    side, the last of each row moved back inside. These are 122 windows, each scored once and traced once. `drop` is
    the share of the windows, those of the lowest scores, that are left out and not traced. `merge="max"` takes the
    largest value of each pixel. The map is smoothed at the end by a Gaussian of deviation 5 cut off at 11 pixels,
    unless `smooth=False`.

    Weights are the class's probability, as in the authors' code, or the target's own score with `probability=False`;
    where no window has a score above 0, the map is 0. Grad-CAM is the base here; the authors' code has others too.
    """
    space = tuple(inputs.shape[2:])
    windows = _windows(space, steps, growth)
    scores = score(lazily(lambda window: _patch(inputs, window), windows), probability=probability).to(inputs)
    best = scores.amax(0)
    weights = (scores / best).masked_fill(best <= 0, 0)
    # each sample has windows of its own; in their own order, so that one sample's sum is added up the same everywhere
    chosen = scores.argsort(dim=0, stable=True)[int(len(windows) * drop) :].sort(0).values

    def patches(row: Tensor) -> Tensor:
        return torch.cat([_patch(inputs[n : n + 1], windows[index]) for n, index in enumerate(row.tolist())])

    added, count = torch.zeros_like(inputs[:, 0]), torch.zeros_like(inputs[:, 0])
    largest = torch.full_like(added, -math.inf)
    for row, run in zip(chosen, trace(lazily(patches, list(chosen))), strict=True):
        maps = resize(weighted_sum(pool(run.gradients), run.activations).relu(), space)
        found = normalize(maps, "minmax") + 0 * maps  # which leaves NaN and infinity to be seen
        found = found * weights.gather(0, row[None])[0].reshape(-1, *[1] * len(space))
        placed = torch.cat([_placed(found[n : n + 1], windows[index]) for n, index in enumerate(row.tolist())])
        largest = torch.maximum(largest, placed)
        shows = ~(placed <= threshold)  # NaN shows
        added += placed.where(shows, placed.new_zeros(()))
        count += shows
    maps = largest if merge == "max" else (added / count).masked_fill(count == 0, 0)
    return blur(maps.unsqueeze(1), deviation=5.0, size=11).squeeze(1) if smooth else maps


def _windows(space: tuple[int, ...], steps: int, growth: float) -> list[Window]:
    made = []
    for step in range(steps):
        size = tuple(round(side * (1 + step * growth)) for side in space)
        # windows side by side; the last one ends where the image does
        corners = [
            [min(number * side, whole - side) for number in range(-(-whole // side))]
            for side, whole in zip(space, size, strict=True)
        ]
        made += [(size, corner) for corner in itertools.product(*corners)]
    return made


def _patch(inputs: Float[Tensor, "batch color *space"], window: Window) -> Float[Tensor, "batch color *space"]:
    """What a window shows of the enlarged inputs."""
    size, corner = window
    patch = resize(inputs.flatten(0, 1), size).reshape(*inputs.shape[:2], *size)
    for axis, (start, side) in enumerate(zip(corner, inputs.shape[2:], strict=True), 2):
        patch = patch.narrow(axis, start, side)
    return patch


def _placed(maps: Float[Tensor, "batch *space"], window: Window) -> Float[Tensor, "batch *space"]:
    """A window's map where it belongs in the input, and 0 around it."""
    size, corner = window
    space = tuple(maps.shape[1:])
    around = [(start, whole - start - side) for whole, start, side in zip(size, corner, space, strict=True)]
    return resize(F.pad(maps, [pixels for pair in reversed(around) for pixels in pair]), space)
