from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whycam.kit.arrays import generator, lazily, positive, weighted_sum
from whycam.kit.options import Count
from whycam.kit.quantities import Score
from whycam.kit.registry import method

#: What is added to an empty layer one after another: locations with all their channels, or whole channels.
Players = Literal["locations", "channels"]


@method("Shap-CAM", paper="arXiv:2208.03608")
def shap_cam(
    activations: Float[Tensor, "batch channel *spatial"],
    score_from: Score,
    *,
    players: Players = "locations",
    samples: Count = 16,
    seed: int = 0,
) -> Float[Tensor, "batch *spatial"]:
    """Add up what each location adds to the score when locations come to an empty layer in random orders.

    In units of the score: each value is the location's Shapley value, the mean over `samples` orders of the score with
    it and those before it less the score with those before it alone. Whatever the number of orders, the map adds up to
    the score less that of a layer of zeros. Negative values speak against the target. Under global average pooling and
    one linear layer any order gives CAM divided by the number of locations.

    With `players="channels"` the values are those of the channels, and the map is the sum of the channels weighted by
    them, its positive part kept, as Ablation-CAM has it. It needs more runs: a layer has more channels
    than locations, as a rule.

    Only an estimate where the locations act together: the error falls with the square root of `samples`, and faint
    detail is noise of the draw. Every second order is the one before it backwards, which makes the error smaller.
    Orders depend on `seed` alone, the same for every sample.

    The paper, whose code is not public, speaks of the pixels of the layer as players, which are the default here; that
    what is absent is 0 is a choice made here. Runs the part above the layer `samples` times for every player.
    """
    by_location = players == "locations"
    space = activations.shape[2:]
    count = space.numel() if by_location else activations.shape[1]
    orders = [_order(count, seed, draw) for draw in range(samples)]

    def shown(draw: int, size: int) -> Tensor:
        present = _present(orders[draw], size).to(activations.device)
        there = present.reshape(space) if by_location else present.reshape(-1, *[1] * len(space))
        return activations.where(there, activations.new_zeros(()))

    # the empty layer and the full one are the same in every order
    steps = [(0, 0), (0, count)] + [(draw, size) for draw in range(samples) for size in range(1, count)]
    scores = score_from(lazily(lambda step: shown(*step), steps))
    inner = scores[2:].reshape(samples, count - 1, len(activations))
    values = torch.zeros_like(scores[0]).expand(count, -1).clone()
    for order, between in zip(orders, inner, strict=True):
        values[order.to(values.device)] += torch.cat([scores[:1], between, scores[1:2]]).diff(dim=0) / samples
    values = values.mT
    return values.reshape_as(activations[:, 0]) if by_location else positive(weighted_sum(values, activations))


def _order(count: int, seed: int, draw: int) -> Int[Tensor, " player"]:
    """The order of one draw; draws come in pairs, there and back."""
    order = torch.randperm(count, generator=generator(seed, draw // 2))
    return order.flip(0) if draw % 2 else order


def _present(order: Int[Tensor, " player"], size: int) -> Bool[Tensor, " player"]:
    """Whether each player is among the first of an order."""
    present = torch.zeros(len(order), dtype=torch.bool)
    present[order[:size]] = True
    return present
