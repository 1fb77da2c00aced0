"""A run from its source to its folder, by an engine that says where the work is done."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from whycam.engine.identity import asked
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.kit.progress import Progress
from whycam.kit.words import plural
from whycam.pictures.preprocess import Preprocess
from whycam.runs import local
from whycam.runs.explaining import Worker
from whycam.runs.keeping import Kept
from whycam.runs.run import Run
from whycam.runs.sources import Source
from whycam.runs.store import Store


def run(
    session: Session,
    source: Source,
    out: Path,
    request: Request,
    kept: Kept,
    *,
    batch: int,
    workers: int,
    retry: bool,
    new: bool,
    progress: Progress,
) -> Run:
    """Explain every image of a source that the folder does not hold yet; see `Explainer.run`."""
    question = {**asked(session, request), **kept.asked, **_input(session)}
    with Store.create_or_continue(out, question, new=new, retry=retry) as store:
        worker = Worker(session, request, kept, store.folder, known=bool(store.done))
        if store.done:
            progress.say(f"going on: {plural(len(store.done), 'image')} were explained before ({store.folder})")
        left = (item for item in source if item.id not in store.done)
        total = None if source.length is None else max(source.length - len(store.done), 0)
        with progress.of("explaining", total, "images") as advance:
            for rows in local.explained(left, worker, batch=batch, workers=workers):
                store.add(rows)
                advance(len({row["source"] for row in rows}))
        folder = store.folder
    return Run(folder)


def _input(session: Session) -> dict[str, Any]:
    """How photos become the input, where that is a value: maps are drawn over their photos by it."""
    preprocess = session.vision.preprocess
    return {"input": asdict(preprocess)} if isinstance(preprocess, Preprocess) else {}
