from jaxtyping import Float
from torch import Tensor

from whycam.kit.masks import Baseline, through_channels, varying, weigh_channels
from whycam.kit.quantities import Result, Score
from whycam.kit.registry import method


@method("Score-CAM", paper="arXiv:1910.01279")
def score_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    inputs: Float[Tensor, "batch color *space"],
    score: Score,
    *,
    probability: bool = False,
    baseline: Baseline = "zero",
) -> Result:
    """Sum the channels, each weighted by the softmax over channels of the score of the input shown through it.

    A channel is resized to the input and then scaled to [0, 1] to be its mask; what it hides is replaced by the
    `baseline`, which in inputs that were normalized is the data set's mean color and not black (0, as in every
    implementation). One run per channel that is not flat; flat ones have no part in the softmax. The positive part of
    the sum is kept. In units of the activations: the weights add up to 1.

    The paper's Algorithm 1 and the authors' code are two methods. The algorithm is the default; it takes a softmax
    over channels of the target's own score (less the baseline's, which cancels). With `probability=True` the class's
    probability is itself the weight, as in the authors' code, and no softmax over channels is taken.

    The softmax makes the map depend on the scale of the scores. Of large logits a few channels decide
    (`effective_channels` says how many); of small ones all weigh the same, the map is the channels' mean whatever the
    target, and the status says "uniform weights". The probability has neither fault, but shows nothing of a class that
    no single channel makes likely.

    The authors resize before they add up and take the positive part; where no channel is negative that is the same map.
    """
    maps = varying(activations)
    gains = score(through_channels(inputs, maps, baseline), probability=probability)
    return weigh_channels(maps, gains, softmax=not probability)
