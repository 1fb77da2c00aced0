"""Targets for detectors: one box, one side of it, or every box above a score.

The score is the raw logit of the box's class, never its probability, whose gradient vanishes where the detector is
sure. Which entry of the output that is, is settled on the recorded pass. In outputs of edited inputs the box is
searched for: `read` takes the entry that overlaps it most, and `search` is D-RISE's similarity (Petsiuk et al.,
arXiv:2006.03204): the largest IoU times probability of the class.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from whycam.errors import TargetError
from whycam.kit.overlap import iou
from whycam.kit.status import Status
from whycam.targets.outputs import Adapter, Detections, detections, head_of, logit, raw_logits
from whycam.targets.reading import class_index, name_of
from whycam.targets.resolved import Shown
from whycam.targets.structured import OutputContext, OutputTarget, Settled, nothing, numbers

_SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class Box(OutputTarget):
    """One detected box: why the detector gives it its class.

    Args:
        of: the box's place in the model's own list of results (0 is the first), or its corners (left, top, right,
            bottom) in pixels of the photo, or of the input where a ready batch came.
        label: the class, as index or text, that a box given by its corners has; left out, the best overlapping one is
            taken, whatever its class.
        adapter: for a model of a family that is not known: output -> `Detections` for each image.
        through_selection: some detectors (RT-DETR, two-stage Deformable DETR, Faster R-CNN) detach what they choose
            queries or proposals by, so that the gradient says how a box is read and not why it was looked at. `True`
            follows the gradient through; values are the same. Proposals pooled by RoIAlign bear none all the same.

    Examples:
        >>> whycam.targets.Box(0)
        Box(0)
    """

    usual_method: ClassVar[str] = "layer_cam"  # pooled weights light up all objects of a class alike
    of: int | Sequence[float] = 0
    label: int | str | None = None
    adapter: Adapter | None = None
    through_selection: bool = False

    def __post_init__(self) -> None:
        of = self.of
        if isinstance(of, int) and not isinstance(of, bool) and of >= 0:
            if self.label is not None:
                raise TargetError("label= says which of several boxes at its corners is meant; Box(i) takes none.")
            return
        if isinstance(of, (str, bool, int)) or len(of) != 4 or not (of[0] < of[2] and of[1] < of[3]):
            raise TargetError(
                "Box takes the place of a box in the model's list (0, 1, ...) or its corners (left, top, right, "
                f"bottom), not {of!r}."
            )
        object.__setattr__(self, "of", tuple(float(each) for each in of))

    def __repr__(self) -> str:
        return f"Box({self.of!r}{'' if self.label is None else f', {self.label!r}'})"

    @classmethod
    def from_text(cls, text: str) -> "Box":
        """`0`, or `left,top,right,bottom`."""
        found = numbers(text)
        return cls(int(found[0]) if len(found) == 1 else found)

    def watched(self, module: Any) -> Mapping[str, str]:
        """The head that returns a torchvision detector's raw logits."""
        head = head_of(module)
        return {"head": head} if head and self.adapter is None else {}

    def found(self, output: Any, context: OutputContext) -> list[Detections]:
        """The detections in an output."""
        raw = raw_logits(context.raw["head"]) if "head" in context.raw else None
        return detections(output, context.size, context.module, raw=raw, adapter=self.adapter)

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The box, in each image."""
        found = self.found(output, context)
        indices = [self.index(i, each, context) for i, each in enumerate(found)]
        return [_settled(output, context, found, indices, self, _Seen(context, self.adapter))]

    def index(self, sample: int, found: Detections, context: OutputContext) -> int | str:
        """Which detection of an image is meant, or why there is none."""
        best = _best(found, context.labels)
        if isinstance(self.of, int):
            return self.of if self.of < len(found) else f"the model found {len(found)} boxes here, {best}"
        corners = [*context.to_input(sample, *self.of[:2]), *context.to_input(sample, *self.of[2:])]
        overlap = iou(found.boxes.new_tensor(corners), found.boxes.detach()) if len(found) else found.scores.detach()
        if self.label is not None and len(found):
            label = self.label if isinstance(self.label, int) else class_index(self.label, 0, context.labels)
            overlap = overlap * (found.labels == label)
        if not len(found) or not bool((overlap > 0).any()):
            what = "" if self.label is None else f" of class {self.label}"
            return f"no detected box{what} overlaps the one asked for; there are {len(found)}, {best}"
        return int(overlap.argmax())


@dataclass(frozen=True)
class Boxes(OutputTarget):
    """Every box with at least that score, each explained by itself: one forward, and a backward for each.

    Examples:
        >>> whycam.targets.Boxes(min_score=0.5)
        Boxes(min_score=0.5, adapter=None, through_selection=False)
    """

    usual_method: ClassVar[str] = "layer_cam"
    several: ClassVar[bool] = True
    min_score: float = 0.5
    adapter: Adapter | None = None
    through_selection: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.min_score, bool) or not 0 <= self.min_score <= 1:
            raise TargetError(f"min_score is a number from 0 to 1, not {self.min_score!r}.")

    @classmethod
    def from_text(cls, text: str) -> "Boxes":
        """The least score, `0.5`."""
        return cls(numbers(text, 1)[0])

    def watched(self, module: Any) -> Mapping[str, str]:
        """As for one box."""
        return Box(0, adapter=self.adapter).watched(module)

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """Each box; in a batch the first of each image, then the second of each, and so on."""
        found = Box(0, adapter=self.adapter).found(output, context)
        kept = [(each.scores.detach() >= self.min_score).nonzero()[:, 0].tolist() for each in found]
        most = max(map(len, kept), default=0)
        seen = _Seen(context, self.adapter)
        missing = [
            f"{len(mine)} boxes reach {self.min_score:g} here, {_best(each, context.labels)}"
            for mine, each in zip(kept, found, strict=True)
        ]
        return [
            _settled(
                output,
                context,
                found,
                [mine[k] if k < len(mine) else missing[i] for i, mine in enumerate(kept)],
                Box(k, adapter=self.adapter, through_selection=self.through_selection),
                seen,
            )
            for k in range(max(1, most))
        ]


@dataclass(frozen=True)
class BoxSide(OutputTarget):
    """One side of a detected box, in pixels: why the edge lies there (ODAM's box targets, Zhao & Chan, ICLR 2023).

    The gradient is that of the coordinate itself: what pushes the edge to the right or down is positive. A method that
    keeps signs, such as `hires_cam`, shows both. Models that detach their boxes are refused.

    Examples:
        >>> whycam.targets.BoxSide(0, "left")
        BoxSide(of=0, side='left', through_selection=False)
    """

    usual_method: ClassVar[str] = "layer_cam"
    of: int = 0
    side: Literal["left", "top", "right", "bottom"] = "left"
    through_selection: bool = False

    def __post_init__(self) -> None:
        if self.side not in _SIDES:
            raise TargetError(f"side is one of {', '.join(_SIDES)}, not {self.side!r}.")
        Box(self.of)

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The coordinate of that side, in each image."""
        box, column = Box(self.of, through_selection=self.through_selection), _SIDES.index(self.side)
        found = box.found(output, context)
        indices = [box.index(i, each, context) for i, each in enumerate(found)]

        def side(each: Detections, index: int) -> Tensor:
            return each.boxes[index, column]

        made = _settled(output, context, found, indices, box, _Seen(context), side)
        texts = tuple(f"{self.side} side of {text}" for text in made.texts)
        return [replace(made, texts=texts, search=None, key=self)]


def _raw(found: Detections, index: int) -> Tensor:
    return found.logit(index)


class _Seen:
    """The detections in later outputs; those of one output are looked for once, whoever asks."""

    def __init__(self, context: OutputContext, adapter: Adapter | None = None) -> None:
        self.size, self.module, self.adapter = context.size, context.module, adapter
        self.output: Any = None
        self.found: list[Detections] = []

    def __call__(self, output: Any) -> list[Detections]:
        if output is not self.output:
            self.found = detections(output, self.size, self.module, adapter=self.adapter)
            self.output = output
        return self.found


def _settled(
    output: Any,
    context: OutputContext,
    found: Sequence[Detections],
    indices: Sequence[int | str],
    target: Box,
    seen: _Seen,
    number: Callable[[Detections, int], Tensor] = _raw,
) -> Settled:
    """One box of each image, and the number of it that is read in this output and in later ones.

    An index that is a text says why there is no box. Later outputs of torchvision's detectors come without the raw
    logits: there it is the final score's, by as much higher as it is lower in this one. A box that is gone has the
    least logit there is; its sides are left where they were.
    """
    samples = len(found)
    boxes = [
        None if isinstance(i, str) else each.boxes[i].detach().clone() for each, i in zip(found, indices, strict=True)
    ]
    labels = [None if isinstance(i, str) else int(each.labels[i]) for each, i in zip(found, indices, strict=True)]
    none = nothing(output, samples)
    scores = [
        none[k] if isinstance(i, str) else number(each, i)
        for k, (each, i) in enumerate(zip(found, indices, strict=True))
    ]
    recorded = torch.stack(scores)
    again = detections(output, context.size, context.module) if "head" in context.raw else found
    kept = [
        0.0 if isinstance(i, str) else float((score - number(each, i)).detach())
        for i, score, each in zip(indices, scores, again, strict=True)
    ]
    gone = logit(torch.zeros_like(recorded.detach())) if number is _raw else recorded.detach().clone()
    texts, shown, status = [], [], []
    for i, each, box, label in zip(indices, found, boxes, labels, strict=True):
        if isinstance(i, str) or box is None or label is None:
            texts.append("no box")
            shown.append(Shown())
            status.append(Status("nothing to explain", f"{i}."))
            continue
        text = f"{name_of(label, context.labels)} {float(each.scores[i].detach()):.2f}"
        texts.append(f"box {i}, {text}")
        sure = (each.scores >= each.scores[i] / 2).tolist()  # a list of queries or anchors ends in what is no object
        others = tuple(tuple(row) for k, row in enumerate(each.boxes.tolist()) if k != i and sure[k])
        shown.append(Shown(text, tuple(box.tolist()), others[:_SHOWN]))
        status.append(Status())

    def similar(other: Any) -> list[tuple[Detections, Tensor] | None]:
        rows = seen(other)
        times = len(rows) if samples == 1 else 1  # of one sample several variants may come at once
        return [
            None if box is None or label is None or not len(each) else (each, _similarity(box, label, each))
            for box, label, each in zip(boxes * times, labels * times, rows, strict=True)
        ]

    def read(other: Any) -> Tensor:
        pairs = similar(other)
        zero = nothing(other, len(pairs))
        return torch.stack(
            [
                number(pair[0], int(pair[1].argmax())) + kept[k % samples]
                if pair is not None and bool(pair[1].amax() > 0)
                else zero[k] + (0 if boxes[k % samples] is None else gone[k % samples])
                for k, pair in enumerate(pairs)
            ]
        )

    def search(other: Any) -> Tensor:
        pairs = similar(other)
        zero = nothing(other, len(pairs))
        return torch.stack([zero[k] if pair is None else pair[1].amax() for k, pair in enumerate(pairs)])

    return Settled(
        recorded,
        read,
        tuple(texts),
        search,
        tuple(status),
        tuple(shown),
        target,
        next((each.about for each in found), "") + _cut(target, context.detached),
        again=_Same(target, tuple(boxes), tuple(labels), number),
    )


@dataclass(frozen=True)
class _Same(OutputTarget):
    """Boxes that were found once: in another pass, the ones of the same class that overlap them most."""

    target: Box
    boxes: tuple[Tensor | None, ...]
    labels: tuple[int | None, ...]
    number: Callable[[Detections, int], Tensor]

    def watched(self, module: Any) -> Mapping[str, str]:
        """As for one box."""
        return self.target.watched(module)

    def goes_through(self) -> bool | None:
        """As it was."""
        return self.target.through_selection

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The boxes, in each image."""
        found = self.target.found(output, context)
        indices: list[int | str] = []
        for each, box, label in zip(found, self.boxes, self.labels, strict=True):
            overlap = (
                each.scores.new_zeros(0) if box is None else iou(box, each.boxes.detach()) * (each.labels == label)
            )
            gone = not len(overlap) or not bool(overlap.amax() > 0)
            indices.append("the box is gone" if gone else int(overlap.argmax()))
        return [
            _settled(output, context, found, indices, self.target, _Seen(context, self.target.adapter), self.number)
        ]


def _cut(target: Box, detached: int) -> str:
    """What a reader should know of a graph that the detector cuts."""
    if target.through_selection:
        found = f"{detached} tensors that the detector detaches" if detached else "nothing, since none is detached"
        return f"; through_selection: the gradient goes through {found}"
    if not detached:
        return ""
    return (
        f"; the gradient leaves out what the detector detaches ({detached} tensors, how it chooses where to look); "
        "through_selection=True follows it"
    )


#: More boxes beside the explained one are not drawn.
_SHOWN = 50


def _similarity(box: Tensor, label: int, found: Detections) -> Tensor:
    """D-RISE's similarity of each detection with a box: IoU times the probability of its class."""
    same = found.classes[:, label] if found.classes is not None else found.scores * (found.labels == label)
    return iou(box, found.boxes.detach()) * same.detach()


def _best(found: Detections, labels: Sequence[str] | None) -> str:
    if not len(found):
        return "none at all"
    best = int(found.scores.detach().argmax())
    return f"the best is {name_of(int(found.labels[best]), labels)} at {float(found.scores[best].detach()):.2f}"
