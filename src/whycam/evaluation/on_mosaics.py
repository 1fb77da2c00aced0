"""Metrics of mosaics of the images that are evaluated, in which each class has its own cell."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.evaluation.explained import ASKED, Explained
from whycam.evaluation.images import Images
from whycam.evaluation.journal import Journal, Part
from whycam.evaluation.mosaics import Mosaics, mosaics
from whycam.evaluation.quantities import Asking
from whycam.evaluation.questions import Questions, add, places
from whycam.kit.files import digits
from whycam.kit.metric import Measurement, Metric
from whycam.kit.progress import Progress


def measure_mosaics(
    session: Session, images: Images, questions: Questions, batch: int, journal: Journal, progress: Progress
) -> None:
    """Every metric of mosaics at every place. What keeps mosaics from being made is a failure of the metric."""
    for metric, options in questions.metrics:
        if not metric.mosaics:
            continue
        try:
            made, names = _made(session, images, metric.with_defaults(options), questions, batch)
            digests = {name: _digest(images, photos) for name, photos in zip(names, made.photos.tolist(), strict=True)}
            done = {name for name, digest in journal.samples.items() if digest and digests.get(name) == digest}
            journal.wanted |= digests.keys()
            left = [number for number, name in enumerate(names) if name not in done]
            with progress.of("evaluating", len(left), "mosaics") as advance:
                for numbers in (left[start : start + batch] for start in range(0, len(left), batch)):
                    part = Part({names[number]: digests[names[number]] for number in numbers})
                    with session.tree():
                        _measure(session, made, numbers, metric, questions, part)
                    journal.add(part)
                    advance(len(numbers))
        except WhycamError as error:  # a network that takes no other size, say
            journal.add(Part(failures={metric.name: str(error)}))
            continue
        journal.add(Part(notes=[f"{metric.title}: {len(made)} mosaics of {made.side} x {made.side} photos"]))


def _digest(images: Images, photos: Sequence[int]) -> str:
    """Of what a mosaic's photos hold."""
    return digits(images.digest(photo).encode() for photo in photos)


def _made(
    session: Session, images: Images, options: Mapping[str, Any], questions: Questions, batch: int
) -> tuple[Mosaics, list[str]]:
    """The mosaics of the images that can be read and that the network is sure of, and how each is called, which is by
    its photos. One forward of each image."""
    inputs, classes, probabilities = list[Tensor](), list[Tensor](), list[Tensor]()
    readable = list[int]()
    request = Request.one(ASKED.function, None, None, None, {}, output=questions.request.output)
    for start, stop in images.batches(batch):
        given, missing = images.some(range(start, stop))
        readable += [number for number in range(start, stop) if images.names[number] not in missing]
        if len(given):
            with session.tree():
                found = Explained(session, session.batch(given, request), request)
            bound = Asking(found, 0)
            index, output = bound.bound.class_index, found.maker.recording.output
            if index is None:
                raise WhycamError("mosaics are made of photos of known classes, and this network gives none.")
            if inputs and bound.inputs.shape[1:] != inputs[0].shape[1:]:
                raise WhycamError("mosaics are made of photos of one size as the network takes them; these differ.")
            inputs.append(bound.inputs)
            classes.append(index)
            probabilities.append(bound.bound.as_probability()(output))
    made = mosaics(
        torch.cat(inputs),
        torch.cat(classes),
        torch.cat(probabilities),
        side=options["side"],
        confidence=options["confidence"],
        shrink=options["shrink"],
        seed=questions.seed,
    )
    made = replace(made, photos=torch.tensor(readable)[made.photos.cpu()])
    return made, ["+".join(images.names[number] for number in photos) for photos in made.photos.tolist()]


def _measure(
    session: Session, made: Mosaics, numbers: Sequence[int], metric: Metric, questions: Questions, part: Part
) -> None:
    """One batch of mosaics: each cell's class is explained, and the mean over the cells is the mosaic's value."""
    some = torch.tensor(numbers, device=made.inputs.device)
    targets = tuple(made.classes[some, cell].tolist() for cell in range(made.side**2))
    maps = {name: each for name, each in questions.maps.items() if callable(each)}
    asked = replace(questions, maps=maps, request=replace(questions.request, targets=targets))
    explained = Explained(session, session.batch(made.inputs[some], asked.request), asked.request, asked.run)
    values: dict[tuple[str, str, str], list[Tensor]] = {}
    statuses: dict[tuple[str, str, str], Any] = {}
    named = "top" if questions.request.targets[0] is None else "own"
    for cell, target in enumerate(explained.targets):
        asking = Asking(explained, cell, made.mask(cell)[numbers])
        for place, make, status in places(explained, asking, cell, target, numbers, asked):
            at = (place[0], place[1], named)
            try:
                values.setdefault(at, []).append(asking.measure(metric, make(), {}).values)
            except WhycamError as error:
                part.failures.setdefault(f"{metric.name} of {place[0]} at {place[1]}", str(error))
            statuses.setdefault(at, status)
    for at, cells in values.items():
        if len(cells) == made.side**2:
            add(part, at, metric.name, [*part.samples], Measurement(torch.stack(cells).mean(0)), statuses[at])
