"""The engine on one machine: decoded beside the network, explained batch by batch, kept shard by shard."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from whycam.engine.identity import asked
from whycam.engine.inputs import Batch, make_batch, prepared_batch
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.kit.progress import Progress
from whycam.kit.words import plural
from whycam.pictures.preprocess import Preprocess
from whycam.results.explanation import Comparison
from whycam.runs.decoding import Decoded, decoded
from whycam.runs.rows import failed_row, rows_of
from whycam.runs.run import Run
from whycam.runs.sources import open_source
from whycam.runs.store import Store


def run(
    session: Session,
    source: Any,
    out: Path,
    request: Request,
    *,
    batch: int,
    workers: int,
    map_type: str,
    retry: bool,
    new: bool,
    progress: Progress,
) -> Run:
    """Explain every image of a source that the folder does not hold yet; see `Explainer.run`."""
    items = open_source(source)
    question = {**asked(session, request), "maps": map_type, **_input(session)}
    with Store.create_or_continue(out, question, new=new, retry=retry) as store:
        if store.done:
            progress.say(f"going on: {plural(len(store.done), 'image')} were explained before ({store.folder})")
        preprocess = session.vision.preprocess
        shared = preprocess if isinstance(preprocess, Preprocess) else None
        left = (item for item in items if item.id not in store.done)
        total = None if items.length is None else max(items.length - len(store.done), 0)
        known = bool(store.done)
        with progress.of("explaining", total, "images") as advance:
            for several in decoded(left, shared, batch=batch, workers=workers):
                for rows in explained(session, several, request, map_type, known=known):
                    store.add(rows)
                    known = known or "map" in rows[0]
                advance(len(several))
        folder = store.folder
    return Run(folder)


def _input(session: Session) -> dict[str, Any]:
    """How photos become the input, where that is a value: maps are drawn over their photos by it."""
    preprocess = session.vision.preprocess
    return {"input": asdict(preprocess)} if isinstance(preprocess, Preprocess) else {}


def explained(
    session: Session, several: Sequence[Decoded], request: Request, map_type: str, *, known: bool
) -> Iterator[list[dict[str, Any]]]:
    """The rows of some items, those of equal shape in one batch. What cannot be read or explained is a row too.

    Args:
        known: whether the network has been asked before with success, so that a refusal is an image's own.
    """
    for each in several:
        if each.error:
            yield [failed_row(each, each.error)]
    readable = [each for each in several if not each.error]
    refused = dict[str, tuple[Decoded, WhycamError]]()
    for _, group in groupby(sorted(readable, key=_together), _together):
        for some, made in _each_or_all(session, [*group], request, refused):
            known = True
            yield [*rows_of(some, made, map_type)]
    for each, why in refused.values():
        if not known:
            raise why
        yield [failed_row(each, str(why))]


def _each_or_all(
    session: Session, several: list[Decoded], request: Request, refused: dict[str, tuple[Decoded, WhycamError]]
) -> Iterator[tuple[list[Decoded], Comparison]]:
    """All of them in one batch, or where that is refused each by itself; those that are refused alone are noted."""
    try:
        yield several, _compared(session, several, request)
    except WhycamError as error:
        if len(several) == 1:
            refused[several[0].item.id] = several[0], error
            return
        for each in several:
            yield from _each_or_all(session, [each], request, refused)


def _together(each: Decoded) -> tuple[int, ...]:
    """What has to be equal in a batch: whether the source says a target, and the input's shape, or else the photo's."""
    assert each.size is not None  # it was read
    return each.item.target is None, *(each.size if each.prepared is None else each.prepared[0].shape)


def _compared(session: Session, several: Sequence[Decoded], request: Request) -> Comparison:
    if several[0].item.target is not None:  # and so of all of them
        request = replace(request, targets=([each.item.target for each in several],))
    with session.tree():
        return session.run(_batch(session, several, request), request)


def _batch(session: Session, several: Sequence[Decoded], request: Request) -> Batch:
    prepared = [each.prepared for each in several if each.prepared is not None]
    if prepared:
        return prepared_batch(session.vision, prepared)
    return make_batch(session.vision, [each.photo for each in several], request.views)
