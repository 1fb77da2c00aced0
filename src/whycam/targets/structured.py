"""Targets that read more of an output than one table of class scores: boxes, regions, similarities, sentences.

Such a target is *settled* on the model's whole output in the pass that is recorded: which box, which mask, which
vector. Later outputs, of edited inputs, are asked about the same thing: the entry is searched there, since it may have
moved, and the mask stays.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from whycam.errors import TargetError
from whycam.kit.status import Status
from whycam.targets.resolved import ResolvedTarget, Shown

#: A score of every sample read from a model's whole output, shape `(batch,)`.
Read = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Settled:
    """One thing to explain, settled on the output of the recorded pass.

    Attributes:
        scores: each sample's score in that pass, with its graph, shape `(batch,)`.
        read: the same of any other output of the model. It holds no graph.
        texts: what is explained, one for each sample.
        search: for methods that run the network many times: how much of it is found in an output, from 0 to 1.
        status: what keeps a sample from being explained (no such box, an empty mask), else ok.
        shown: what is drawn, one for each sample.
        key: by which a `Comparison` finds it, where one target stands for several things.
        note: what a reader should know of the score.
        prompts: how like each of several sentences an output is, the explained one first.
        again: the same thing, to be settled in another pass; where there is none, `read` says it all.
    """

    scores: Tensor
    read: Read
    texts: tuple[str, ...]
    search: Read | None = None
    status: tuple[Status, ...] = ()
    shown: tuple[Shown, ...] = ()
    key: Any = None
    note: str = ""
    prompts: tuple[Read, ...] = ()
    again: "OutputTarget | None" = None


@dataclass(frozen=True)
class OutputContext:
    """What is known where a target is settled.

    Attributes:
        module: the network.
        inputs: the (first) input, `(batch, channel, *space)`.
        labels: the classes' texts by index, if known.
        raw: what the modules returned that the target wanted to be watched, by the names it gave them.
        geometries: how each input lies on its photo, if it was made from one.
        detached: how many tensors the network detached although a gradient would have come that far.
    """

    module: Any
    inputs: Tensor
    labels: Sequence[str] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)
    geometries: Sequence[Any] | None = None
    detached: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """The input's height and width."""
        height, width = self.inputs.shape[-2:]
        return int(height), int(width)

    def to_input(self, sample: int, x: float, y: float) -> tuple[float, float]:
        """A place on the photo in pixels of the input; of a ready batch they are the same."""
        if self.geometries is None:
            return x, y
        geometry = self.geometries[sample]
        return (x - geometry.offset[1]) / geometry.scale[1], (y - geometry.offset[0]) / geometry.scale[0]


@dataclass(frozen=True)
class Asking:
    """What a target may ask the network before it runs.

    Attributes:
        embed: inputs, such as a photo -> the network's vectors of them, `(batch, width)`.
        embed_texts: sentences, token ids or vectors, and the tokenizer, if the caller gave one -> `(text, width)`.
        logit_scale: by what the network multiplies cosines with texts, where it says so.
        tokenizer: the network's own, if there is one.
        inputs: what it is given.
    """

    embed: Callable[[Any], Tensor]
    embed_texts: Callable[[Sequence[Any], Any], Tensor]
    logit_scale: float | None
    tokenizer: Callable[[], Any]
    inputs: Any


class OutputTarget(ABC):
    """A target that is settled on the model's whole output.

    Attributes:
        usual_method: explains it where none is named.
        several: whether it stands for several things, of which each is explained by itself.
        dense: whether it is asked of an output with a place for each score (`outputs.dense`).
    """

    usual_method: ClassVar[str] = "grad_cam"
    several: ClassVar[bool] = False
    dense: ClassVar[bool] = False

    @classmethod
    def from_text(cls, text: str) -> "OutputTarget":
        """The target that a text stands for, as the command line has it after the colon of `KIND:TEXT`.

        Raises:
            TargetError: this kind cannot be written so.
        """
        raise TargetError(f"{cls.__name__} cannot be written as a text; use it from Python.")

    def watched(self, module: Any) -> Mapping[str, str]:
        """Names of the target's own -> modules whose output it wants to see, by their dotted names."""
        return {}

    def goes_through(self) -> bool | None:
        """Whether the gradient goes on where the network detaches; `None`, without such a field: nobody has to look."""
        told: bool | None = getattr(self, "through_selection", None)
        return told

    def prepared(self, asking: Asking) -> "OutputTarget":
        """The target with what it has to ask the network first."""
        return self

    def within(self, module: Any) -> str:
        """The dotted name of the part in which a layer is chosen where none is named; empty for the whole network."""
        return ""

    @abstractmethod
    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The things to explain in this output; more than one where the target stands for several.

        Raises:
            WhycamError: nothing of the kind can be read from this output.
        """


DISAGREE = "through_selection=True is for all targets of one pass or for none; explain the others by themselves."


@dataclass(frozen=True)
class Settling:
    """A target with what the engine knows of the inputs, to be settled when the network has run."""

    target: OutputTarget
    labels: Sequence[str] | None = None
    geometries: Sequence[Any] | None = None

    @property
    def dense(self) -> bool:
        """Whether it is asked of an output with a place for each score."""
        return (self.target.targets[0] if isinstance(self.target, _EachSample) else self.target).dense

    def settle(
        self, output: Any, module: Any, inputs: Tensor, raw: Mapping[str, Any], detached: int = 0
    ) -> list[Settled]:
        """What the target stands for in this output."""
        return self.target.settle(output, OutputContext(module, inputs, self.labels, raw, self.geometries, detached))


@dataclass(frozen=True)
class _EachSample(OutputTarget):
    """Targets of the same kind, one for each sample."""

    targets: tuple[OutputTarget, ...]

    def watched(self, module: Any) -> Mapping[str, str]:
        """What the first wants to see."""
        return self.targets[0].watched(module)

    def goes_through(self) -> bool | None:
        """As the first, which all have to agree with."""
        first, *others = {each.goes_through() for each in self.targets}
        if others:
            raise TargetError(DISAGREE)
        return first

    def prepared(self, asking: Asking) -> "OutputTarget":
        """Each by itself."""
        return _EachSample(tuple(each.prepared(asking) for each in self.targets))

    def within(self, module: Any) -> str:
        """As the first."""
        return self.targets[0].within(module)

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """Each sample's own."""
        if len(self.targets) != context.inputs.shape[0]:
            raise TargetError(
                f"{len(self.targets)} targets came for {context.inputs.shape[0]} samples; pass one target, or one for "
                "each sample."
            )
        # each reads all images, and means its own: there a place on a photo is one on its own photo
        own = [each and [each] * len(self.targets) for each in context.geometries or [None] * len(self.targets)]
        made = [
            each.settle(output, replace(context, geometries=geometries))
            for each, geometries in zip(self.targets, own, strict=True)
        ]
        if any(len(each) != 1 for each in made):
            raise TargetError("a target that stands for several things, such as Boxes, is passed alone.")
        each = [one for (one,) in made]
        searches = [one.search for one in each if one.search is not None]

        def picked(reads: Sequence[Read], other: Any) -> Tensor:
            return torch.stack([read(other)[i] for i, read in enumerate(reads)])

        def pick(name: str) -> Any:
            found = [getattr(one, name) for one in each]
            return tuple(values[i] for i, values in enumerate(found)) if all(found) else ()

        return [
            Settled(
                torch.stack([one.scores[i] for i, one in enumerate(each)]),
                partial(picked, [one.read for one in each]),
                pick("texts"),
                partial(picked, searches) if len(searches) == len(each) else None,
                pick("status"),
                pick("shown"),
                key=self.targets,
                note=each[0].note,
                again=_EachSample(tuple(map(once_more, each))),
            )
        ]


@dataclass(frozen=True)
class _AsRead(OutputTarget):
    """What was settled once, read in another pass."""

    settled: Settled

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The same thing, in this output."""
        return [replace(self.settled, scores=self.settled.read(output))]


def once_more(settled: Settled) -> OutputTarget:
    """The target that means the same thing in another pass."""
    return settled.again if settled.again is not None else _AsRead(settled)


def for_each_sample(targets: Sequence[OutputTarget]) -> OutputTarget:
    """One target for each sample, as one."""
    return _EachSample(tuple(targets))


def resolved(settled: Sequence[Settled]) -> tuple[tuple[Read, ...], list[ResolvedTarget], Callable[[Any], Tensor]]:
    """The functions of the whole output that are read, one column each, and the targets that read those columns.

    The third makes the same columns of the output that was settled on, with their graph.
    """
    searches = [each.search for each in settled if each.search is not None]
    prompts = [read for each in settled for read in each.prompts]
    functions = (*[each.read for each in settled], *searches, *prompts)
    targets, next_search, next_prompt = [], len(settled), len(settled) + len(searches)
    for number, each in enumerate(settled):
        probability = None
        if each.search is not None:
            probability, next_search = partial(_column, next_search), next_search + 1
        held = tuple([partial(_column, next_prompt + k) for k in range(len(each.prompts))])
        next_prompt += len(held)
        targets.append(
            ResolvedTarget(
                partial(_column, number),
                each.texts,
                probability=probability,
                status=each.status,
                shown=each.shown,
                key=each.key,
                note=each.note,
                prompts=held,
                again=once_more(each),
            )
        )
    scores = [each.scores for each in settled]

    def columns(output: Any) -> Tensor:
        with torch.no_grad():
            found = [read(output) for read in (*searches, *prompts)]
        return torch.stack([*scores, *[each.to(scores[0]) for each in found]], 1)

    return functions, targets, columns


def _column(number: int, scores: Tensor) -> Tensor:
    return scores[:, number]


def numbers(text: str, count: int | None = None) -> list[float]:
    """The numbers in a text, separated by commas.

    Raises:
        TargetError: something else is there, or another count of them.
    """
    try:
        found = [float(each) for each in text.split(",")]
    except ValueError:
        found = []
    if not found or (count is not None and len(found) != count):
        wanted = "a number" if count == 1 else f"{count} numbers, separated by commas," if count else "numbers"
        raise TargetError(f"{wanted} expected, not {text!r}.")
    return found


def nothing(output: Any, samples: int) -> Tensor:
    """A score of 0 that hangs on the output where it can, for samples without anything to explain."""
    found = next(iter(_floating(output)), None)
    return torch.zeros(samples) if found is None else (found.sum() * 0).nan_to_num().expand(samples)


def _floating(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [each for item in items for each in _floating(item)]
