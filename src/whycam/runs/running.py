"""A run from its source to its folder, by an engine that says where the work is done."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from whycam.engine.identity import asked
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.kit.progress import Progress
from whycam.kit.words import plural
from whycam.runs import local
from whycam.runs.explaining import Worker
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
    worker = Worker(session, request, map_type)
    question = {**asked(session, request), "maps": map_type}
    if worker.preprocess is not None:  # by which maps are drawn over their photos
        question["input"] = asdict(worker.preprocess)
    with Store.create_or_continue(out, question, new=new, retry=retry) as store:
        if store.done:
            progress.say(f"going on: {plural(len(store.done), 'image')} were explained before ({store.folder})")
            worker.known = True
        left = (item for item in items if item.id not in store.done)
        total = None if items.length is None else max(items.length - len(store.done), 0)
        with progress.of("explaining", total, "images") as advance:
            for rows in local.explained(left, worker, batch=batch, workers=workers):
                store.add(rows)
                advance(len({row["source"] for row in rows}))
        folder = store.folder
    return Run(folder)
