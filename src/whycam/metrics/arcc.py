from jaxtyping import Float
from torch import Tensor

from whycam.kit.both_orders import without_most_and_least
from whycam.kit.coherency import ToUnit, coherency, complexity, harmonic_mean
from whycam.kit.masks import Baseline
from whycam.kit.metric import Answers, Explain, Measurement, metric
from whycam.kit.options import Shares


@metric("ARCC", paper="arXiv:2605.14641", better="higher", values=(0, 1))
def arcc(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    answers: Answers,
    explain: Explain,
    *,
    normalize: ToUnit = "max",
    baseline: Baseline = "zero",
    fractions: Shares = (0.2, 0.4, 0.6, 0.8),
    seed: int = 0,
) -> Measurement:
    """ADCC with ROAD in place of the average drop, which bright maps win: the harmonic mean of coherency, 1 -
    complexity, and how much more probability is left without the least relevant pixels than without the most relevant.

    The last is twice ROAD, which is 0.5 at most, cut off at 0; see `road` for what stands in place of removed pixels,
    and `adcc` for the others and what hides the picture. All are in `parts`, ROAD as it is. The fractions are those of
    the authors' code. A map that fails in one of them entirely has 0.

    Peers: pytorch-grad-cam calls this a geometric mean and computes the harmonic one; by a small number in its
    correlation a flat map is half coherent, and its ROAD removes all of a map that is mostly 0.
    """
    most, least = without_most_and_least(maps, inputs, answers, fractions, "inpaint", seed)[0].mean(1)
    coherent, wide = coherency(maps, inputs, explain, normalize, baseline), complexity(maps, normalize)
    parts = {"coherency": coherent, "complexity": wide, "road": (least - most) / 2}
    return Measurement(harmonic_mean(coherent, 1 - wide, (2 * parts["road"]).clamp(0, 1)), parts=parts)
