"""What is explained: a model's output -> one score per sample.

Ready ones are `ClassScore`, `Probability`, `LogProbability`, `Contrast`, `Counterfactual`, `ReST` and `MultiLabel`. Any
callable from the output to a score per sample, shape `(batch,)`, will do. Each ready one takes a class as index or
label text, a sequence with one for each sample, or `None` for each sample's top class.

A target is *bound* to a batch's output once, when the network has run: top classes, rivals and sides are settled then,
so that scoring an edited input later asks about the same classes.
"""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from whycam.errors import TargetError

#: One class: an index, a label text, or `None` for the top class.
Class: TypeAlias = int | str | None
#: One class for the whole batch, or one for each sample.
Classes: TypeAlias = Class | Sequence[Class]
#: What a sample's top class is called where the output is not finite.
NOTHING = "no class (the output is not finite)"
Score: TypeAlias = Callable[[Tensor], Tensor]


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
    """

    score: Score = field(repr=False)
    texts: tuple[str, ...]
    class_index: Int[Tensor, " batch"] | None = None
    is_probability: bool = False
    by_output: bool = False
    probability: Score | None = field(default=None, repr=False)

    def as_probability(self) -> Score:
        """The probability of what is explained.

        Raises:
            WhycamError: that is not one class.
        """
        if self.probability is None:
            raise TargetError(
                f"this method reads the probability of a class, and the target ({self.texts[0]}) is no single "
                "class; pass probability=False to have it read the target's own score, or a class as target."
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


@dataclass(frozen=True)
class ClassReading:
    """How classes are read from an output, settled once for a batch; `probability`: its numbers are probabilities.

    A head of one unit, `(batch, 1)` or `(batch,)`, has two classes: class 1 is the unit y, class 0 its other side, -y
    for a score and 1 - y for a probability, so that the top class is the predicted side.
    """

    probability: bool = False

    def logits(self, output: Tensor) -> Float[Tensor, "batch class"]:
        """The classes' scores as the model gives them, shape `(batch, class)`.

        Raises:
            WhycamError: the output has other axes.
        """
        samples = output.shape[0]
        if output.ndim != 2 and output.numel() == samples * (output.shape[1] if output.ndim > 1 else 1):
            output = output.reshape(samples, -1)  # axes of one location
        if output.ndim != 2:
            raise TargetError(
                f"the output has shape {tuple(output.shape)}, not (batch, class), so no class can be read from it; "
                f"pass a target, for example lambda output: output[:, {min(7, output.shape[1] - 1)}].flatten(1).sum(1)."
            )
        if output.shape[1] != 1:
            return output
        return torch.cat([1 - output if self.probability else -output, output], 1)

    def log_probability(self, output: Tensor, index: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Each sample's log-probability of its class: by softmax, or by the sigmoid of a one-unit head."""
        logits = self.logits(output)
        if self.probability:
            return _pick(logits, index).clamp(min=torch.finfo(logits.dtype).tiny).log()
        return _pick(F.logsigmoid(logits) if is_one_unit(output) else logits.log_softmax(1), index)

    def probability_of(self, output: Tensor, index: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Each sample's probability of its class."""
        return _pick(self.logits(output), index) if self.probability else self.log_probability(output, index).exp()


@dataclass(frozen=True)
class Target(ABC):
    """A score read from a vector of class logits. The class is an index, a label text, or `None` for the top one."""

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

    @property
    def bounded(self) -> bool:
        """Whether the score saturates at 1."""
        return False

    @property
    def side(self) -> Literal["for", "against"] | None:
        """Whether the score speaks for the class alone, or against it alone.

        Methods that read a probability take the class's own then, or one less that; other targets they refuse.
        """
        return None

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

    @property
    def side(self) -> Literal["for", "against"] | None:
        """For the class."""
        return "for"

    def over(self, classes: ClassReading, logits: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Score:
        """y_c."""
        return lambda output: _pick(classes.logits(output), index)

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

    @property
    def bounded(self) -> bool:
        """True."""
        return True

    @property
    def side(self) -> Literal["for", "against"] | None:
        """For the class."""
        return "for"

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

    @property
    def side(self) -> Literal["for", "against"] | None:
        """For the class."""
        return "for"

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

    @property
    def side(self) -> Literal["for", "against"] | None:
        """For the class."""
        return "for"

    def over(self, classes: ClassReading, logits: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Score:
        """y_c + log softmax(y)_c."""
        return lambda output: _pick(classes.logits(output), index) + classes.log_probability(output, index)

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

    @property
    def side(self) -> Literal["for", "against"] | None:
        """Against the class."""
        return "against"

    def over(self, classes: ClassReading, logits: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Score:
        """-y_c."""
        return lambda output: -_pick(classes.logits(output), index)

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
                return _pick(values, index) - strength * others.mean(1)
            # probabilities over their sum: a softmax over the rivals alone
            logs = others.clamp(min=torch.finfo(others.dtype).tiny).log() if classes.probability else others
            return _pick(values, index) - strength * (logs.softmax(1) * others).sum(1)

        return score

    def _rivals(self, logits: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Int[Tensor, "batch rival"]:
        classes = logits.shape[1]
        if self.against is None:
            if self.rivals >= classes:
                raise TargetError(
                    f"rivals must lie between 1 and {classes - 1} for {classes} classes, not {self.rivals}."
                )
            distance = (logits - _pick(logits, index)[:, None]).abs()
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


TargetSpec: TypeAlias = Any  #: None, class, target object, callable, or a sequence or tensor with one for each sample


def resolve(
    spec: TargetSpec, output: Tensor, labels: Sequence[str] | None = None, *, probability: bool = False
) -> ResolvedTarget:
    """Settle whatever a caller may pass as `target` for a batch's output.

    Args:
        probability: whether the output is known to hold probabilities; a softmax is seen by its values.

    Raises:
        WhycamError: a class out of range, an unknown or ambiguous label (near misses are suggested), a sequence
            whose length is not the batch's, or an output from which no class can be read.
    """
    samples = output.shape[0]
    if isinstance(spec, Tensor) or type(spec).__module__ == "numpy":
        spec = spec.tolist()
    if spec is None or isinstance(spec, (int, str)):
        spec = ClassScore(spec)
    if isinstance(spec, (Target, MultiLabel)):
        return spec.resolve(output, labels, probability=probability)
    if callable(spec):
        name = getattr(spec, "__name__", type(spec).__name__)
        return ResolvedTarget(spec, (name if name != "<lambda>" else "a function of the output",) * samples)
    if not isinstance(spec, Iterable):
        raise TargetError(
            f"a target is a class index, a label text, a target object, a function of the output, or a sequence of "
            f"these, not {type(spec).__name__}."
        )
    each = list(spec)
    if len(each) != samples:
        raise TargetError(f"{len(each)} targets came for {samples} samples; pass one target, or one for each sample.")
    if all(item is None or isinstance(item, str) or _is_index(item) for item in each):
        return ClassScore(tuple(map(_class, each))).resolve(output, labels, probability=probability)
    parts = [resolve(item, output[i : i + 1], labels, probability=probability) for i, item in enumerate(each)]
    indices = [part.class_index for part in parts]
    probabilities = [part.probability for part in parts]
    return ResolvedTarget(
        lambda output: torch.cat([part(output[i : i + 1]) for i, part in enumerate(parts)]),
        tuple(part.texts[0] for part in parts),
        torch.cat([i for i in indices if i is not None]) if all(i is not None for i in indices) else None,
        any(part.is_probability for part in parts),
        any(part.by_output for part in parts),
        None if None in probabilities else lambda output: _joined(probabilities, output),
    )


def key(spec: TargetSpec) -> Any:
    """A hashable form of a target, by which a `Comparison` is keyed."""
    if isinstance(spec, Tensor) or type(spec).__module__ == "numpy":
        spec = spec.tolist()
    return tuple(map(key, spec)) if isinstance(spec, list) else spec


def reading_of(output: Tensor, *, probability: bool = False) -> ClassReading:
    """How classes are read from an output: as probabilities where that is known, or the rows are a softmax's."""
    softmax = (
        output.ndim == 2
        and output.shape[1] > 1
        and bool((output >= 0).all())
        and bool(((output.sum(1) - 1).abs() < 1e-3).all())
    )
    return ClassReading(probability or softmax)


def is_one_unit(output: Tensor) -> bool:
    """Whether a head answers with one number for each sample."""
    return output.numel() == output.shape[0]


def class_index(name: int | str, classes: int, labels: Sequence[str] | None) -> int:
    """The index of a class given as an index or a label text (case does not matter)."""
    if isinstance(name, str):
        return _index_of_label(name, labels)
    if not 0 <= name < classes:
        raise TargetError(f"class {name} is out of range; this model has {classes} classes, 0 to {classes - 1}.")
    return name


class Borrowed(tuple[str, ...]):
    """Labels of a model inside a wrapper, which may answer with something else: they count where the number fits."""

    __slots__ = ()


def fitting(labels: Sequence[str] | None, classes: int) -> Sequence[str] | None:
    """The labels of that many classes, or none.

    Raises:
        WhycamError: there is not one for each.
    """
    if labels is None or len(labels) == classes:
        return labels
    if isinstance(labels, Borrowed):
        return None
    raise TargetError(f"{len(labels)} labels came for a model with {classes} classes; pass one for each, or none.")


def name_of(index: int, labels: Sequence[str] | None) -> str:
    """A class's label text, or `class 281` where there is none."""
    return labels[index] if labels is not None and 0 <= index < len(labels) else f"class {index}"


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


def _pick(values: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return values.gather(1, index[:, None]).squeeze(1)


def _probability(
    side: Literal["for", "against"] | None, classes: ClassReading, index: Int[Tensor, " batch"]
) -> Score | None:
    if side is None:
        return None
    if side == "for":
        return lambda output: classes.probability_of(output, index)
    return lambda output: 1 - classes.probability_of(output, index)


def _joined(scores: Sequence[Score | None], output: Tensor) -> Tensor:
    """Each sample's own score."""
    return torch.cat([score(output[i : i + 1]) for i, score in enumerate(scores) if score is not None])


def _index_of_label(name: str, labels: Sequence[str] | None) -> int:
    if labels is None:
        raise TargetError(
            f"the target is the text {name!r}, but this model comes without labels; pass labels=, or an index."
        )
    wanted = name.strip().casefold()
    # ImageNet has a Cardigan, which is a dog, and a cardigan
    found = [i for i, label in enumerate(labels) if label == name.strip()]
    found = found or [i for i, label in enumerate(labels) if label.casefold() == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise TargetError(
            f"{len(found)} classes are called {name!r}: {', '.join(map(str, found))}; pass one of the indices."
        )
    by_text = {label.casefold(): label for label in labels}
    near = [by_text[text] for text in by_text if wanted in text][:5]
    near = near or [by_text[text] for text in get_close_matches(wanted, by_text, n=3, cutoff=0.6)]
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise TargetError(f"no class is called {name!r}.{hint}")


def _is_index(value: object) -> bool:
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
    return tuple(map(_class, value)) if isinstance(value, Iterable) and not isinstance(value, str) else _class(value)


def _class(value: Any) -> Class:
    if value is None or isinstance(value, str):
        return value
    if not _is_index(value):
        raise TargetError(f"a class is an index or a label text, not {value}.")
    return operator.index(value)
