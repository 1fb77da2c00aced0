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


def share_lost(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    scores: Float[Tensor, " batch"],
    score: Scores,
    how: Normalize,
    baseline: Baseline,
) -> Float[Tensor, " batch"]:
    """Which share of the score is lost there, 0 where it grows; NaN where the score is not above 0."""
    lost = (scores - masked_score(maps, inputs, score, how, baseline)).clamp(min=0)
    return (lost / scores).where(scores > 0, scores.new_tensor(float("nan")))
