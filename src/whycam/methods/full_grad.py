from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import precise, resize, scaled_sum, total
from whycam.kit.quantities import BiasGradient, Result
from whycam.kit.registry import method
from whycam.kit.status import Status

#: A share of the score (or of what it is made of) that is missing beyond rounding.
_COMPLETE = 0.01


@method("FullGrad", paper="arXiv:1905.00780")
def full_grad(
    inputs: Float[Tensor, "batch color *space"],
    input_gradients: Float[Tensor, "batch color *space"],
    bias_gradients: Sequence[BiasGradient],
    scores: Float[Tensor, " batch"],
    *,
    align_corners: bool = False,
) -> Result:
    """Add up the magnitudes of input times gradient and, for every layer, of bias times gradient, each layer scaled.

    A network of convolutions, ReLUs and normalizations by running statistics is linear where it stands, so its score
    is exactly the sum of `input * gradient` and of `bias * gradient` over all biases. The map adds the magnitudes of
    these terms: those of a layer are scaled together to [0, 1] in each image, over all its channels, and summed over
    the channels, so that a layer counts by how many of its channels come near the strongest. (Scaled one by one, as
    in pytorch-grad-cam, a dead channel would weigh as much as that one.)

    The map has no unit and no sign: what speaks against the target counts like what speaks for it. A layer of one
    location adds the same everywhere.

    `values["completeness_gap"]` is the score less those sums, in units of the score, and the status says when it is
    more than a hundredth of them. Then a part of the score comes from something else: activations that are not
    piecewise linear through 0 (GELU, SiLU, ReLU6), attention, a normalization by the input's own statistics, whose
    implicit biases are left out as in the authors' code, or constants that are added outside of a layer. Biases
    without a place on the image (vectors, tokens, windows) count in the sums and not in the map.

    `align_corners=True` resizes from corner to corner, as the authors' code does; the default is between pixel centers,
    as everywhere here. Theirs also adds 1e-6 to divisors.
    """
    maps = scaled_sum(inputs * input_gradients)
    from_inputs = precise(inputs * input_gradients).flatten(1).sum(1)
    from_biases = torch.zeros_like(from_inputs)
    for each in bias_gradients:
        terms = each.bias.to(each.gradients).reshape(-1, *[1] * (each.gradients.ndim - 2)) * each.gradients
        from_biases += total(precise(terms)).sum(1)
        if terms.ndim == inputs.ndim:
            maps += resize(scaled_sum(terms), inputs.shape[2:], align_corners=align_corners).to(maps)
    gap = precise(scores) - from_inputs - from_biases
    status = [_status(*row) for row in zip(scores.tolist(), from_inputs.tolist(), from_biases.tolist(), strict=True)]
    return Result(maps, values={"completeness_gap": gap.to(scores)}, status=status)


def _status(score: float, from_input: float, from_biases: float) -> Status:
    gap = score - from_input - from_biases
    if not abs(gap) > _COMPLETE * max(abs(score), abs(from_input), abs(from_biases)):
        return Status()
    return Status(
        "incomplete",
        f"input and biases account for {from_input + from_biases:.4g} of a score of {score:.4g}: parts of this network "
        "are not linear between its biases (GELU, SiLU, attention, LayerNorm), and what they add is not in the map.",
    )
