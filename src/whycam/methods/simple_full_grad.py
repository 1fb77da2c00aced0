from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import resize, scaled_sum
from whycam.kit.quantities import BiasGradient
from whycam.kit.registry import method


@method("Simple FullGrad", paper="arXiv:1905.00780")
def simple_full_grad(
    inputs: Float[Tensor, "batch color *space"],
    input_gradients: Float[Tensor, "batch color *space"],
    bias_gradients: Sequence[BiasGradient],
    *,
    align_corners: bool = False,
) -> Float[Tensor, "batch *space"]:
    """FullGrad without the biases: add up the magnitudes of every layer's gradient, each layer scaled.

    Of the authors' code, which offers it for convenience; it is not in the paper, and nothing is complete about it. The
    input's term is still input times gradient. A layer's magnitudes are scaled together to [0, 1] in each image, over
    all its channels, summed over them, and resized to the input.

    The map has no unit and no sign: what speaks against the target counts like what speaks for it. The layers are
    those that add a bias, as in FullGrad: a convolution without one does not count, the normalization behind it does.
    `align_corners` is as there: the authors' code resizes so, and the default does not.
    """
    maps = scaled_sum(inputs * input_gradients)
    for each in bias_gradients:
        if each.gradients.ndim == inputs.ndim:
            maps += resize(scaled_sum(each.gradients), inputs.shape[2:], align_corners=align_corners).to(maps)
    return maps
