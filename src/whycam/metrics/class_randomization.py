from typing import Literal

from jaxtyping import Float
from torch import Tensor

from whycam.kit.likeness import likeness
from whycam.kit.metric import AnotherClass, ExplainClass, Measurement, metric


@metric("Class randomization", paper="arXiv:1912.09818", better="lower", values=(-1, 1))
def class_randomization(
    maps: Float[Tensor, "batch *space"],
    explain_class: ExplainClass,
    another_class: AnotherClass,
    *,
    other: Literal["random", "likeliest"] = "random",
    ssim: bool = False,
    seed: int = 0,
) -> Measurement:
    """How much of the map is there for another class as well: Spearman's correlation of the two (Sixt et al., section
    5, "random logit").

    Near 1, the map does not say why it is this class and no other, as those of methods without a class never do. The
    other class is drawn by the seed, or is the likeliest beside the explained one, which may well rest on the same
    evidence. `parts` are the correlation of magnitudes and, if asked for, SSIM, which the paper reports.

    A flat map for the other class has nothing in common with this, 0. Not defined, NaN, for a map that is flat itself.
    """
    again = explain_class(another_class(seed if other == "random" else None))
    kinds = likeness(maps, again, structure=ssim)
    return Measurement(kinds.pop("spearman"), parts=kinds)
