from jaxtyping import Float
from torch import Tensor

from whycam.kit.both_orders import without_most_and_least
from whycam.kit.metric import Answers, Measurement, metric
from whycam.kit.options import Shares
from whycam.kit.removal import Filling


@metric("ROAD", paper="arXiv:2202.00449", better="higher", values=(-0.5, 0.5))
def road(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    answers: Answers,
    *,
    fractions: Shares = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    baseline: Filling = "inpaint",
    seed: int = 0,
) -> Measurement:
    """Half of how much more probability is left without the least relevant pixels than without the most relevant ones,
    over the fractions that are removed (Remove and Debias).

    Removed pixels are imputed from those that are left, with a little noise, so that the shape of what is missing tells
    the network nothing. Exactly `int(fraction * pixels)` pixels go, those of equal value in a random order.

    The paper reports the accuracy, most or least relevant first, as curves over the fractions. `parts` holds the means
    of these, `most_accuracy` and `least_accuracy`: how often the explained class is the top class; and those of the
    probability. `curve` is the probability, most relevant first. The noise, of deviation 0.01, is in units of the
    inputs.

    Peers: pytorch-grad-cam's number is the same difference, of logits unless told, but it selects pixels by a
    percentile, and so removes all of a map that is mostly 0; Quantus processes its first batch alone.
    """
    scores, tops = without_most_and_least(maps, inputs, answers, fractions, baseline, seed)
    (most, least), (most_accuracy, least_accuracy) = scores.mean(1), tops.mean(1)
    return Measurement(
        (least - most) / 2,
        scores[0].mT,
        fractions,
        {
            "most_accuracy": most_accuracy,
            "least_accuracy": least_accuracy,
            "most_probability": most,
            "least_probability": least,
        },
    )
