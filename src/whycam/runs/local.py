"""The engine on one machine: photos are decoded beside the network, and pictures drawn behind it."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from whycam.runs.decoding import decoded
from whycam.runs.explaining import Worker
from whycam.runs.sources import Item

Rows = list[dict[str, Any]]


def explained(items: Iterable[Item], worker: Worker, *, batch: int, workers: int) -> Iterator[Rows]:
    """The rows of items, all those of an image in one list, so many items under way at once."""
    drawn = bool(worker.kept.overlays)
    chunks = decoded(items, worker.preprocess, batch=batch, workers=workers, drawn=drawn)
    if not worker.kept.pictures:
        for several in chunks:
            yield from worker(several)
        return
    threads = max(workers, 1)
    behind: deque[Future[Rows]] = deque()
    with ThreadPoolExecutor(threads, "whycam-draws") as pool:
        for several in chunks:
            for made in worker.explained(several):
                behind.append(pool.submit(worker.rows, made))
                if len(behind) > threads:
                    yield behind.popleft().result()
        while behind:
            yield behind.popleft().result()
