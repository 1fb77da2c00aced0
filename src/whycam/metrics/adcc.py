from jaxtyping import Float
from torch import Tensor

from whycam.kit.coherency import ToUnit, coherency, complexity, harmonic_mean
from whycam.kit.masked import share_lost
from whycam.kit.masks import Baseline
from whycam.kit.metric import Explain, Measurement, Scores, metric


@metric("ADCC", paper="arXiv:2104.10252", better="higher", values=(0, 1))
def adcc(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    scores: Float[Tensor, " batch"],
    score: Scores,
    explain: Explain,
    *,
    normalize: ToUnit = "max",
    baseline: Baseline = "zero",
) -> Measurement:
    """Average drop, coherency and complexity in one number, so that no map wins by being bright everywhere (Poppi et
    al., section 3.2): the harmonic mean `3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))`.

    Coherency is the correlation of the map with the map of the picture shown through it, from 0 to 1; complexity the
    map's mean once it is scaled to [0, 1]; the drop that of `average_drop`, as a share. They are in `parts`. A map that
    fails in one of them entirely has 0.

    Coherency is 0 where it cannot be computed, as in the authors' code for maps of NaN; there, a flat map makes the
    whole NaN. Not defined, NaN, where the score is not above 0.
    """
    drop = share_lost(maps, inputs, scores, score, normalize, baseline)
    coherent, wide = coherency(maps, inputs, explain, normalize, baseline), complexity(maps, normalize)
    parts = {"coherency": coherent, "complexity": wide, "average_drop": drop}
    return Measurement(harmonic_mean(coherent, 1 - wide, 1 - drop), parts=parts)
