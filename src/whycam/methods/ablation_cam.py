import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily, positive, weighted_sum
from whycam.kit.quantities import Score
from whycam.kit.registry import method


@method("Ablation-CAM", paper="doi:10.1109/WACV45572.2020.9093360", assumes_non_negative=True)
def ablation_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    scores: Float[Tensor, " batch"],
    score_from: Score,
) -> Float[Tensor, "batch *spatial"]:
    """Sum the channels, each weighted by how much the score falls without it, and keep the positive part.

    The weight of channel k is (S - S_k) / |S|, S_k being the score with that channel set to 0; so the map is in units
    of the activations, and its weights are shares of the score. Under global average pooling and one linear layer they
    are CAM's weights times each channel's mean, divided by |S|.

    The paper divides by S. Where S is negative, as a logit may be, that turns every sign round and the channels that
    speak against the target make the map (pytorch-grad-cam does so); dividing by the magnitude is the same wherever the
    paper's formula makes sense. Where S is 0 nothing is divided.

    The ablated value is 0, as in the paper, also where activations go below zero; pytorch-grad-cam then writes a huge
    negative number instead. Zero where no channel's absence lowers the score: channels that can stand in for each other
    get no weight, each alone being dispensable. Runs the part above the layer once for every channel.
    """

    def without(channel: int) -> Tensor:
        ablated = activations.clone()
        ablated[:, channel] = 0
        return ablated

    drops = scores[:, None] - score_from(lazily(without, range(activations.shape[1]))).mT
    sizes = scores.abs()[:, None]
    return positive(weighted_sum(torch.where(sizes > 0, drops / sizes, drops), activations))
