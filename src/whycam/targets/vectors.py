"""Targets for networks that answer with vectors or numbers: a similarity, a value that is estimated."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from whycam.errors import TargetError
from whycam.kit.arrays import wide
from whycam.targets.outputs import embedding
from whycam.targets.reading import class_index
from whycam.targets.structured import Asking, OutputContext, OutputTarget, Settled, numbers

#: What a reference may be: its vector, `(width,)` or `(batch, width)`, or an input or photo that the network is run on.
Reference = Any


@dataclass(frozen=True, eq=False)
class Similarity(OutputTarget):
    """The cosine similarity of a sample's embedding with a reference's: why these two are alike.

    A cosine does not change with scale, so over one picture gradient times activation adds up to 0: half of its map is
    balanced by the other. `norm="fixed"` divides by the embedding's length as by a constant, so that the map of a
    network that ends in pooling adds up to the similarity; `norm="live"` is the literal derivative.

    Args:
        reference: an embedding, `(width,)` or one for each sample, `(batch, width)`; or a photo or a ready batch of one
            sample, or one for each, which the network is run on once.
        norm: see above.

    Examples:
        >>> whycam.explain(net, batch, "hires_cam", target=whycam.targets.Similarity([1.0, 0.0])).target[0]
        'similarity 0.95 to the reference'
    """

    reference: Reference
    norm: Literal["fixed", "live"] = "fixed"

    def __post_init__(self) -> None:
        check_norm(self.norm)

    @classmethod
    def from_text(cls, text: str) -> "Similarity":
        """The reference photo's path."""
        return cls(text)

    def prepared(self, asking: Asking) -> "OutputTarget":
        """The same with the reference's vector."""
        return replace(self, reference=vectors(self.reference, asking.embed))

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The similarity in each sample."""
        found = embedding(output)
        samples, width = found.shape
        reference: Tensor = self.reference.to(found.device)
        if reference.shape[1] != width or len(reference) not in (1, samples):
            raise TargetError(
                f"the reference has shape {tuple(reference.shape)}; the embeddings are {(samples, width)}, and one "
                "reference, or one for each sample, was expected."
            )
        lengths = reference.norm(dim=1, keepdim=True)
        if not bool((lengths > 0).all()):
            raise TargetError(
                "the reference is zero or not a number somewhere, so it has no direction to compare with."
            )
        unit, live = reference / lengths, self.norm == "live"

        def read(other: Any) -> Tensor:
            made = direction(other, live=live)
            cosines: Tensor = (made * unit.to(made)).sum(1)
            return cosines

        scores = read(output)
        texts = tuple(f"similarity {float(each):.2f} to the reference" for each in scores.detach())
        return [Settled(scores, read, texts, key=self, note="signed: what lowers the similarity is below zero")]


@dataclass(frozen=True, eq=False)
class Triplet(OutputTarget):
    """How much nearer a sample is to one reference than to another: the difference of two similarities.

    Examples:
        >>> whycam.targets.Triplet([1.0, 0.0], [0.0, 1.0]).norm
        'fixed'
    """

    positive: Reference
    negative: Reference
    norm: Literal["fixed", "live"] = "fixed"

    def prepared(self, asking: Asking) -> "OutputTarget":
        """The same with the references' vectors."""
        near, far = (vectors(each, asking.embed) for each in (self.positive, self.negative))
        return replace(self, positive=near, negative=far)

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The difference in each sample."""
        (near,) = Similarity(self.positive, self.norm).settle(output, context)
        (far,) = Similarity(self.negative, self.norm).settle(output, context)
        scores = near.scores - far.scores
        texts = tuple(f"{float(each):+.2f} nearer to one reference than to the other" for each in scores.detach())
        return [Settled(scores, lambda other: near.read(other) - far.read(other), texts, key=self, note=near.note)]


@dataclass(frozen=True)
class Value(OutputTarget):
    """A number that the network estimates, in its own unit; `-Value(i)` is what speaks for less of it.

    Examples:
        >>> -whycam.targets.Value(0)
        Value(of=0, sign=-1)
    """

    of: int = 0
    sign: Literal[1, -1] = 1

    @classmethod
    def from_text(cls, text: str) -> "Value":
        """Its number."""
        return cls(int(numbers(text, 1)[0]))

    def __neg__(self) -> "Value":
        return replace(self, sign=-self.sign)

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The number in each sample."""
        seen = _numbers(output)
        class_index(self.of, seen.shape[1], None)
        number, sign = self.of, self.sign

        def read(other: Any) -> Tensor:
            return sign * _numbers(other)[:, number]

        texts = tuple(
            f"{'less of ' if sign < 0 else ''}value {number} = {float(each):.4g}" for each in seen[:, number].detach()
        )
        return [Settled(read(output), read, texts, key=self)]


@dataclass(frozen=True)
class Towards(OutputTarget):
    """What moves an estimated number towards a reference: up where it lies below, down where it lies above.

    The side is settled on the recorded pass; the score is minus the distance, whose gradient does not vanish there.

    Examples:
        >>> whycam.targets.Towards(3.5).of
        0
    """

    reference: float
    of: int = 0

    @classmethod
    def from_text(cls, text: str) -> "Towards":
        """The reference."""
        return cls(numbers(text, 1)[0])

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The signed distance in each sample."""
        seen = _numbers(output)
        class_index(self.of, seen.shape[1], None)
        number, goal = self.of, self.reference
        sign = torch.where(seen[:, number].detach() <= goal, 1.0, -1.0)

        def read(other: Any) -> Tensor:
            found = _numbers(other)[:, number]
            return sign.to(found) * (found - goal)

        texts = tuple(f"value {number} = {float(each):.4g} towards {goal:g}" for each in seen[:, number].detach())
        return [Settled(read(output), read, texts, key=self)]


def check_norm(norm: str) -> None:
    """Raise a `TargetError` for anything but `"fixed"` and `"live"`."""
    if norm not in ("fixed", "live"):
        raise TargetError(f"norm is 'fixed' or 'live', not {norm!r}.")


def direction(output: Any, *, live: bool) -> Tensor:
    """Each sample's embedding at length one, `(batch, width)`; the length is a constant unless `live`.

    Raises:
        TargetError: the length cannot be a constant, since the model itself divided by it.
    """
    found = wide(embedding(output))
    if not live and getattr(output, "logits_per_image", None) is not None:
        raise TargetError(
            "texts are among the inputs, and the model then divides its embeddings by their length itself. Leave the "
            "texts out, and the model is asked about the picture alone, or pass norm='live'."
        )
    length: Tensor = found.norm(dim=1, keepdim=True)
    length = length.clamp(min=torch.finfo(length.dtype).tiny)  # nothing is similar to nothing
    return found / (length if live else length.detach())


def vectors(reference: Reference, embed: Callable[[Any], Tensor]) -> Tensor:
    """A reference's vectors, `(reference, width)`."""
    if isinstance(reference, (list, tuple)) and reference and all(isinstance(each, (int, float)) for each in reference):
        reference = torch.tensor(reference, dtype=torch.float64)
    if isinstance(reference, np.ndarray) and reference.ndim <= 2 and reference.dtype.kind == "f":  # not a gray photo
        reference = torch.from_numpy(reference.copy())
    if isinstance(reference, Tensor) and reference.ndim <= 2:
        reference = reference if reference.is_floating_point() else reference.double()
        rows: Tensor = reference.reshape(-1, reference.shape[-1]).detach()
        return rows
    return embed(reference)


def _numbers(output: Any) -> Tensor:
    """The numbers of each sample, `(batch, number)`."""
    if isinstance(output, Tensor) and output.ndim == 1:
        return output[:, None]
    return embedding(output)
