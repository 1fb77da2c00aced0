from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import Colors, merge_colors
from whycam.kit.registry import method


@method(
    "Guided backprop",
    paper="arXiv:1412.6806",
    caution="it weighs single pixels, edges most; as a ranking of regions it is worse than a random map (insertion, "
    "docs/benchmarks.md). Read it for detail, beside Grad-CAM.",
)
def guided_backprop(
    guided_gradients: Float[Tensor, "batch color *space"],
    *,
    colors: Colors = "sum",
) -> Float[Tensor, "batch *space"]:
    """Merge the colors of the guided gradient of the score with respect to the input.

    In units of the score per unit of the prepared input, at the input's own size. `"sum"` keeps the sign and is the
    effect of brightening all colors alike; `"max"` is the largest magnitude, `"norm"` the Euclidean length.

    It shows edges rather than reasons: the picture hardly changes with the class or with the weights of the upper
    layers. Do not read a class from it; Guided Grad-CAM restricts it to where the class is.

    The authors show the signed gradient in color, which `Explanation.colors` keeps; a map has one value per place.
    """
    return merge_colors(guided_gradients, colors)
