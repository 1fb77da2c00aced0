"""The engine on a Ray cluster: tasks read photos, actors hold the network, and Ray Data moves chunks between them.

Ray schedules, limits what is under way, and repeats what was lost with a worker. A row of its data set is one chunk of
`batch` images, so that batches are those of the local engine and so are the maps; rows come back in the source's order.
The source is walked by one task as chunks are needed, so that no machine ever holds it whole.
"""

import io
import logging
import os
import signal
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from whycam.errors import OptionError, WhycamError, missing
from whycam.kit.words import first_line, plural
from whycam.pictures.preprocess import Preprocess
from whycam.runs.decoding import Chunks, decode
from whycam.runs.explaining import Worker
from whycam.runs.gate import Gate
from whycam.runs.sources import Item

try:
    import ray
    import ray.data
except ImportError:
    raise missing("ray", "ray", "the engine 'ray'") from None

#: Ray Data's threads, by how their names begin, and the seconds that they are waited for. Its prefetcher sleeps
#: until an error's traceback is let go.
_THREADS, _PATIENCE = ("StreamingExecutor", "iter_threaded", "ray-data"), 30

#: What Ray says while it starts and works, which is no sentence about the run.
_CHATTER = ("ray", "ray.data", "ray._private.worker", "ray.data._internal.progress")

#: Chunks that are under way at most. Ray Data's queues would grow in the driver as the source is walked.
_AHEAD = 2000
#: Whether Ray may send statistics of its use.
_STATISTICS = "RAY_USAGE_STATS_ENABLED"


@dataclass(frozen=True)
class _Parcel:
    """A cell of Ray's data set, which pickles what is no number, text or list.

    Attributes:
        held: a chunk of items, then of decoded ones, then the rows of each image.
        known: whether any of the chunk could be explained.
        error: why all of it was refused, or why the source cannot be read further.
    """

    held: list[Any]
    known: bool = False
    error: WhycamError | None = None


@contextmanager
def explained(
    items: Iterable[Item],
    worker: Worker,
    *,
    batch: int,
    workers: int | None = None,
    num_gpus: float | None = None,
    concurrency: int | None = None,
) -> Iterator[Iterator[list[dict[str, Any]]]]:
    """A block with the rows of items, all those of an image in one list; where pictures are drawn, actors write them.

    Args:
        items: pickled, for the task that walks them; what they read has to be there on every machine.
        workers: how many tasks read photos at once. Left out, Ray decides: as many as it has room for where actors have
            GPUs, else each actor reads its own.
        num_gpus: of each actor, or a part of one; without, the network runs on one CPU of each.
        concurrency: how many actors there are; as many as Ray has room for unless said.
    """
    if workers == 0:
        raise OptionError("workers=0 is for engine='local'; leave it out, or say how many tasks read photos at once.")
    walked = _pickled(items, "the source", "Pass a path, or a list")
    network = _pickled(
        worker,
        "the model",
        "What PyTorch networks are made of has to be in modules that every machine can import; Keras models stay here",
    )
    with _ray(workers, num_gpus, concurrency):
        held = ray.put(network)  # fetched once by each machine
        with ray.data.DataContext.current(_settings()):  # which a data set keeps that is made here
            rows = (
                ray.data.from_items([{"chunk": 0}])
                .flat_map(
                    _Walk(walked, batch, _AHEAD, (gate := ray.remote(num_cpus=0, max_restarts=-1)(Gate).remote())),
                    num_cpus=0,
                )
                # Ray joins this with an actor that needs the same and no more
                .map(
                    _Decode(worker.preprocess, bool(worker.kept.overlays)),
                    num_cpus=1,
                    compute=ray.data.TaskPoolStrategy(size=workers),
                )
                .map(
                    _Explain,
                    fn_constructor_args=(held, bool(num_gpus)),
                    compute=ray.data.ActorPoolStrategy(size=concurrency, min_size=None if concurrency else 1),
                    **({"num_gpus": num_gpus} if num_gpus else {"num_cpus": 1}),
                )
            )
        with closing(_counted(rows.iter_rows(), gate)) as counted, closing(_each_image(counted, worker)) as made:
            yield made


def _counted(rows: Iterable[Mapping[str, Any]], gate: Any) -> Generator[Mapping[str, Any], None, None]:
    """The rows, told to the gate: Ray Data limits the bytes that are under way, and chunks of paths have few."""
    walked: Any = iter(rows)
    with closing(walked):  # which an error's traceback would keep open, and Ray Data's threads with it
        for number, row in enumerate(walked):
            if number % (_AHEAD // 20) == 0:
                gate.say.remote(number)
            yield row


def _each_image(rows: Iterable[Mapping[str, Any]], worker: Worker) -> Generator[list[dict[str, Any]], None, None]:
    """What came of the chunks, in the source's order; only here is known whether anything was explained before."""
    try:
        for row in rows:
            parcel: _Parcel = row["chunk"]
            if parcel.error is not None and not (parcel.held and worker.known):
                raise parcel.error
            worker.known |= parcel.known
            yield from parcel.held
    except ray.exceptions.RayTaskError:
        raise  # as what was raised there
    except ray.exceptions.RayError as error:
        raise WhycamError(
            f"Ray gave up: {error} What was explained is kept; once that is put right the same call goes on."
        ) from error


class _Walk:
    """Walks the source: one row becomes its chunks, one at a time, so many ahead of what has come back."""

    def __init__(self, items: bytes, size: int, ahead: int, gate: Any) -> None:
        self.items, self.size, self.ahead, self.gate = items, size, ahead, gate

    def __call__(self, _: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            passed = 0
            for number, chunk in enumerate(Chunks(_unpickled(self.items), self.size)):
                while number - passed > self.ahead:
                    time.sleep(0.1)
                    passed = ray.get(self.gate.ask.remote())
                yield {"chunk": _Parcel(chunk)}
        except WhycamError as error:
            yield {"chunk": _Parcel([], error=error)}


class _Decode:
    """Reads the photos of a chunk."""

    def __init__(self, preprocess: Preprocess | None, drawn: bool) -> None:
        self.preprocess, self.drawn = preprocess, drawn

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        parcel: _Parcel = row["chunk"]
        read = [decode(each, self.preprocess, self.drawn) for each in parcel.held]
        return {"chunk": _Parcel(read, error=parcel.error)}


class _Explain:
    """An actor with the network."""

    def __init__(self, worker: Any, on_gpu: bool) -> None:
        self.broken: WhycamError | None = None
        try:
            self.worker: Worker = _unpickled(ray.get(worker), "cuda" if on_gpu else "cpu")
        except Exception as error:  # whatever a module that is absent, or its own code, raises
            said = f"{type(error).__name__}: {first_line(error)}"
            self.broken = WhycamError(f"an actor cannot load the model ({said}). Install there what it is made of.")

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        parcel: _Parcel = row["chunk"]
        if self.broken is not None:
            parcel = _Parcel([], error=self.broken)
        if parcel.error is not None:
            return {"chunk": parcel}
        refused = None
        self.worker.known = False
        try:
            made = [*self.worker(parcel.held)]
        except WhycamError as error:  # whether it is the run's or each image's own is known where all chunks arrive
            refused, self.worker.known = error, True
            made = [*self.worker(parcel.held)]
        return {"chunk": _Parcel(made, self.worker.known and refused is None, refused)}


def _pickled(value: Any, what: str, advice: str) -> bytes:
    """As `torch.save` pickles, so that tensors can be loaded to another device."""
    held = io.BytesIO()
    try:
        torch.save(value, held, pickle_module=ray.cloudpickle)
    except Exception as error:  # whatever an object's own code raises
        raise WhycamError(
            f"engine='ray' sends {what} to other processes, and it cannot be pickled: {error}. {advice}, or use "
            "engine='local'."
        ) from error
    return held.getvalue()


def _unpickled(held: bytes, device: str = "cpu") -> Any:
    return torch.load(io.BytesIO(held), map_location=device, weights_only=False)  # our own bytes


def _settings() -> Any:
    """Ray Data's, of this run alone."""
    made = ray.data.DataContext.get_current().copy()
    made.execution_options.preserve_order = True
    made.target_max_block_size = 1  # a chunk goes on as soon as it is there
    made.enable_progress_bars = False
    return made


@contextmanager
def _ray(workers: int | None, num_gpus: float | None, concurrency: int | None) -> Iterator[None]:
    """Ray runs, and is quiet. Where it did not it is started, without a dashboard or statistics sent, and ended."""
    levels = {name: logging.getLogger(name).level for name in _CHATTER}
    statistics = os.environ.get(_STATISTICS)
    started = not ray.is_initialized()
    try:
        for name in _CHATTER:
            logging.getLogger(name).setLevel(logging.ERROR)
        if started:
            os.environ[_STATISTICS] = statistics or "0"  # read whenever Ray Data is used
            _start()
            _check_room(workers, num_gpus, concurrency)
        yield
    finally:
        _wait_for_threads()
        if started:
            ray.shutdown()
            if statistics is None:
                os.environ.pop(_STATISTICS, None)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _wait_for_threads() -> None:
    """Let Ray Data's threads end: one that asks Ray for something when that has ended would end this whole process."""
    deadline = time.monotonic() + _PATIENCE
    for each in threading.enumerate():
        if each.name.startswith(_THREADS):
            each.join(max(0.0, deadline - time.monotonic()))


def _start() -> None:
    """A cluster that the environment names, or that runs on this machine, or one of this machine alone."""
    handles = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if handles else None
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    finally:
        if handles:
            signal.signal(signal.SIGTERM, before)  # Ray puts its own in its place


def _check_room(workers: int | None, num_gpus: float | None, concurrency: int | None) -> None:
    """Refuse to wait for what this machine will never have; a cluster may grow."""
    actors, there = concurrency or 1, ray.cluster_resources()
    wanted = {"CPU": actors, "GPU": 0.0}
    if num_gpus:
        wanted = {"CPU": 1, "GPU": actors * num_gpus}
    elif workers:
        wanted["CPU"] += 1
    for kind, count in wanted.items():
        if count > there.get(kind, 0):
            raise OptionError(
                f"{plural(actors, 'actor')} and what reads photos need {count:g} {kind}s, and this machine has "
                f"{there.get(kind, 0):g}; ask for less, or start Ray on the machines that have them (ray start)."
            )
