"""How a picture larger than a network takes is cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from whycam.errors import OptionError


@dataclass(frozen=True)
class Tiles:
    """How a picture larger than a network takes is cut.

    Two questions are kept apart. `score="whole"`: one score reads the answer to all of the picture, as a `Region` of a
    segmentation does. What a layer returned and its gradients are put together from tiles, each with a `halo` of its
    neighbors around it, and the methods work on that as if the picture had been given whole; for a fully convolutional
    network the result is the same to rounding. `score="each"`: every tile has a score of its own, as of a classifier
    that is run over a slide. Each tile is explained by itself, overlapping maps are averaged, and the tiles' own scores
    stand beside them (`Explanation.tile_scores`): a hot place in a tile of no score is no evidence.

    Args:
        size: a tile's pixels along every axis, or along each. For one score of the whole its own part, without halo.
        halo: pixels of its neighbors around a tile. `None` measures how far a pixel reaches in the network, and takes
            twice as much; what is rounded up to the network's stride in any case.
        score: see above. `None`: one for the whole where the target is a region, else one for each tile.
        overlap: which share of a tile its neighbor shows as well, where each has its score.

    Examples:
        >>> whycam.Tiles(64).halo is None
        True
    """

    size: int | Sequence[int]
    halo: int | None = None
    score: Literal["whole", "each"] | None = None
    overlap: float = 0.5

    def __post_init__(self) -> None:
        sides = [self.size] if isinstance(self.size, int) else self.size
        if any(isinstance(each, bool) or each < 1 for each in sides) or (self.halo is not None and self.halo < 0):
            raise OptionError(f"tiles have a size of at least a pixel and a halo of none or more, not {self}.")
        if self.score not in (None, "whole", "each") or not 0 <= self.overlap < 1:
            raise OptionError(f"score is 'whole' or 'each', and overlap a share from 0 to below 1, not {self}.")

    def sides(self, space: Sequence[int]) -> list[int]:
        """A tile's pixels along each axis, at most the picture's."""
        sides = [self.size] * len(space) if isinstance(self.size, int) else list(self.size)
        if len(sides) != len(space):
            raise OptionError(f"tiles of {len(sides)} sides came for a picture with {len(space)} axes of space.")
        return [min(side, length) for side, length in zip(sides, space, strict=True)]
