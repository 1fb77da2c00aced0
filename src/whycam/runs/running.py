"""A run from its source to its folder, by an engine that says where the work is done."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from whycam.engine.identity import asked, is_of_each
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import OptionError
from whycam.kit.files import digits
from whycam.kit.progress import Progress
from whycam.kit.words import plural
from whycam.pictures.preprocess import Preprocess
from whycam.runs.explaining import Worker, usual_batch
from whycam.runs.keeping import Kept
from whycam.runs.left import Left
from whycam.runs.manifest import keep_said
from whycam.runs.parts import finish, part_of
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
    batch: int | None,
    workers: int | None,
    retry: bool,
    new: bool,
    engine: str = "local",
    flags: Mapping[str, Any] | None = None,
    shard: tuple[int, int] | None = None,
    progress: Progress,
) -> Run:
    """Explain every image of a source that the folder does not hold yet; see `Explainer.run`.

    Args:
        flags: of the engine; those that are `None` were not given.

    Raises:
        OptionError: what no run can be: no images at once, fewer than no workers, a target of each image.
    """
    if batch is None:
        batch = 16 if (flags or {}).get("num_gpus") else usual_batch(session)
    if batch < 1:
        raise OptionError(f"batch is a number of images, 1 or more, not {batch}.")
    if workers is not None and workers < 0:
        raise OptionError(f"workers is a number of processes, 0 or more, not {workers}.")
    if any(map(is_of_each, request.targets)):
        raise OptionError(
            "a target of a run is asked of every image, and one for each came. Let the source say them: "
            "(id, photo, target), or a column of targets."
        )
    explained = _engine(engine, {name: value for name, value in (flags or {}).items() if value is not None})
    out = out if shard is None else part_of(out, shard, new)
    question = {**asked(session, request), **kept.asked, **_input(session), **_names_and_precision(session, request)}
    with Store.create_or_continue(out, question, new=new, retry=retry) as store:
        if source.given:
            keep_said(store.folder, source=str(Path(source.given).absolute()))
        worker = Worker(session, request, kept, store.folder.absolute(), known=store.has_maps)
        if store.done:
            progress.say(f"going on: {plural(len(store.done), 'image')} were explained before ({store.folder})")
        left = Left(source, store.done, shard or (1, 1))
        with (
            explained(left, worker, batch=batch, workers=workers) as made,
            store,  # closed before what made the rows is ended, which may take longer than a stopped job is given
            progress.of("explaining", left.length, "images") as advance,
        ):
            for rows in made:
                store.add(rows)
                advance(len({row["source"] for row in rows}))
    if shard is not None:
        finish(store.folder)
    return Run(store.folder)


def _input(session: Session) -> dict[str, Any]:
    """How photos become the input, where that is a value: maps are drawn over their photos by it."""
    preprocess = session.vision.preprocess
    return {"input": asdict(preprocess)} if isinstance(preprocess, Preprocess) else {}


def _names_and_precision(session: Session, request: Request) -> dict[str, Any]:
    """What else makes a row what it is: how its classes are called, and by how exact a copy scores were had."""
    labels, precision = session.vision.labels, request.run.precision
    named = {} if labels is None else {"labels": digits([repr(tuple(labels)).encode()])}
    return named | ({} if precision is None else {"precision": precision})


def _engine(name: str, flags: Mapping[str, Any]) -> Callable[..., Any]:
    """What makes rows of items."""
    if name not in _ENGINES:
        raise OptionError(f"engine is {' or '.join(map(repr, _ENGINES))}, not {name!r}.")
    module, taken = _ENGINES[name]
    if unknown := [flag for flag in flags if flag not in taken]:
        raise OptionError(f"{unknown[0]}= is for engine='ray'; leave it out for engine={name!r}.")
    return partial(import_module(module).explained, **flags)


#: Engine -> the module with its `explained`, imported where it is used, and the flags that it takes.
_ENGINES = {"local": ("whycam.runs.local", ()), "ray": ("whycam.runs.on_ray", ("num_gpus", "concurrency"))}
