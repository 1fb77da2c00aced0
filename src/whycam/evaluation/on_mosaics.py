"""Metrics of mosaics of the images that are evaluated, in which each class has its own cell."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.evaluation.explained import ASKED, Explained
from whycam.evaluation.images import Images
from whycam.evaluation.journal import Part
from whycam.evaluation.mosaics import Mosaics, mosaics
from whycam.evaluation.quantities import Asking
from whycam.evaluation.questions import Questions, add, places
from whycam.kit.metric import Measurement, Metric


def measure_mosaics(session: Session, images: Images, questions: Questions, batch: int) -> Part:
    """Every metric of mosaics at every place. What keeps mosaics from being made is a failure of the metric."""
    part = Part()
    for metric, options in questions.metrics:
        if metric.mosaics:
            try:
                made = _made(session, images, metric.with_defaults(options), questions, batch)
                for start in range(0, len(made), batch):
                    with session.tree():
                        _measure(session, made, range(start, min(start + batch, len(made))), metric, questions, part)
            except WhycamError as error:  # a network that takes no other size, say
                part.failures[metric.name] = str(error)
                continue
            part.notes.append(f"{metric.title}: {len(made)} mosaics of {made.side} x {made.side} photos")
    return part


def _made(session: Session, images: Images, options: Mapping[str, Any], questions: Questions, batch: int) -> Mosaics:
    """The mosaics of the images that can be read and that the network is sure of; one forward of each image."""
    inputs, classes, probabilities = list[Tensor](), list[Tensor](), list[Tensor]()
    request = Request.one(ASKED.function, None, None, None, {}, output=questions.request.output)
    for start, stop in images.batches(batch):
        given, _ = images.some(range(start, stop))
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
    return mosaics(
        torch.cat(inputs),
        torch.cat(classes),
        torch.cat(probabilities),
        side=options["side"],
        confidence=options["confidence"],
        shrink=options["shrink"],
        seed=questions.seed,
    )


def _measure(session: Session, made: Mosaics, numbers: range, metric: Metric, questions: Questions, part: Part) -> None:
    """One batch of mosaics: each cell's class is explained, and the mean over the cells is the mosaic's value."""
    some = slice(numbers.start, numbers.stop)
    targets = tuple(made.classes[some, cell].tolist() for cell in range(made.side**2))
    maps = {name: each for name, each in questions.maps.items() if callable(each)}
    asked = replace(questions, maps=maps, request=replace(questions.request, targets=targets))
    explained = Explained(session, session.batch(made.inputs[some], asked.request), asked.request, asked.run)
    values: dict[tuple[str, str, str], list[Tensor]] = {}
    statuses: dict[tuple[str, str, str], Any] = {}
    named = "top" if questions.request.targets[0] is None else "own"
    for cell, target in enumerate(explained.targets):
        asking = Asking(explained, cell, made.mask(cell)[some])
        for place, make, status in places(explained, asking, cell, target, numbers, asked):
            at = (place[0], place[1], named)
            try:
                values.setdefault(at, []).append(asking.measure(metric, make(), {}).values)
            except WhycamError as error:
                part.failures.setdefault(f"{metric.name} of {place[0]} at {place[1]}", str(error))
            statuses.setdefault(at, status)
    names = [f"mosaic{number}" for number in numbers]
    for at, cells in values.items():
        if len(cells) == made.side**2:
            add(part, at, metric.name, names, Measurement(torch.stack(cells).mean(0)), statuses[at])
