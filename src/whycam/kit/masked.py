"""The picture shown through its own map, which several metrics score."""

from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import Normalize, lazily, normalize
from whycam.kit.masks import Baseline, shown, stand_in
from whycam.kit.metric import Scores


def through(
    maps: Float[Tensor, "batch *space"], inputs: Float[Tensor, "batch color *space"], how: Normalize, baseline: Baseline
) -> Float[Tensor, "batch color *space"]:
    """The inputs where the scaled map is 1, the baseline where it is 0, and in between a mixture."""
    return shown(inputs, normalize(maps, how), stand_in(inputs, baseline))


def masked_score(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    score: Scores,
    how: Normalize,
    baseline: Baseline,
) -> Float[Tensor, " batch"]:
    """The score of that, scored once for all metrics that ask for the same."""
    over = [("through", maps, how, baseline)]
    return score(lazily(lambda _: through(maps, inputs, how, baseline), over, shared=True))[0]
