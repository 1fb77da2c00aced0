"""Photos read, and prepared for the network, in worker processes beside it."""

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from whycam.engine.identity import bytes_of
from whycam.errors import PhotoError
from whycam.kit.files import at_home, digits
from whycam.pictures.geometry import Geometry
from whycam.pictures.photos import Photo, read_photo
from whycam.pictures.preprocess import Preprocess
from whycam.runs.sources import Item


@dataclass(frozen=True)
class Decoded:
    """An item as a worker gives it back.

    Attributes:
        content: sixteen hexadecimal digits of what the photo holds, or none where it cannot be read.
        size: the photo's height and width. `photo`: itself, where the main process needs it; small if only to draw on.
        prepared: the network's input and where it lies on the photo, by a `Preprocess`.
        error: why it cannot be read.
    """

    item: Item
    content: str = ""
    size: tuple[int, int] | None = None
    photo: Photo | None = None
    prepared: tuple[Tensor, Geometry] | None = None
    error: PhotoError | None = None


class _Decoder(Dataset[Decoded]):
    """Decodes items where a loader's worker runs it."""

    def __init__(self, preprocess: Preprocess | None, drawn: bool) -> None:
        self.preprocess, self.drawn = preprocess, drawn

    def __getitems__(self, items: Sequence[Item]) -> list[Decoded]:
        return [decode(item, self.preprocess, self.drawn) for item in items]


def decoded(
    items: Iterable[Item], preprocess: Preprocess | None, *, batch: int, workers: int, drawn: bool = False
) -> Iterator[list[Decoded]]:
    """The items in their order, so many at once; no more are drawn from the source than are under way.

    Args:
        preprocess: what is applied in the workers; where there is none the photos come back whole.
        drawn: whether photos come back to be drawn on.
    """
    loader: Iterable[_Sent] = DataLoader(
        _Decoder(preprocess, drawn),
        batch_sampler=Chunks(items, batch),  # of items in place of their numbers
        collate_fn=_sent,
        num_workers=workers,
        worker_init_fn=_bound,
        generator=torch.Generator(),  # which the caller's random numbers are not
    )
    with _held_back():
        sent = iter(loader)
    return map(_received, sent)


@contextmanager
def _held_back() -> Iterator[None]:
    """A block in which processes are forked, after which the signals to stop arrive that came in it.

    What a handler raises while Python forks, it ignores: a run would go on as if nobody had stopped it.
    """
    came = list[int]()
    before = dict[int, Any]()
    if threading.current_thread() is threading.main_thread():  # which alone has handlers
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        before = {each: handler for each, handler in before.items() if handler is not None}  # set by other than Python
    try:
        for each in before:
            signal.signal(each, lambda number, _: came.append(number))
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    for number in came:
        signal.raise_signal(number)


def decode(item: Item, preprocess: Preprocess | None, drawn: bool = False) -> Decoded:
    """One item, read and prepared; what cannot be is said."""
    held: Any = item.photo
    try:
        if isinstance(held, Path):
            photo = read_photo(held)  # first, for its sentences about what cannot be opened
            content = at_home(held).read_bytes()
        else:
            photo = read_photo(held)
            content = held if isinstance(held, bytes) else bytes_of(held)
        made = None if preprocess is None else preprocess(photo)
    except PhotoError as error:
        return Decoded(item, error=error)
    except OSError as error:
        return Decoded(item, error=PhotoError(str(error)))
    said = digits([content])
    photo = replace(photo, content=said)
    kept = photo if preprocess is None else photo.to_draw if drawn else None
    return Decoded(item, said, photo.size, kept, made)


class Chunks:
    """Chunks of an iterable, which a loader draws when it needs them."""

    def __init__(self, items: Iterable[Item], size: int) -> None:
        self.items, self.size = items, size

    def __iter__(self) -> Iterator[list[Item]]:
        drawn = iter(self.items)
        while chunk := list(islice(drawn, self.size)):
            yield chunk


#: Decoded items without their inputs; and these, of each shape in one, with the items' numbers and where they lie.
_Sent: TypeAlias = tuple[list[Decoded], list[tuple[list[int], list[Geometry], Tensor]]]


def _sent(several: list[Decoded]) -> _Sent:
    """As a worker gives them: each tensor takes an open file, of which a process has 1,024 on many machines."""
    by_shape: dict[torch.Size, dict[int, tuple[Tensor, Geometry]]] = {}
    for number, each in enumerate(several):
        if each.prepared is not None:
            by_shape.setdefault(each.prepared[0].shape, {})[number] = each.prepared
    inputs = []
    for held in by_shape.values():
        tensors, places = zip(*held.values(), strict=True)
        inputs.append(([*held], [*places], torch.stack(tensors)))
    return [replace(each, prepared=None) for each in several], inputs


def _received(sent: _Sent) -> list[Decoded]:
    several, inputs = sent
    for numbers, places, tensors in inputs:
        for number, place, each in zip(numbers, places, tensors, strict=True):
            several[number] = replace(several[number], prepared=(each, place))
    return several


def _bound(_: int) -> None:
    """Leave Ctrl-C and SIGTERM to the main process, which ends the workers; and end where that one is gone.

    A loader's worker looks for that by itself, but not while it waits for somebody to take what it gives.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    sys.excepthook = _hook
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Say what goes wrong in a worker's thread that hands tensors over, but not that nobody takes them any more.

    So it is where a run was stopped, and multiprocessing would print it into the sentence that says so.
    """
    if not isinstance(error, (EOFError, OSError)):
        sys.__excepthook__(kind, error, trace)


def _end_with(main: Any) -> None:
    main.join()
    os._exit(1)
