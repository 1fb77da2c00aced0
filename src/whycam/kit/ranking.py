"""Pixels in the order of their evidence: exact counts, whatever ties there are."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whycam.kit.arrays import generator


def order(maps: Float[Tensor, "batch *space"], *, seed: int = 0) -> Int[Tensor, "batch pixel"]:
    """The positions of all pixels, the highest value first.

    Most class activation maps are 0 over much of the picture. Pixels of equal value come in one random order that
    depends on the seed and the map's size alone: in the order of memory, ties would be removed from the top left down.
    """
    flat = maps.flatten(1)
    ties = torch.randperm(flat.shape[1], generator=generator(seed)).to(flat.device)
    return ties[flat[:, ties].argsort(dim=1, descending=True, stable=True)]


def ranks(maps: Float[Tensor, "batch *space"], *, seed: int = 0) -> Int[Tensor, "batch *space"]:
    """The place of each pixel in that order, 0 for the highest."""
    positions = order(maps, seed=seed)
    numbers = torch.arange(positions.shape[1], device=positions.device).expand_as(positions)
    return torch.empty_like(positions).scatter_(1, positions, numbers).reshape(maps.shape)


def counts(pixels: int, steps: int) -> list[int]:
    """How many pixels had their turn after each of `steps` steps, 0 before the first and all after the last."""
    return [round(step * pixels / steps) for step in range(steps + 1)]


def area(curve: Float[Tensor, "batch point"], at: list[float]) -> Float[Tensor, " batch"]:
    """The area under a curve by trapezoids, over the width that it spans: a mean height."""
    places = curve.new_tensor(at)
    return torch.trapezoid(curve, places, dim=1) / (places[-1] - places[0])
