"""Augmentations over which a map can be averaged: changes of the input that a class outlives."""

from collections.abc import Callable
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
    """How maps are smoothed: the caller's own augmentations, the usual ones, the principal component."""

    own: tuple[Augmentation, ...] = ()
    usual: bool = False
    component: bool = False

    @classmethod
    def of(cls, asked: Any, path: int | None = None) -> "Smoothing":
        """What a caller asked for; `path`: the points of the straight path that maps are averaged along.

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
        steps = range(1, path or 0)  # the last point is the input itself
        own += tuple(Augmentation(f"{k}/{path}", partial(_scaled, _same, k / steps.stop), _same) for k in steps)
        return cls(own, "augmentations" in several, "component" in several)

    def augmentations(self, axes: int) -> list[Augmentation]:
        """The augmentations, for inputs with that many spatial axes."""
        return [*(augmentations(axes) if self.usual else ()), *self.own]


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


def _same(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return values


def _mirrored(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return torch.flip(values, [-1])
