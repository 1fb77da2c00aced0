from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import Colors, merge_colors, pool, resize, weighted_sum
from whycam.kit.registry import method


@method(
    "Guided Grad-CAM",
    paper="arXiv:1610.02391",
    side="before",
    caution="it weighs single pixels inside Grad-CAM's region; as a ranking of regions it is worse than a random map "
    "(insertion, docs/benchmarks.md). Read it for detail, beside Grad-CAM.",
)
def guided_grad_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    gradients: Float[Tensor, "batch channel *spatial"],
    guided_gradients: Float[Tensor, "batch color *space"],
    *,
    colors: Colors = "sum",
) -> Float[Tensor, "batch *space"]:
    """Multiply each color of the guided gradient by Grad-CAM resized linearly to the input, and merge the colors.

    The map is zero wherever the resized Grad-CAM is, and elsewhere has the sign and the detail of guided backprop.
    `colors` is as in guided backprop.

    Its detail is guided backprop's and says little about the class; only where it is shown does. Zero everywhere
    when Grad-CAM is, as after the last block of a ViT read through its class token.

    Pixel centers are aligned, not corners. The product has no unit of its own: double the score, and it is fourfold.
    """
    places = resize(weighted_sum(pool(gradients), activations).relu(), guided_gradients.shape[2:])
    return merge_colors(places.unsqueeze(1) * guided_gradients, colors)
