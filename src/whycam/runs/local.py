"""The engine on one machine: photos are decoded beside the network."""

from collections.abc import Iterable, Iterator
from typing import Any

from whycam.runs.decoding import decoded
from whycam.runs.explaining import Worker
from whycam.runs.sources import Item


def explained(items: Iterable[Item], worker: Worker, *, batch: int, workers: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of items, all those of an image in one list, so many items under way at once."""
    for several in decoded(items, worker.preprocess, batch=batch, workers=workers):
        yield from worker(several)
