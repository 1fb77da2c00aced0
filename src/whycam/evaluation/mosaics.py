"""Mosaics of photos of different classes, in which it is known where the evidence for each can lie."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whycam.errors import InputError
from whycam.kit.arrays import generator
from whycam.kit.words import plural


@dataclass(frozen=True)
class Mosaics:
    """Pictures of `side` x `side` cells, each a photo of a class of its own; cells are counted row by row.

    Attributes:
        photos: which photo stands in each cell. `classes`: what it is classified as.
    """

    inputs: Float[Tensor, "mosaic color height width"]
    photos: Int[Tensor, "mosaic cell"]
    classes: Int[Tensor, "mosaic cell"]
    side: int

    def __len__(self) -> int:
        return len(self.inputs)

    def mask(self, cell: int) -> Bool[Tensor, "mosaic height width"]:
        """Where that cell is, in each mosaic."""
        made = torch.zeros(len(self), *self.inputs.shape[2:], dtype=torch.bool)
        rows, columns = _place(cell, self.side, self.inputs.shape[2:])
        made[:, rows, columns] = True
        return made


def mosaics(
    inputs: Float[Tensor, "photo color height width"],
    classes: Int[Tensor, " photo"],
    probabilities: Float[Tensor, " photo"],
    *,
    side: int = 2,
    confidence: float = 0.5,
    labels: Sequence[int] | None = None,
    number: int | None = None,
    shrink: bool = False,
    seed: int = 0,
) -> Mosaics:
    """Mosaics of photos that a network is sure of, no class twice in one (Boehle et al., arXiv:2104.00032).

    Args:
        inputs: photos as the network takes them. `classes`, `probabilities`: its top class, and how sure it is.
        confidence: the least probability of a photo that is used; the authors' code has 0.5 too.
        labels: what the photos are, where it is known; then only those that are classified as such are used.
        number: how many; photos are used again where they do not suffice. As many as there can be without that, unless
            said.
        shrink: make cells smaller, so that a mosaic has the size of a photo, for networks that take no other. The
            authors' mosaics grow.

    Raises:
        InputError: the photos that can be used are of too few classes for a single mosaic.
    """
    usable = probabilities >= confidence
    if labels is not None:
        usable &= classes == torch.as_tensor(labels, device=classes.device)
    chosen, of_class = _draw(usable.nonzero().flatten().tolist(), classes.tolist(), side**2, number, seed)
    if not chosen:
        right = " and right about" if labels is not None else ""
        raise InputError(
            f"a mosaic of {side} x {side} takes photos of {side**2} classes that the network is sure of (probability "
            f"{confidence:g} or more){right}; there are {of_class}, in {int(usable.sum())} of "
            f"{plural(len(inputs), 'photo')}. Pass photos of more classes, or a lower confidence."
        )
    photos = torch.tensor(chosen, device=classes.device)
    space = [length if shrink else side * length for length in inputs.shape[2:]]
    made = inputs.new_empty(len(photos), inputs.shape[1], *space)
    for cell in range(side**2):
        rows, columns = _place(cell, side, space)
        size = rows.stop - rows.start, columns.stop - columns.start
        shown = inputs[photos[:, cell].to(inputs.device)]
        small = size != tuple(shown.shape[2:])
        made[..., rows, columns] = F.interpolate(shown, size, mode="bilinear", antialias=True) if small else shown
    return Mosaics(made, photos, classes[photos], side)


def _draw(
    usable: Sequence[int], classes: Sequence[int], cells: int, number: int | None, seed: int
) -> tuple[list[list[int]], int]:
    """The photos of each mosaic, and of how many classes there are some.

    Each is of the classes with most photos left, so that there are as many mosaics as can be.
    """
    draw = generator(seed)
    left: dict[int, list[int]] = defaultdict(list)

    def fill() -> None:
        for place in torch.randperm(len(usable), generator=draw).tolist():
            left[classes[usable[place]]].append(usable[place])

    fill()
    chosen: list[list[int]] = []
    count = len(left)
    while count >= cells and (number is None or len(chosen) < number):
        if sum(map(bool, left.values())) < cells:
            if number is None:
                break
            fill()
        order = [list(left)[place] for place in torch.randperm(count, generator=draw).tolist()]
        most = sorted(order, key=lambda each: -len(left[each]))[:cells]
        chosen.append([left[most[place]].pop() for place in torch.randperm(cells, generator=draw).tolist()])
    return chosen, count


def _place(cell: int, side: int, space: Sequence[int]) -> tuple[slice, slice]:
    """Its rows and columns."""
    at = divmod(cell, side)
    rows, columns = (
        slice(here * length // side, (here + 1) * length // side) for here, length in zip(at, space, strict=True)
    )
    return rows, columns
