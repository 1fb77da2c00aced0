"""The networks that the page asks: what each answers with, and what it says of a photo."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from whycam.checkup.doctor import trial_input
from whycam.engine.inputs import Batch
from whycam.engine.layer_plan import plan
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.kit.files import digits
from whycam.kit.quantities import FUNCTIONS
from whycam.kit.registry import Method, list_methods
from whycam.models.vision_model import VisionModel
from whycam.network.fingerprint import fingerprint
from whycam.network.hooks import call
from whycam.network.origin import settled
from whycam.network.outputs import number_of_classes, read
from whycam.network.preserve_state import as_found
from whycam.network.unwrap import eager
from whycam.page.kept import KeptPhoto
from whycam.results.reproduce import ALONE, Loading
from whycam.targets import ClassReading, TargetSpec, fitting, name_of
from whycam.targets.outputs import dense, detections, is_detector
from whycam.targets.regions import Region
from whycam.targets.vectors import Similarity

Answers: TypeAlias = Literal["classes", "boxes", "regions", "vectors"]

#: The most classes that are listed.
_MOST = 10


@dataclass(frozen=True)
class Served:
    """A network by the words that name it."""

    spec: str
    session: Session
    loading: Loading = ALONE

    @classmethod
    def of(cls, spec: str, vision: VisionModel, loading: Loading = ALONE) -> "Served":
        """What the page asks by that spec."""
        return cls(spec, Session(vision), loading)

    @property
    def id(self) -> str:
        """The same in every process."""
        return digits([self.spec.encode("utf-8", "surrogateescape")])[:12]

    @cached_property
    def weights(self) -> str:
        """Their fingerprint."""
        return fingerprint(self.session.module)

    @cached_property
    def answers(self) -> Answers:
        """What its answer is made of, found by running it once on noise."""
        with self.session.tree():
            return self._read(self.session.batch(trial_input(self.session.vision))).kind

    @cached_property
    def usual_method(self) -> str:
        """The method that is asked where none is named."""
        session = self.session
        if self.answers != "classes":
            return session.usual_method(Region if self.answers == "regions" else None)
        with session.tree():
            asked = Request.several([session.usual_method(None)], None, None, None, None, usual=True)
            return session.with_usual(session.batch(trial_input(session.vision)), asked)[0].methods[0].name

    def says(self, kept: KeptPhoto, point: Sequence[float] | None = None) -> dict[str, Any]:
        """The network's answer to a photo: its top classes, the boxes it finds, or the classes of its places.

        Args:
            point: x and y in pixels of the picture that is drawn, whose class is asked for.
        """
        with self.session.tree():
            batch = self.session.batch(kept.photo)
            answer = self._read(batch)
        labels = self.session.vision.labels
        made: dict[str, Any] = {"classes": [], "boxes": None, "regions": None}
        if answer.kind == "classes":
            made["classes"] = _classes(answer.value, answer.probability, labels)
        if answer.kind == "boxes":
            made["boxes"] = _boxes(answer.value, labels, batch, kept)
        if answer.kind == "regions":
            made |= _regions(answer.value, labels, batch, kept, point)
        return made

    def refusals(self, kept: KeptPhoto) -> dict[str, str]:
        """Why methods cannot be asked of the network, by their names.

        Found by one pass: those that run the network many times are planned and not run, so that some may be refused
        later all the same.
        """
        every = list_methods()
        once = [each for each in every if not each.needs & FUNCTIONS]
        target = self._any_target(kept)
        refused: dict[str, str] = {}
        with self.session.tree():
            whole = self._asked(every, target)
            batch = self.session.batch(kept.photo, whole)
            resolvers = self.session.resolvers(whole, batch)
            plans, _ = plan(self.session.module, batch, every, whole.layers, resolvers)
            for each in every:
                refused.update((each.name, one.refusal) for one in plans[each.name] if one.refusal)
            made = self.session.run(batch, self._asked(once, target))
        return refused | {name: reason for (name, _, _), reason in made.failures.items()}

    def _asked(self, every: Sequence[Method], target: TargetSpec) -> Request:
        return Request.several([each.name for each in every], None, [target], None, None)

    def _any_target(self, kept: KeptPhoto) -> TargetSpec:
        """Something that can be explained in the network's answer to a photo."""
        if self.answers == "regions":
            return Region(self.says(kept)["regions"][0]["index"])
        return Similarity(kept.photo.image) if self.answers == "vectors" else None

    def _read(self, batch: Batch) -> "_Answer":
        """One forward, and what it is taken for: as the methods take it."""
        module, labels = self.session.module, self.session.vision.labels
        with torch.no_grad(), as_found(module), eager(module):
            output = call(module, batch.inputs)
            if is_detector(module):
                return _Answer("boxes", detections(output, _size(batch), module)[0])
            try:
                part, values = read(output, None, 1, number_of_classes(module))
                known, _ = settled(module, batch.inputs, values.float(), part, None, labels=len(labels or ()))
            except WhycamError:
                known = None
        if known is not None and known.classes:
            return _Answer("classes", values.float(), known.probability)
        try:
            return _Answer("regions", dense(output, len(batch.context.size)).scores[0].float())
        except WhycamError:
            return _Answer("vectors", None)


@dataclass(frozen=True)
class _Answer:
    """An answer by its kind: a table of classes, `Detections`, scores `(class, *space)`, or nothing to be listed."""

    kind: Answers
    value: Any
    probability: bool = False


def _classes(values: Tensor, probability: bool, labels: Sequence[str] | None) -> list[dict[str, Any]]:
    reading = ClassReading(probability)
    logits = reading.logits(values)
    labels = fitting(labels, logits.shape[1])
    made = []
    for index in logits[0].argsort(descending=True, stable=True)[:_MOST].tolist():
        share = reading.probability_of(values, torch.tensor([index], device=values.device))
        score = float(logits[0, index])
        made.append(
            {"index": index, "label": name_of(index, labels), "probability": float(share[0]), "score": score}
        )  # fmt: skip
    return made


def _boxes(found: Any, labels: Sequence[str] | None, batch: Batch, kept: KeptPhoto) -> list[dict[str, Any]]:
    geometries = batch.context.geometries
    place = geometries[0].on_photo_of(kept.drawn.size) if geometries is not None else None
    made = []
    for number in range(len(found)):
        box = found.boxes[number].float().tolist()
        if place is not None:
            (y, x), (down, across) = place.scale, place.offset
            box = [box[0] * x + across, box[1] * y + down, box[2] * x + across, box[3] * y + down]
        label = int(found.labels[number])
        made.append(
            {"index": number, "label": name_of(label, labels), "score": float(found.scores[number]), "box": box}
        )  # fmt: skip
    return made


def _regions(
    scores: Tensor, labels: Sequence[str] | None, batch: Batch, kept: KeptPhoto, point: Sequence[float] | None
) -> dict[str, Any]:
    top = (scores[0] > 0).long() if len(scores) == 1 else scores.argmax(0)
    counts = torch.bincount(top.flatten()).double() / top.numel()
    listed = [
        {**_region(index, labels), "share": float(counts[index])}
        for index in counts.argsort(descending=True)[:_MOST].tolist()
        if counts[index] > 0
    ]
    made: dict[str, Any] = {"regions": listed}
    if point is not None:
        geometries = batch.context.geometries
        x, y = point
        size = _size(batch)
        if geometries is not None:
            place = geometries[0].on_photo_of(kept.drawn.size)
            x, y = (x - place.offset[1]) / place.scale[1], (y - place.offset[0]) / place.scale[0]
        else:
            x, y = x * size[1] / kept.drawn.size[1], y * size[0] / kept.drawn.size[0]
        row, column = (int(at * cells / side) for at, cells, side in zip((y, x), top.shape, size, strict=True))
        inside = 0 <= row < top.shape[0] and 0 <= column < top.shape[1]
        index = int(top[row, column]) if inside else -1
        made["at_point"] = _region(index, labels) if inside else None
    return made


def _region(index: int, labels: Sequence[str] | None) -> dict[str, Any]:
    """A class of places; `called` is how a target calls it: by its label where that is read as this class."""
    label = name_of(index, labels)
    try:
        meant = labels is not None and Region.from_text(label).of == label and labels.count(label) == 1
    except WhycamError:
        meant = False
    return {"index": index, "label": label, "called": label if meant else str(index)}


def _size(batch: Batch) -> tuple[int, int]:
    height, width = batch.context.size
    return height, width
