"""Whatever a caller may pass as `target`, settled for a batch's output."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from whycam.errors import TargetError
from whycam.targets.classes import ClassScore, MultiLabel, Target, as_class, is_index
from whycam.targets.resolved import ResolvedTarget, Score

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
    if all(item is None or isinstance(item, str) or is_index(item) for item in each):
        return ClassScore(tuple(map(as_class, each))).resolve(output, labels, probability=probability)
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


def _joined(scores: Sequence[Score | None], output: Tensor) -> Tensor:
    """Each sample's own score."""
    return torch.cat([score(output[i : i + 1]) for i, score in enumerate(scores) if score is not None])
