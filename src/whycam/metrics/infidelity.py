import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import generator, lazily, noise
from whycam.kit.metric import Scores, metric
from whycam.kit.options import Count, Positive


@metric("Infidelity", paper="arXiv:1901.09392", better="lower", values=(0, math.inf), domain="score")
def infidelity(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    scores: Float[Tensor, " batch"],
    score: Scores,
    *,
    perturbation: Literal["noise", "baseline", "square"] = "noise",
    deviation: Positive = 0.2,
    samples: Count = 100,
    scaled: bool = False,
    seed: int = 0,
) -> Float[Tensor, " batch"]:
    """By how much the map mistakes what changes of the picture do to the score: the mean of
    `(I . map - (f(x) - f(x - I)))^2` over random changes `I` (Yeh and others, definition 2.1).

    - `"noise"`: `I` is normal noise of that `deviation`, in units of the inputs; gradients are right for it.
    - `"baseline"`: what is left is such noise alone, the paper's noisy baseline.
    - `"square"`: a square of random side and place is set to 0. The map is taken to say what each pixel adds, as the
      authors take explanations of this kind: its sum over the square stands for `I . map`. This is the one that class
      activation maps are made for.

    The map has one number for each pixel, which all colors share. The default is the paper's formula, in squared units
    of the score, which asks for the map's scale too; `scaled=True` first multiplies each map by the number that serves
    it best, as the authors' code does, and so compares maps of any units.

    Peers: Quantus adds each square to those before; captum scales where `normalize=True`.
    """

    def change(number: int) -> tuple[Tensor, Tensor]:
        """The change of the inputs, `(batch or 1, color, *space)`, and by what the map is multiplied for it."""
        if perturbation == "square":
            square = _square(tuple(maps.shape[1:]), seed, number).to(inputs)
            return inputs * square, square[None]
        drawn = deviation * noise(inputs.shape[1:], seed, number).to(inputs)[None]
        step = drawn if perturbation == "noise" else inputs - drawn
        return step, step.sum(1)

    over = [("changed", perturbation, deviation, number, seed) for number in range(samples)]
    left = score(lazily(lambda key: inputs - change(key[3])[0], over, shared=True))
    drops = scores - left
    said = torch.stack([(change(number)[1] * maps).flatten(1).sum(1) for number in range(samples)])
    if scaled:
        squares = (said * said).sum(0)
        said = said * ((said * drops).sum(0) / squares.where(squares > 0, 1))
    return (said - drops).square().mean(0)


def _square(space: tuple[int, ...], seed: int, number: int) -> Float[Tensor, "*space"]:
    """1 in a square, of at most 10/28 of the shorter side as on the authors' digits, and 0 elsewhere."""
    source = generator(seed, number)
    side = 1 + int(torch.randint(max(1, 10 * min(space) // 28), (1,), generator=source))
    made = torch.zeros(space)
    starts = [int(torch.randint(length - side + 1, (1,), generator=source)) for length in space]
    made[tuple(slice(start, start + side) for start in starts)] = 1
    return made
