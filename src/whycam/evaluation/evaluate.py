"""Metrics of methods at layers, over any number of images, beside controls."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from whycam.engine.identity import asked, identity, is_of_each
from whycam.engine.inputs import Batch
from whycam.engine.maps import told
from whycam.engine.session import Session
from whycam.errors import InputError, OptionError, WhycamError
from whycam.evaluation.controls import CONTROLS
from whycam.evaluation.explained import Explained
from whycam.evaluation.images import Images, of_images
from whycam.evaluation.journal import Journal, Part
from whycam.evaluation.on_mosaics import measure_mosaics
from whycam.evaluation.quantities import Asking
from whycam.evaluation.questions import Questions, add, places
from whycam.evaluation.truth import as_boxes, as_masks
from whycam.kit.declared import plain
from whycam.kit.metric import TRUTH, Metric, find_metric
from whycam.kit.progress import Progress
from whycam.kit.words import plural
from whycam.results.evaluation import Evaluation

#: What is asked where nobody says. Methods that the network does not allow are listed with their reasons.
METHODS = ("grad_cam", "grad_cam_plus_plus", "layer_cam", "hires_cam", "xgrad_cam", "cam", "eigen_cam")
METRICS = ("average_drop", "insertion", "deletion")
#: And where the targets' places are known.
PLACED = ("pointing_game", "energy_pointing_game")


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
    question = _asked(session, questions)
    journal = Journal(folder, question)
    done = images.called_as(journal.samples)
    journal.wanted = {*images.names}
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
        measure_mosaics(session, images, questions, batch, journal, progress)
    except KeyboardInterrupt:
        raise Interrupted(_evaluation(journal, images, questions, question)) from None
    return _evaluation(journal, images, questions, question)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of an evaluation: `evaluation` holds what was done."""

    def __init__(self, evaluation: Evaluation) -> None:
        super().__init__(f"{plural(evaluation.images, 'image')} evaluated")
        self.evaluation = evaluation


def _measure_some(
    session: Session, images: Images, numbers: Sequence[int], questions: Questions, journal: Journal
) -> None:
    """One batch; where its images cannot be had together, each by itself. What cannot be had at all is a failure.

    Raises:
        WhycamError: the network was asked in vain for the one image, and nothing was measured before it: what is asked
            is at fault, as far as can be told.
    """
    parts = list[Part]()
    try:
        given, missing = images.some(numbers)
        there = [number for number in numbers if images.names[number] not in missing]
        if there:
            samples = {images.names[number]: images.digest(number) if journal.path else "" for number in there}
            made = session.batch(given, questions.request)
            with session.tree():
                parts.append(_measured(session, made, there, samples, questions))
        if missing:
            parts.append(Part(failures=missing))
    except WhycamError as error:
        if len(numbers) > 1:
            _measure_each(session, images, numbers, questions, journal)
            return
        if not isinstance(error, InputError) and not journal.samples:
            raise
        parts.append(Part(failures={images.names[numbers[0]]: str(error)}))
    for part in parts:
        journal.add(part)


def _measure_each(
    session: Session, images: Images, numbers: Sequence[int], questions: Questions, journal: Journal
) -> None:
    """Images of a batch by themselves. Those that come before the first that can be had are tried again after it."""
    refused = list[int]()
    for number in numbers:
        with suppress(WhycamError):
            _measure_some(session, images, [number], questions, journal)
            continue
        refused.append(number)
    for number in refused:
        _measure_some(session, images, [number], questions, journal)


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
    metrics = [(metric, options, len(numbers)) for metric, options in questions.metrics if not metric.mosaics]
    metrics += [(metric, {}, few) for metric in questions.looked_into if few]
    for number, target in enumerate(explained.targets):
        asking = Asking(explained, number, masks, boxes)
        for place, make, statuses in places(explained, asking, number, target, numbers, questions):
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
                add(part, place, metric.name, names[:first], measured, statuses)
        part.notes += asking.notes
    work = explained.maker.supply.work
    part.notes += told([replace(each, deviation=None) for each in work])
    part.deviation = max((each.deviation or 0.0 for each in work), default=0.0)
    part.forwards = sum(each.forwards for each in work)
    part.seconds = {
        (key[0], key[1]): (explained.shared + entry.seconds) / len(names) for key, entry in explained.entries.items()
    }
    return part


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
        if each.takes & TRUTH and not placed and not each.mosaics:
            raise OptionError(f"{each.title} asks where the targets are; pass masks=, or boxes=.")
    own = {plain(name) for name in found}
    others = {name: values for name, values in options.items() if plain(name) not in own}
    return tuple((each, given.get(plain(name), {})) for name, each in found.items()), others


def _check_lengths(questions: Questions, images: int) -> None:
    """Raise for what has to be there for every image and is not."""
    for name, each in {"masks": questions.masks, "boxes": questions.boxes, **questions.maps}.items():
        if each is not None and not callable(each) and len(each) != images:
            raise InputError(f"{name} holds {len(each)} entries for {plural(images, 'image')}; pass one for each.")
    if taken := sorted(questions.maps.keys() & CONTROLS.keys()):
        raise OptionError(f"maps= holds {taken[0]!r}, which is a control of every evaluation; call them otherwise.")
    for target in questions.request.targets:
        if is_of_each(target) and len(target) != images:
            raise InputError(f"a list of {len(target)} targets came for {plural(images, 'image')}; pass one for each.")
    if images > 2 and len(questions.request.targets) == images and not questions.crossed:
        raise InputError(
            f"targets= has {images} entries for {images} images. For one target of each image pass them as one entry, "
            "targets=[labels]; to ask each of them of all images pass a tuple."
        )


def _asked(session: Session, questions: Questions) -> dict[str, Any]:
    """What an evaluation is of: the same again goes on, anything else is another."""
    return {
        **asked(session, questions.request),
        "metrics": {each.name: {k: identity(v) for k, v in options.items()} for each, options in questions.metrics},
        "maps": sorted(questions.maps),
        "controls": questions.controls,
        "sanity": questions.sanity,
        "seed": questions.seed,
        "precision": questions.run.precision,
    }


def _evaluation(journal: Journal, images: Images, questions: Questions, question: Mapping[str, Any]) -> Evaluation:
    """What the journal says of these images and of the mosaics of them."""
    parts = journal.found
    known = {metric.name: metric for metric, _ in questions.metrics}
    known |= {metric.name: metric for metric in questions.looked_into}
    rows = tuple([row for part in parts for row in part.rows if row["sample"] in journal.wanted])
    return Evaluation(
        rows=rows,
        curves={key: each for part in parts for key, each in part.curves.items() if key[-1] in journal.wanted},
        at={name: at for part in parts for name, at in part.at.items()},
        metrics=known,
        seconds=_seconds(parts),
        failures={name: why for part in parts for name, why in part.failures.items()},
        notes=(*dict.fromkeys(note for part in parts for note in part.notes), *_off(parts)),
        asked={
            **question,
            "images": len({name for part in parts for name in part.samples}.intersection(images.names)),
            "forwards": sum(part.forwards for part in parts),
        },
    )


def _seconds(parts: Sequence[Part]) -> dict[tuple[str, str], float]:
    """What an image takes, by method and layer; mosaics are not timed."""
    seconds, counts = dict[tuple[str, str], float](), dict[tuple[str, str], int]()
    for part in parts:
        for key, each in part.seconds.items():
            seconds[key] = seconds.get(key, 0.0) + each * len(part.samples)
            counts[key] = counts.get(key, 0) + len(part.samples)
    return {key: each / counts[key] for key, each in seconds.items()}


def _off(parts: Sequence[Part]) -> list[str]:
    """How far a fast copy's scores are from the network's at most, if one was used."""
    most = max((part.deviation for part in parts), default=0.0)
    return [f"its scores differ from the network's by at most {most:.2g}, over samples of variants"] if most else []
