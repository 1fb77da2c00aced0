"""Targets read from class scores: one class, its probability, its contrast with others, several classes."""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whycam.errors import TargetError
from whycam.targets.reading import ClassReading, class_index, fitting, name_of, pick, reading_of
from whycam.targets.resolved import ResolvedTarget, Score

#: One class: an index, a label text, or `None` for the top class.
Class: TypeAlias = int | str | None
#: One class for the whole batch, or one for each sample.
Classes: TypeAlias = Class | Sequence[Class]
#: What a sample's top class is called where the output is not finite.
NOTHING = "no class (the output is not finite)"


@dataclass(frozen=True)
class Target(ABC):
    """A score read from a vector of class logits. The class is an index, a label text, or `None` for the top one.

    Attributes:
        bounded: whether the score saturates at 1.
        side: whether the score speaks for the class alone, or against it alone. Methods that read a probability take
            the class's own then, or one less that; other targets they refuse.
    """

    bounded: ClassVar[bool] = False
    side: ClassVar[Literal["for", "against"] | None] = None
    of: Classes = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", _classes(self.of))

    def resolve(
        self, output: Tensor, labels: Sequence[str] | None = None, *, probability: bool = False
    ) -> ResolvedTarget:
        """Settle the classes for a batch's output, shape `(batch, class)`; one-unit heads are two classes."""
        classes = reading_of(output, probability=probability)
        logits = classes.logits(output)
        labels = fitting(labels, logits.shape[1])
        index = _indices(self.of, logits, labels)
        asked = self.of if isinstance(self.of, tuple) else (self.of,) * logits.shape[0]
        top = None in asked
        known = logits.detach().isfinite().all(1).tolist() if top else [True] * len(asked)
        texts = tuple(
            [
                self.describe(name_of(i, labels) if finite or name is not None else NOTHING)
                for i, finite, name in zip(index.tolist(), known, asked, strict=True)
            ]
        )
        return ResolvedTarget(
            self.over(classes, logits.detach(), index),
            texts,
            index,
            self.bounded or classes.probability,
            by_output=top,
            probability=_probability(self.side, classes, index),
        )

    @abstractmethod
    def over(self, classes: ClassReading, logits: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Score:
        """The score as a function of the output, given this batch's logits and each sample's class."""

    @abstractmethod
    def describe(self, name: str) -> str:
        """The target in words, given the class's name."""


@final
@dataclass(frozen=True)
class ClassScore(Target):
    """The class's logit, y_c: what Grad-CAM and its family explain unless told otherwise.

    Examples:
        >>> whycam.explain(net, batch, target=whycam.targets.ClassScore(1)).target
        ('class 1', 'class 1')
    """

    side = "for"

    def over(self, classes: ClassReading, logits: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Score:
        """y_c."""
        return lambda output: pick(classes.logits(output), index)

    def describe(self, name: str) -> str:
        """The class's name."""
        return name


@final
@dataclass(frozen=True)
class Probability(Target):
    """The class's probability after softmax (sigmoid for a one-unit head). Its gradient vanishes near 1.

    Examples:
        >>> float(whycam.explain(net, batch, target=whycam.targets.Probability(1)).scores[0]) < 1
        True
    """

    bounded = True
    side = "for"

    def over(self, classes: ClassReading, logits: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Score:
        """softmax(y)_c."""
        return lambda output: classes.probability_of(output, index)

    def describe(self, name: str) -> str:
        """`probability of NAME`."""
        return f"probability of {name}"


@final
@dataclass(frozen=True)
class LogProbability(Target):
    """The class's log-probability: its contrast with all other classes, weighted by their probabilities.

    Examples:
        >>> float(whycam.explain(net, batch, target=whycam.targets.LogProbability(1)).scores[0]) < 0
        True
    """

    side = "for"

    def over(self, classes: ClassReading, logits: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Score:
        """log softmax(y)_c."""
        return lambda output: classes.log_probability(output, index)

    def describe(self, name: str) -> str:
        """`log-probability of NAME`."""
        return f"log-probability of {name}"


@final
@dataclass(frozen=True)
class ReST(Target):
    """Logit plus log-probability, y_c + log p_c (Cai, arXiv:2501.06261).

    Examples:
        >>> whycam.explain(net, batch, target=whycam.targets.ReST(1)).target[0]
        'logit + log-probability of class 1'
    """

    side = "for"

    def over(self, classes: ClassReading, logits: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Score:
        """y_c + log softmax(y)_c."""
        return lambda output: pick(classes.logits(output), index) + classes.log_probability(output, index)

    def describe(self, name: str) -> str:
        """`logit + log-probability of NAME`."""
        return f"logit + log-probability of {name}"


@final
@dataclass(frozen=True)
class Counterfactual(Target):
    """Minus the class's logit: what speaks against the class (Grad-CAM, arXiv:1610.02391, counterfactual maps).

    Examples:
        >>> whycam.explain(net, batch, target=whycam.targets.Counterfactual(1)).target[0]
        'against class 1'
    """

    side = "against"

    def over(self, classes: ClassReading, logits: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Score:
        """-y_c."""
        return lambda output: -pick(classes.logits(output), index)

    def describe(self, name: str) -> str:
        """`against NAME`."""
        return f"against {name}"


@final
@dataclass(frozen=True)
class Contrast(Target):
    """The class's logit less `strength` times the mean logit of other classes: what tells it from them.

    `against` names those classes. Without it they are the `rivals` classes whose logits lie nearest to the class's own:
    Finer-CAM (Zhang et al., CVPR 2025, arXiv:2501.11309). The class itself is never among its rivals, and no gradient
    flows through the choice of rivals.

    The mean is plain by default, with strength 0.6 for the nearest rivals, as in the authors' code when the paper
    appeared, and 1 for named ones. `weights="probability"` is the authors' code of today: each rival counts by its
    probability, through which gradients flow, with strength 1. The default is plain so that the score is linear in
    the logits: a rival speaks as much when the network is sure as when it is not.

    Examples:
        >>> whycam.explain(net, batch, target=whycam.targets.Contrast(1, against=0)).target[0]
        'class 1 rather than class 0'
    """

    against: int | str | Sequence[int | str] | None = None
    rivals: int = 3
    strength: float | None = None
    weights: Literal["equal", "probability"] = "equal"
    _labels: tuple[str, ...] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "against", _classes(self.against))
        if isinstance(self.rivals, bool) or not isinstance(self.rivals, int) or self.rivals < 1:
            raise TargetError(f"rivals is a number of classes, 1 or more, not {self.rivals!r}.")
        if self.strength is not None and not _is_number(self.strength, at_least=0):
            raise TargetError(f"strength is a finite number, 0 or more, not {self.strength!r}.")
        if self.weights not in ("equal", "probability"):
            raise TargetError(f"weights is 'equal' or 'probability', not {self.weights!r}.")
        named = self._named()
        if not named and self.against is not None:
            raise TargetError("against is empty; name at least one class, or leave it out for the nearest rivals.")
        if None in named or len(set(named)) < len(named):
            raise TargetError(f"against names other classes, each once, not {self.against!r}.")

    def _named(self) -> tuple[Any, ...]:
        return self.against if isinstance(self.against, tuple) else () if self.against is None else (self.against,)

    def resolve(
        self, output: Tensor, labels: Sequence[str] | None = None, *, probability: bool = False
    ) -> ResolvedTarget:
        """Settle the class and its rivals."""
        known = tuple(labels) if labels is not None else None
        return Target.resolve(replace(self, _labels=known), output, labels, probability=probability)

    def over(self, classes: ClassReading, logits: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Score:
        """y_c - strength * mean of the rivals' y."""
        rivals = self._rivals(logits, index)
        plain = self.weights == "equal"
        strength = self.strength if self.strength is not None else 0.6 if plain and self.against is None else 1.0

        def score(output: Tensor) -> Tensor:
            values = classes.logits(output)
            others = values.gather(1, rivals)
            if plain:
                return pick(values, index) - strength * others.mean(1)
            # probabilities over their sum: a softmax over the rivals alone
            logs = others.clamp(min=torch.finfo(others.dtype).tiny).log() if classes.probability else others
            return pick(values, index) - strength * (logs.softmax(1) * others).sum(1)

        return score

    def _rivals(self, logits: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Int[Tensor, "batch rival"]:
        classes = logits.shape[1]
        if self.against is None:
            if self.rivals >= classes:
                raise TargetError(
                    f"rivals must lie between 1 and {classes - 1} for {classes} classes, not {self.rivals}."
                )
            distance = (logits - pick(logits, index)[:, None]).abs()
            distance = distance.scatter(1, index[:, None], torch.inf)
            return distance.topk(self.rivals, largest=False).indices
        found = [class_index(each, classes, self._labels) for each in self._named()]
        if both := sorted(set(found) & set(index.tolist())):
            raise TargetError(f"class {both[0]} cannot be contrasted with itself; take it out of against=.")
        return torch.tensor(found, device=logits.device).expand(len(logits), -1)

    def describe(self, name: str) -> str:
        """`NAME rather than ...`."""
        others = [name_of(each, self._labels) if isinstance(each, int) else each for each in self._named()]
        against = ", ".join(others) or f"its {self.rivals} nearest rivals"
        return f"{name} rather than {against}{' by probability' if self.weights == 'probability' else ''}"


@final
@dataclass(frozen=True)
class MultiLabel:
    """The sum of several classes' logits, for heads where classes do not exclude each other.

    `classes` are indices or label texts; `None` is every class whose sigmoid exceeds `threshold` in that sample, and
    the top class alone where none does (the text says so).

    Examples:
        >>> whycam.explain(net, batch, target=whycam.targets.MultiLabel([0, 1])).target[0]
        'class 0 + class 1'
    """

    classes: Sequence[int | str] | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", _classes(self.classes))
        if not _is_number(self.threshold, at_least=0) or self.threshold > 1:
            raise TargetError(f"threshold is a probability between 0 and 1, not {self.threshold!r}.")

    def resolve(
        self, output: Tensor, labels: Sequence[str] | None = None, *, probability: bool = False
    ) -> ResolvedTarget:
        """Settle the classes for a batch's output, shape `(batch, class)`."""
        reading = reading_of(output, probability=probability)
        logits = reading.logits(output)
        labels = fitting(labels, logits.shape[1])
        if self.classes is not None:
            found = [class_index(each, logits.shape[1], labels) for each in self.classes]
            if not found:
                raise TargetError("MultiLabel needs at least one class.")
            chosen = torch.zeros_like(logits, dtype=torch.bool)
            chosen[:, found] = True
            texts = (" + ".join(name_of(i, labels) for i in found),) * len(logits)
        else:
            chosen = (logits.detach() if reading.probability else logits.detach().sigmoid()) > self.threshold
            none = ~chosen.any(1)
            chosen = chosen | (none[:, None] & (logits == logits.amax(1, keepdim=True)))
            texts = tuple(
                " + ".join(name_of(int(i), labels) for i in row.nonzero().flatten())
                + (f" (top class; none above {self.threshold:g})" if alone else "")
                for row, alone in zip(chosen, none.tolist(), strict=True)
            )
        return ResolvedTarget(
            lambda output: (reading.logits(output) * chosen).sum(1), texts, by_output=self.classes is None
        )


def _indices(of: Classes, logits: Float[Tensor, "batch class"], labels: Sequence[str] | None) -> Int[Tensor, " batch"]:
    samples, classes = logits.shape
    wanted = of if isinstance(of, tuple) else (of,) * samples
    if len(wanted) != samples:
        raise TargetError(f"{len(wanted)} targets came for {samples} samples; pass one target, or one for each sample.")
    top = logits.detach().argmax(1).tolist() if None in wanted else wanted
    found = [
        best if name is None else class_index(name, classes, labels) for name, best in zip(wanted, top, strict=True)
    ]
    return torch.tensor(found, device=logits.device)


def _probability(
    side: Literal["for", "against"] | None, classes: ClassReading, index: Int[Tensor, " batch"]
) -> Score | None:
    if side is None:
        return None
    if side == "for":
        return lambda output: classes.probability_of(output, index)
    return lambda output: 1 - classes.probability_of(output, index)


def is_index(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _is_number(value: object, *, at_least: float) -> bool:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return known and math.isfinite(value) and value >= at_least  # type: ignore[arg-type, operator]


def _classes(value: Any) -> Any:
    """One class, or a tuple of them, from whatever sequence, array or tensor they came in."""
    if type(value) is int:  # first, since it is what most are
        return value
    if isinstance(value, Tensor) or type(value).__module__ == "numpy":
        value = value.tolist()
    return (
        tuple(map(as_class, value)) if isinstance(value, Iterable) and not isinstance(value, str) else as_class(value)
    )


def as_class(value: Any) -> Class:
    if value is None or isinstance(value, str):
        return value
    if not is_index(value):
        raise TargetError(f"a class is an index or a label text, not {value}.")
    return operator.index(value)
