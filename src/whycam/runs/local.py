"""The engine on one machine: photos are decoded beside the network, and pictures drawn behind it."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from whycam.kit.behind import behind
from whycam.runs.decoding import decoded
from whycam.runs.explaining import Made, Worker
from whycam.runs.sources import Item


@contextmanager
def explained(
    items: Iterable[Item], worker: Worker, *, batch: int, workers: int | None = None
) -> Iterator[Iterator[list[dict[str, Any]]]]:
    """A block with the rows of items, all those of an image in one list, so many items under way at once."""
    workers = 1 if workers is None else workers
    drawn = bool(worker.kept.overlays)
    threads = max(workers, 1) if worker.kept.pictures else 0
    # closed, since a traceback that is kept would keep the processes that read photos, and Python waits for these
    with (
        closing(made_of(items, worker, batch=batch, workers=workers, drawn=drawn)) as made,
        closing(behind((partial(worker.rows, each) for each in made), threads)) as rows,
    ):
        yield rows


def made_of(
    items: Iterable[Item], worker: Worker, *, batch: int, workers: int, drawn: bool
) -> Generator[Made, None, None]:
    """The maps of items, batch by batch.

    Args:
        drawn: whether photos are to be drawn on.
    """
    for several in decoded(items, worker.preprocess, batch=batch, workers=workers, drawn=drawn):
        yield from worker.explained(several)
