import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import positive, weighted_sum
from whycam.kit.registry import method


@method("Random-CAM", paper="pytorch-grad-cam")
def random_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    *,
    seed: int = 0,
) -> Float[Tensor, "batch *spatial"]:
    """Sum the channels with weights drawn evenly from -1 to 1, and keep the positive part.

    A control, in units of the activations: what any weighting of these channels looks like. A method whose scores
    are no better than these has explained nothing of the target.

    One draw is one opinion: the picture, and any metric of it, varies with the seed. Take several.

    The weights depend on the seed and the channel alone, the same for every sample, so a batch equals its samples and
    every device gets the same numbers; torch's own random state is not touched. pytorch-grad-cam draws anew for each
    image and cannot repeat itself.
    """
    draws = torch.rand(activations.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights = (2 * draws - 1).to(activations)
    return positive(weighted_sum(weights.expand(len(activations), -1), activations))
