"""What stands in a picture where pixels are removed from it."""

from typing import Literal, TypeAlias

from jaxtyping import Bool, Float
from torch import Tensor

from whycam.kit.imputation import impute
from whycam.kit.masks import blur, stand_in

#: 0 (the data set's mean color, in inputs that were normalized), a black pixel, the picture blurred as in RISE, its own
#: mean color, ROAD's noisy linear imputation, a number, or an input of one's own.
Filling: TypeAlias = Literal["zero", "black", "blur", "mean", "inpaint"] | float | Tensor


class Removal:
    """The inputs without some of their pixels.

    Args:
        baseline: what stands in their place. `seed`: of the noise that `"inpaint"` adds.

    Raises:
        OptionError: none of these.
    """

    def __init__(self, inputs: Float[Tensor, "batch color *space"], baseline: Filling, *, seed: int = 0) -> None:
        self.inputs, self.seed = inputs, seed
        self.behind = _behind(inputs, baseline)

    def without(self, removed: Bool[Tensor, "batch *space"]) -> Float[Tensor, "batch color *space"]:
        """The inputs, with what stands in their place where a pixel is removed."""
        if self.behind is None:
            return impute(self.inputs, removed, seed=self.seed)
        return self.behind.where(removed.unsqueeze(1), self.inputs)


def _behind(
    inputs: Float[Tensor, "batch color *space"], baseline: Filling
) -> Float[Tensor, "batch color *space"] | None:
    """What stands in place of any pixel; `None` where that depends on the others that are removed."""
    if isinstance(baseline, str):
        if baseline == "blur":
            return blur(inputs, deviation=5.0, size=11)
        if baseline == "mean":
            means = inputs.flatten(2).mean(2)
            return means.reshape(*means.shape, *[1] * (inputs.ndim - 2)).expand_as(inputs)
        if baseline == "inpaint":
            return None
    return stand_in(inputs, baseline)
