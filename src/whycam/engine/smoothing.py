"""Augmentations over which a map can be averaged: changes of the input that a class outlives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import OptionError
from whycam.kit.options import Count, check

#: pytorch-grad-cam's `aug_smooth`.
_STRENGTHS = (0.9, 1.0, 1.1)


@dataclass(frozen=True)
class Augmentation:
    """One change of the inputs, and how a map of what came of it is brought back.

    Attributes:
        name: in words.
        transform: of a batch, `(batch, color, *space)`, which keeps its shape.
        inverse: of maps made from the changed batch, `(batch, *spatial)` or `(batch, part, *spatial)`, of any size.

    Examples:
        >>> mirror = whycam.Augmentation("mirrored", lambda x: x.flip(-1), lambda maps: maps.flip(-1))
        >>> whycam.explain(net, batch, smoothing=mirror, layer="0").cost.forwards
        2
    """

    name: str
    transform: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]


#: How maps are smoothed, whatever the method: over augmentations, by the channels' first principal component, or both.
SmoothingLike: TypeAlias = Literal["augmentations", "component"] | Augmentation


@dataclass(frozen=True)
class Smoothing:
    """How maps are smoothed: one's own augmentations, the usual ones, the principal component, points of a path."""

    own: tuple[Augmentation, ...] = ()
    usual: bool = False
    component: bool = False
    path: int = 0

    @classmethod
    def of(cls, asked: Any, path: int | None = None) -> "Smoothing":
        """What a caller asked for; `path`: how many points of a straight path to the inputs maps are averaged over.

        Raises:
            OptionError: a way of smoothing that does not exist, or a path of no points.
        """
        if path is not None:
            check("explain", {"path": Count}, {"path": path})
        several = [] if asked is None else list(asked) if isinstance(asked, (list, tuple)) else [asked]
        own = tuple(each for each in several if isinstance(each, Augmentation))
        for each in several:
            if each not in ("augmentations", "component") and not isinstance(each, Augmentation):
                raise OptionError(
                    "smoothing is 'augmentations', 'component', a whycam.Augmentation, or a list of these, or left "
                    f"out; not {each!r}."
                )
        return cls(own, "augmentations" in several, "component" in several, path or 0)

    def augmentations(self, space: Sequence[int]) -> list[Augmentation]:
        """The augmentations, for inputs of which those axes are space."""
        steps = range(1, self.path)  # the last point is the input itself
        points = [Augmentation(f"{k}/{self.path}", partial(_toward, space, k / self.path), _same) for k in steps]
        return [*(augmentations(len(space)) if self.usual else ()), *self.own, *points]


def augmentations(axes: int = 2) -> list[Augmentation]:
    """Those of pytorch-grad-cam's `aug_smooth`: mirrored or not, each at 0.9, 1 and 1.1 times the strength.

    What the network is given is multiplied, as there: of normalized inputs that changes their contrast with the data
    set's mean color, not their brightness.
    Left and right are the two ends of the last axis. Signals of one axis are not mirrored: one that runs backwards is
    another signal.

    The smoothed map is the mean over all of `inverse(map of transform(inputs))`, the target staying what it was
    for the inputs themselves.
    """
    mirrors = [("", _same, _same)] + [("mirrored, ", _mirrored, _mirrored)] * (axes > 1)
    return [
        Augmentation(f"{name}times {strength:g}", partial(_scaled, there, strength), back)
        for name, there, back in mirrors
        for strength in _STRENGTHS
    ]


def _scaled(
    turn: Callable[[Tensor], Tensor], strength: float, inputs: Float[Tensor, "batch color *space"]
) -> Float[Tensor, "batch color *space"]:
    return turn(inputs) * strength


def _toward(space: Sequence[int], way: float, inputs: Float[Tensor, "batch *axes"]) -> Float[Tensor, "batch *axes"]:
    """So far on the way from a blank picture to the inputs: each sample's own mean color, which a network knows.

    From 0, which is black where nothing is normalized, most of the way may lead through pictures such as it never saw,
    whose gradients say nothing: on the toy of docs/benchmarks.md that cost 0.2 of the peaks.
    """
    blank = inputs.mean(tuple(space), keepdim=True)
    return blank + (inputs - blank) * way


def _same(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return values


def _mirrored(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return torch.flip(values, [-1])
