"""Metrics of methods at layers, over any number of images, beside controls."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from whycam.engine.inputs import Batch
from whycam.engine.maps import told
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import InputError, OptionError, WhycamError
from whycam.evaluation.controls import CONTROLS, Control, boxed
from whycam.evaluation.explained import Explained
from whycam.evaluation.images import Images, is_of_each, of_images
from whycam.evaluation.journal import Journal, Part
from whycam.evaluation.quantities import Asking, Maps, enlarged, foreign_maps, own_maps
from whycam.evaluation.truth import as_boxes, as_masks
from whycam.kit.declared import plain
from whycam.kit.metric import TRUTH, Metric, find_metric
from whycam.kit.progress import Progress
from whycam.kit.words import plural
from whycam.network.fingerprint import fingerprint
from whycam.network.variants.scoring import RunConfig
from whycam.results.evaluation import Evaluation

#: What is asked where nobody says. Methods that the network does not allow are listed with their reasons.
METHODS = ("grad_cam", "grad_cam_plus_plus", "layer_cam", "hires_cam", "xgrad_cam", "cam", "eigen_cam")
METRICS = ("average_drop", "insertion", "deletion")
#: And where the targets' places are known.
PLACED = ("pointing_game", "energy_pointing_game")
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

    @property
    def looked_into(self) -> list[Metric]:
        """The metrics of sanity that nobody asked for by name."""
        named = {metric.name for metric, _ in self.metrics}
        return [find_metric(name) for name in SANITY if self.sanity and name not in named]

    @property
    def of_each(self) -> list[Any]:
        """What belongs to each image: its mask and boxes, its maps of other libraries, its own targets."""
        given = [self.masks, self.boxes, *self.maps.values(), *self.request.targets]
        return [each for each in given if is_of_each(each)]


def evaluate(
    session: Session,
    inputs: Any,
    questions: Questions,
    *,
    batch: int = 8,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Explain and measure image by image; see `Explainer.evaluate`.

    Raises:
        Interrupted: Ctrl-C was pressed; what is done is in it.
    """
    images = Images(inputs, questions.of_each)
    _check_lengths(questions, len(images))
    asked = _asked(session, questions)
    journal = Journal(folder, asked)
    done = images.called_as(journal.samples)
    progress = progress or Progress()
    if done:
        progress.say(f"going on: {len(done)} of {plural(len(images), 'image')} were measured before ({journal.path})")
    try:
        with progress.of("evaluating", len(images) - len(done), "images") as advance:
            for start, stop in images.batches(batch):
                numbers = [number for number in range(start, stop) if images.names[number] not in done]
                if numbers:
                    _measure_some(session, images, numbers, questions, journal)
                advance(len(numbers))
    except KeyboardInterrupt:
        raise Interrupted(_evaluation(journal, images, questions, asked)) from None
    return _evaluation(journal, images, questions, asked)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of an evaluation: `evaluation` holds what was done."""

    def __init__(self, evaluation: Evaluation) -> None:
        super().__init__(f"{plural(len(evaluation.samples), 'image')} evaluated")
        self.evaluation = evaluation


def _measure_some(
    session: Session, images: Images, numbers: Sequence[int], questions: Questions, journal: Journal
) -> None:
    """One batch; where its images cannot be had together, each by itself. What cannot be had at all is a failure."""
    try:
        given, missing = images.some(numbers)
        numbers = [number for number in numbers if images.names[number] not in missing]
        made = session.batch(given, questions.request) if numbers else None
    except InputError as error:
        if len(numbers) == 1:
            journal.add(Part(failures={images.names[numbers[0]]: str(error)}))
            return
        for number in numbers:
            _measure_some(session, images, [number], questions, journal)
        return
    if missing:
        journal.add(Part(failures=missing))
    if made is not None:
        samples = {images.names[number]: images.digest(number) if journal.path else "" for number in numbers}
        with session.tree():
            journal.add(_measured(session, made, numbers, samples, questions))


def _measured(
    session: Session, batch: Batch, numbers: Sequence[int], samples: Mapping[str, str], questions: Questions
) -> Part:
    """Every metric at every place, of one batch."""
    request = replace(questions.request, targets=tuple(of_images(each, numbers) for each in questions.request.targets))
    explained = Explained(session, batch, request, questions.run)
    names = [*samples]
    part = Part(samples, failures={" at ".join(map(str, key[:2])): why for key, why in explained.failures.items()})
    size = batch.context.size
    placed = questions.masks is not None or questions.boxes is not None
    masks, boxes = of_images(questions.masks, numbers), of_images(questions.boxes, numbers)
    if placed:
        masks = as_masks(masks, boxes, len(names), size)
        boxes = as_boxes(boxes, masks, len(names))
    few = sum(number < questions.sanity for number in numbers)
    metrics = [(metric, options, len(numbers)) for metric, options in questions.metrics]
    metrics += [(metric, {}, few) for metric in questions.looked_into if few]
    for number, target in enumerate(explained.targets):
        asking = Asking(explained, number, masks, boxes)
        for place, make, statuses in _places(explained, asking, number, target, numbers, questions):
            try:
                maps = make()
            except WhycamError as error:
                part.failures[f"{place[0]} at {place[1]}"] = str(error)
                continue
            for metric, options, first in metrics:
                try:
                    measured = asking.measure(metric, maps, options)
                except WhycamError as error:
                    part.failures.setdefault(f"{metric.name} of {place[0]} at {place[1]}", str(error))
                    continue
                _add(part, place, metric.name, names[:first], measured, statuses)
        part.notes += asking.notes
    part.notes += told(explained.maker.supply.work)
    part.forwards = sum(each.forwards for each in explained.maker.supply.work)
    part.seconds = {
        (key[0], key[1]): (explained.shared + entry.seconds) / len(names) for key, entry in explained.entries.items()
    }
    return part


def _places(
    explained: Explained,
    asking: Asking,
    number: int,
    target: Any,
    numbers: Sequence[int],
    questions: Questions,
) -> Iterator[tuple[tuple[str, str, str], Callable[[], Maps], Sequence[str]]]:
    """What is measured for one target: the methods' maps, those of other libraries, and controls; with statuses."""
    named = "top" if target is None else "own" if is_of_each(target) else str(target)
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


def _foreign(explained: Explained, number: int, source: Any) -> Maps:
    if callable(source):
        return foreign_maps(explained, number, source)
    return Maps(enlarged(source, explained))


def _control(control: Control, asking: Asking, numbers: Sequence[int], seed: int) -> Maps:
    def again(*, picture: Tensor | None = None, **_: Any) -> Tensor:
        return control(asking.inputs if picture is None else picture, numbers, seed)

    return Maps(again(), None, again)


def _add(
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


def chosen_metrics(
    metrics: Sequence[str | Metric] | None, options: Mapping[str, Mapping[str, Any]], *, placed: bool
) -> tuple[tuple[tuple[Metric, Mapping[str, Any]], ...], dict[str, Mapping[str, Any]]]:
    """The metrics, each with its options; and the other options, which are the methods'.

    Raises:
        WhycamError: a name that does not exist, options that a metric does not have, or a truth that is missing.
    """
    if isinstance(metrics, str):
        raise OptionError(f"metrics is a list, such as metrics=[{metrics!r}].")
    found = {each.name: each for each in map(find_metric, metrics or [*METRICS, *(PLACED if placed else ())])}
    given = {plain(name): values for name, values in options.items()}
    for each in found.values():
        each.check_options(given.get(plain(each.name), {}))
        if each.takes & TRUTH and not placed:
            raise OptionError(f"{each.title} asks where the targets are; pass masks=, or boxes=.")
    own = {plain(name) for name in found}
    others = {name: values for name, values in options.items() if plain(name) not in own}
    return tuple((each, given.get(plain(name), {})) for name, each in found.items()), others


def _check_lengths(questions: Questions, images: int) -> None:
    """Raise for what has to be there for every image and is not."""
    for name, each in {"masks": questions.masks, "boxes": questions.boxes, **questions.maps}.items():
        if each is not None and not callable(each) and len(each) != images:
            raise InputError(f"{name} holds {len(each)} entries for {plural(images, 'image')}; pass one for each.")
    for target in questions.request.targets:
        if is_of_each(target) and len(target) != images:
            raise InputError(f"a list of {len(target)} targets came for {plural(images, 'image')}; pass one for each.")
    if images > 2 and len(questions.request.targets) == images:
        raise InputError(
            f"targets= has {images} entries, and each of them is asked of all {images} images. For one target of each "
            "image pass them as one entry, targets=[labels]."
        )


def _asked(session: Session, questions: Questions) -> dict[str, Any]:
    """What an evaluation is of: the same again goes on, anything else is another."""
    request = questions.request
    return {
        "model": session.vision.name,
        "weights": fingerprint(session.module),
        "methods": [each.name for each in request.methods],
        "layers": [[str(spec) for spec in each.specs] for each in request.layers],
        "targets": ["own" if is_of_each(each) else str(each) for each in request.targets],
        "options": {name: {k: str(v) for k, v in each.items()} for name, each in request.options.items() if each},
        "metrics": {each.name: {k: str(v) for k, v in options.items()} for each, options in questions.metrics},
        "maps": sorted(questions.maps),
        "controls": questions.controls,
        "sanity": questions.sanity,
        "seed": questions.seed,
        "precision": questions.run.precision,
    }


def _evaluation(journal: Journal, images: Images, questions: Questions, asked: Mapping[str, Any]) -> Evaluation:
    """What the journal says of these images."""
    parts = [part for part in journal.parts if not part.samples or not part.samples.keys().isdisjoint(images.names)]
    known = {metric.name: metric for metric, _ in questions.metrics}
    known |= {metric.name: metric for metric in questions.looked_into}
    rows = tuple([row for part in parts for row in part.rows if row["sample"] in images.names])
    measured = sum(len(part.samples) for part in parts)
    seconds: dict[tuple[str, str], float] = {}
    for part in parts:
        for key, each in part.seconds.items():
            seconds[key] = seconds.get(key, 0.0) + each * len(part.samples) / measured
    return Evaluation(
        rows=rows,
        curves={key: each for part in parts for key, each in part.curves.items() if key[-1] in images.names},
        at={name: at for part in parts for name, at in part.at.items()},
        metrics=known,
        seconds=seconds,
        failures={name: why for part in parts for name, why in part.failures.items()},
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        asked={**asked, "images": len({row["sample"] for row in rows}), "forwards": sum(p.forwards for p in parts)},
    )
