"""What is asked of a network's maps, and the maps it is asked of: of methods, of other libraries, and controls."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any

from torch import Tensor

from whycam.engine.identity import arrays, is_of_each
from whycam.engine.request import Request
from whycam.evaluation.controls import CONTROLS, Control, boxed
from whycam.evaluation.explained import Explained
from whycam.evaluation.images import of_images
from whycam.evaluation.journal import Part
from whycam.evaluation.quantities import Asking, Maps, enlarged, foreign_maps, own_maps
from whycam.kit.files import Names
from whycam.kit.metric import Metric, find_metric
from whycam.network.variants.scoring import RunConfig

#: What says whether maps hang on the network and on the class at all.
SANITY = ("model_randomization", "class_randomization")


@dataclass(frozen=True)
class Questions:
    """All that is asked of a network's maps.

    Attributes:
        request: methods, layers and targets of one batch; a target that is a sequence holds one for each image.
        metrics: each with its options.
        maps: of other libraries, by name: `(image, *spatial)`, or a function of (module, inputs, classes).
        sanity: of how many images the maps are made again with the network randomized.
        run: how the variants of methods and metrics are run.
        crossed: whether each target is meant for all images even where there are as many of both.
    """

    request: Request
    metrics: tuple[tuple[Metric, Mapping[str, Any]], ...]
    maps: Mapping[str, Any]
    masks: Any = None
    boxes: Any = None
    controls: bool = True
    sanity: int = 8
    seed: int = 0
    run: RunConfig = field(default_factory=RunConfig)
    crossed: bool = False

    @property
    def looked_into(self) -> list[Metric]:
        """The metrics of sanity that nobody asked for by name."""
        named = {metric.name for metric, _ in self.metrics}
        return [find_metric(name) for name in SANITY if self.sanity and name not in named]

    @property
    def called(self) -> list[str]:
        """What each target is called in the rows; no two are alike."""
        names = Names()
        return [names(_called(each)) for each in self.request.targets]

    @property
    def of_each(self) -> list[Any]:
        """What belongs to each image: its mask and boxes, its maps of other libraries, its own targets."""
        given = [self.masks, self.boxes, *self.maps.values(), *self.request.targets]
        return [each for each in given if is_of_each(each)]


def places(
    explained: Explained,
    asking: Asking,
    number: int,
    target: Any,
    numbers: Sequence[int],
    questions: Questions,
) -> Iterator[tuple[tuple[str, str, str], Callable[[], Maps], Sequence[str]]]:
    """What is measured for one target: the methods' maps, those of other libraries, and controls; with statuses."""
    named = questions.called[number] if len(questions.called) == len(explained.targets) else _called(target)
    for key, entry in explained.entries.items():
        if not entry.explanation.target or key[2] == target:
            statuses = [status.kind for status in entry.explanation.status]
            yield (key[0], key[1], named), partial(own_maps, explained, key), statuses
    ok = ["ok"] * len(numbers)
    for name, source in questions.maps.items():
        yield (name, "-", named), partial(_foreign, explained, number, of_images(source, numbers)), ok
    if not questions.controls:
        return
    for name, control in CONTROLS.items():
        yield (name, "-", named), partial(_control, control, asking, numbers, questions.seed), ok
    found = [each.box for each in asking.bound.shown]
    if any(found):
        made = boxed(found, explained.batch.context.size)
        yield ("control: box", "-", named), partial(Maps, made, None, lambda **_: made), ok


def _called(target: Any) -> str:
    """A target's name in a table: of one with fields the first, and those that were set, if they hold no tensors."""
    if target is None or is_of_each(target):
        return "top" if target is None else "own"
    if not is_dataclass(target):
        return str(target)
    said = [
        f"{each.name}={own!r}"
        for number, each in enumerate(fields(target))
        if each.repr and not arrays(own := getattr(target, each.name)) and (number == 0 or own != each.default)
    ]
    return f"{type(target).__name__}({', '.join(said)})"


def _foreign(explained: Explained, number: int, source: Any) -> Maps:
    if callable(source):
        return foreign_maps(explained, number, source)
    return Maps(enlarged(source, explained))


def _control(control: Control, asking: Asking, numbers: Sequence[int], seed: int) -> Maps:
    def again(*, picture: Tensor | None = None, **_: Any) -> Tensor:
        return control(asking.inputs if picture is None else picture, numbers, seed)

    return Maps(again(), None, again)


def add(
    part: Part,
    place: tuple[str, str, str],
    metric: str,
    names: Sequence[str],
    measured: Any,
    statuses: Sequence[str],
) -> None:
    method, layer, target = place
    every = {metric: measured.values, **{f"{metric}.{name}": each for name, each in measured.parts.items()}}
    for called, values in every.items():
        for name, value, status in zip(names, values.tolist(), statuses, strict=False):  # of the first, if so asked
            part.rows.append(
                {"method": method, "layer": layer, "target": target, "metric": called, "sample": name,
                 "value": value, "status": status}
            )  # fmt: skip
    if measured.curve is not None:
        part.at[metric] = measured.at
        for name, curve in zip(names, measured.curve.tolist(), strict=False):
            part.curves[method, layer, target, metric, name] = tuple(curve)
