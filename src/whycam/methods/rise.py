from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.masks import Baseline, RandomMasks
from whycam.kit.options import Count, OpenShare
from whycam.kit.quantities import Score
from whycam.kit.registry import method


@method("RISE", paper="arXiv:1806.07421")
def rise(
    inputs: Float[Tensor, "batch color *space"],
    score: Score,
    *,
    samples: Count = 4000,
    grid: Count | tuple[Count, ...] = 7,
    keep: OpenShare = 0.5,
    divide: Literal["expected", "coverage"] = "expected",
    center: bool = False,
    baseline: Baseline = "zero",
    probability: bool = True,
    seed: int = 0,
) -> Float[Tensor, "batch *space"]:
    """Show the network random parts of the input, and average these masks, each times the score that it left (eq. 6).

    In units of the score, a probability unless `probability=False`: each value estimates the mean score of the masks
    that show this pixel. What speaks for the target is therefore where the map is high, not where it is positive: a
    pixel without influence has the mean score of all masks. `center=True` subtracts that mean from every score first,
    which also takes away the noise of pixels shown more often than others; the map then is signed.

    Every mask is a grid of `grid` cells along each axis (a tuple: so many along each), each shown with probability
    `keep`, stretched linearly by one cell more than the input and cropped at random. Beyond the outermost cells the
    authors' code mirrors them, here they are repeated: a mask's outer half cell may differ, its expected value does
    not. The defaults are the paper's for VGG-16; it takes 8,000 masks for ResNet-50, and the authors' notebook 6,000 of
    8 cells kept with probability 0.1.

    Noisy with few masks, and small when `keep` leaves too little for the class to be seen at all. Objects much smaller
    than a cell do not stand out.

    The sum is divided by `samples * keep` as in the paper; `divide="coverage"` divides each pixel by what all masks
    show of it, as xplique does. Hidden pixels are 0 in what the network is given, hence the data set's mean color in
    normalized inputs, as in the authors' code. Masks depend on the seed and their number alone.
    """
    masks = RandomMasks(inputs, grid, keep, baseline, seed)
    scores = score(masks.shown(range(samples)), probability=probability).to(inputs)
    if center:
        scores = scores - scores.mean(0)
    maps = torch.zeros_like(inputs[:, 0])
    coverage = torch.zeros_like(inputs[0, 0])
    for number in range(samples):
        shows = masks[number]
        maps += scores[number].reshape(-1, *[1] * shows.ndim) * shows
        coverage += shows
    if divide == "expected":
        return maps / (samples * keep)
    return (maps / coverage).where(coverage > 0, maps)
