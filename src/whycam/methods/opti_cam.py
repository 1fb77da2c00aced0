import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import resize, weighted_sum
from whycam.kit.masks import Baseline, shown, stand_in, to_unit
from whycam.kit.options import Count, Positive
from whycam.kit.quantities import Differentiate, Result
from whycam.kit.registry import method
from whycam.kit.status import Status


@method("Opti-CAM", paper="arXiv:2301.07002")
def opti_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    inputs: Float[Tensor, "batch color *space"],
    differentiate: Differentiate,
    *,
    steps: Count = 50,
    lr: Positive = 0.1,
    probability: bool = False,
    baseline: Baseline = "black",
) -> Result:
    """Sum the channels with the weights whose map, as a mask on the input, raises the score most, found by Adam.

    The weights are the softmax of one number per channel, all equal at the start, and weigh the positive parts of the
    channels. The mask is that sum resized to the input and then scaled to [0, 1]. Each of the `steps` costs a forward
    and a backward. In units of the activations: the weights add up to 1.

    A map that was made to raise the score is no proof that the network looks there: the mask may as well find a
    picture that the network likes better. Where the score's gradient is zero the weights never move, the map is the
    mean of the channels, and the status says so.

    What the mask hides is black, as in the authors' script, which masks pixels before they are normalized; where the
    model's preprocessing is not known, as for a ready batch, it is 0, the data set's mean color in normalized inputs,
    and the notes say so. Which of the two is asked changes the map more than anything else here.

    Loss (the score of the masked input), rate and number of steps are those of the authors' script; their class
    has an absolute difference to the input's own score as its default, by which a mask that beats the input is drawn
    back. They stop all samples when the batch's loss rises at one of ten checks; here every sample takes all its steps,
    so that a batch equals its samples. The result is the same in every run.
    """
    maps = activations.relu()
    behind = stand_in(inputs, baseline)
    numbers = torch.zeros_like(maps.flatten(2)[..., 0])
    mean, square = torch.zeros_like(numbers), torch.zeros_like(numbers)
    for step in range(1, steps + 1):
        with torch.enable_grad():
            variable = numbers.requires_grad_()
            mask = to_unit(resize(weighted_sum(variable.softmax(1), maps, final=False), inputs.shape[2:]))
            masked = shown(inputs, mask, behind)
        _, slopes = differentiate(masked.detach(), probability=probability)
        (slope,) = torch.autograd.grad(masked, variable, slopes)
        # Adam as published, its epsilon with it: slopes of the size of rounding errors must not become whole steps
        mean = 0.9 * mean + 0.1 * slope
        square = 0.999 * square + 0.001 * slope**2
        pace = (square / (1 - 0.999**step)).sqrt() + 1e-8
        numbers = numbers.detach() + lr * mean / (1 - 0.9**step) / pace
    still = (numbers == 0).all(1)
    return Result(
        weighted_sum(numbers.softmax(1), maps),
        status=[
            Status(
                "zero gradient",
                "the score does not change with the weights, so they never moved; the map is the mean of the channels, "
                "and would be for any target.",
            )
            if unmoved
            else Status()
            for unmoved in still.tolist()
        ],
    )
