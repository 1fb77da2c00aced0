"""How classes are read from a model's output, and how they are found by their texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from whycam.errors import TargetError


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
                "pass a target of whycam.targets, such as Region(class) or Box(0), or a function such as "
                f"lambda output: output[:, {min(7, output.shape[1] - 1)}].flatten(1).sum(1)."
            )
        if output.shape[1] != 1:
            return output
        return torch.cat([1 - output if self.probability else -output, output], 1)

    def log_probability(self, output: Tensor, index: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Each sample's log-probability of its class: by softmax, or by the sigmoid of a one-unit head."""
        logits = self.logits(output)
        if self.probability:
            return pick(logits, index).clamp(min=torch.finfo(logits.dtype).tiny).log()
        return pick(F.logsigmoid(logits) if is_one_unit(output) else logits.log_softmax(1), index)

    def probability_of(self, output: Tensor, index: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Each sample's probability of its class."""
        return pick(self.logits(output), index) if self.probability else self.log_probability(output, index).exp()


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


def pick(values: Float[Tensor, "batch class"], index: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return values.gather(1, index[:, None]).squeeze(1)


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
