"""A target settled for one batch: what every kind of target becomes once the network has run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from jaxtyping import Int
from torch import Tensor

from whycam.errors import TargetError
from whycam.kit.status import Status

Score: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Shown:
    """What of one input is explained, to be drawn over it.

    Attributes:
        text: in words.
        box: left, top, right, bottom in pixels of the input, if it is a box; `others` are those beside it.
        mask: `(height, width)` of any size, over the whole input, if it is a region.
        point: x and y in pixels of the input, if it is one.
    """

    text: str = ""
    box: tuple[float, float, float, float] | None = None
    others: tuple[tuple[float, float, float, float], ...] = ()
    mask: Tensor | None = None
    point: tuple[float, float] | None = None


@dataclass(frozen=True)
class ResolvedTarget:
    """A target settled for one batch.

    Attributes:
        score: output -> the score of each sample, shape `(batch,)`.
        texts: what is explained, in words, one for each sample.
        class_index: the class each sample is explained for, where there is one, shape `(batch,)`.
        is_probability: whether the score is bounded by 1, so that its gradient vanishes when the model is sure.
        by_output: whether the output itself chose the classes, which only class scores can do.
        probability: output -> the probability of what is explained, where that is one class or the others of one.
        status: what keeps a sample from being explained (no such box, an empty mask); empty where nothing may.
        shown: what of each input is explained, to be drawn over it; empty for classes.
        key: by which a `Comparison` finds it, where one target stands for several things.
        note: what a reader should know of the score.
        prompts: output -> how like each of several sentences it is, the explained one first; empty for most targets.
        again: the target of the whole output that means the same thing in another pass; `None` for classes.
    """

    score: Score = field(repr=False)
    texts: tuple[str, ...]
    class_index: Int[Tensor, " batch"] | None = None
    is_probability: bool = False
    by_output: bool = False
    probability: Score | None = field(default=None, repr=False)
    status: tuple[Status, ...] = ()
    shown: tuple[Shown, ...] = ()
    key: Any = None
    note: str = ""
    prompts: tuple[Score, ...] = ()
    again: Any = field(default=None, repr=False)

    @property
    def idle(self) -> bool:
        """Whether no sample has anything to explain."""
        return bool(self.status) and not any(each.ok for each in self.status)

    @property
    def placed(self) -> bool:
        """Whether it is tied to a place of the input: a box, a region, a point."""
        return any(found is not None for each in self.shown for found in (each.box, each.mask, each.point))

    def as_probability(self) -> Score:
        """The probability of what is explained.

        Raises:
            WhycamError: that is not one class.
        """
        if self.probability is None:
            raise TargetError(
                f"this method reads the probability of a class, and the target ({self.texts[0]}) is no single "
                "class; pass probability=False, where it has that, to have it read the target's own score, or a class "
                "as target."
            )
        return self.probability

    def __call__(self, output: Tensor) -> Tensor:
        """The score of each sample, checked to be one number each."""
        scores = self.score(output)
        if not isinstance(scores, Tensor) or scores.shape != (len(self.texts),):
            came = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
            raise TargetError(
                f"the target returned {came} for a batch of {len(self.texts)}; "
                f"it must return one score per sample, shape ({len(self.texts)},)."
            )
        return scores
