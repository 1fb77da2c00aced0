"""Work that waits for the networks: two lanes, so that what is quick is not behind what is slow; bounded; cancelled."""

import secrets
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Condition, Thread
from typing import Any, Literal, TypeAlias

from whycam.errors import WhycamError
from whycam.kit.progress import Progress
from whycam.kit.words import first_line
from whycam.page.refusals import Refused, unknown

#: How many jobs may wait in each lane, and how many that are over are remembered in all.
WAITING, REMEMBERED = 32, 256

State: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]
Lane: TypeAlias = Literal["quick", "slow"]


class Cancelled(BaseException):
    """Nobody waits for this work any more. Like Ctrl-C it is no error of the work's, and passes what handles these."""


class Job(Progress):
    """A piece of work, how far it is, and what became of it."""

    def __init__(self, work: Callable[["Job"], Any], lane: Lane) -> None:
        super().__init__(False)
        self.id, self.lane = secrets.token_hex(8), lane
        self.work: Callable[[Job], Any] | None = work
        self.state: State = "waiting"
        self.future: Future[Any] = Future()
        self.error: WhycamError | None = None
        self.done = 0
        self.total: int | None = None
        self.stopped = False
        self.started: float | None = None
        self.ended: float | None = None
        self._block: float | None = None  # when the runs that are counted now began

    def tick(self) -> None:
        """Stop here if the job was cancelled."""
        if self.stopped:
            raise Cancelled

    @contextmanager
    def of(self, what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        """Count the runs of a block of work."""
        self.done, self.total, self._block = 0, total, time.monotonic()

        def advance(runs: int) -> None:
            self.tick()
            self.done += runs

        yield advance
        self._block = None

    @property
    def seconds(self) -> float:
        """How long it has been running, or ran."""
        if self.started is None:
            return 0.0
        return (self.ended if self.ended is not None else time.monotonic()) - self.started

    @property
    def about_seconds(self) -> float | None:
        """How long the runs that are counted now will still take, where that is known."""
        if self._block is None or self.total is None or not self.done or self.state != "running":
            return None
        return (time.monotonic() - self._block) / self.done * max(0, self.total - self.done)


class Jobs:
    """The lanes, a thread each, and the jobs that are known by their ids."""

    def __init__(self, waiting: int = WAITING) -> None:
        self.most = waiting
        self._lanes: dict[Lane, deque[Job]] = {"quick": deque(), "slow": deque()}
        self._known: OrderedDict[str, Job] = OrderedDict()
        self._changed = Condition()
        self._closed = False
        self._threads = [Thread(target=self._run, args=(lane,), name=f"whycam {lane}", daemon=True)
                         for lane in self._lanes]  # fmt: skip
        for each in self._threads:
            each.start()

    def submit(self, work: Callable[[Job], Any], lane: Lane) -> Job:
        """Let work wait for its turn.

        Raises:
            Refused: too much is waiting already.
        """
        job = Job(work, lane)
        with self._changed:
            waiting = self._lanes[lane]
            if len(waiting) >= self.most:
                raise Refused(503, f"{len(waiting)} requests are waiting already; try again in a few seconds.", again=5)
            waiting.append(job)
            self._known[job.id] = job
            over = [each.id for each in self._known.values() if each.ended is not None]
            for oldest in over[: max(0, len(self._known) - REMEMBERED)]:
                del self._known[oldest]
            self._changed.notify_all()
        return job

    def find(self, name: str) -> Job:
        """The job of that id.

        Raises:
            Refused: there is none (any more).
        """
        with self._changed:
            if name not in self._known:
                raise unknown("job", name)
            return self._known[name]

    def ahead(self, job: Job) -> int:
        """How many jobs are done before this one begins."""
        with self._changed:
            if job.state != "waiting":
                return 0
            running = any(each.state == "running" and each.lane == job.lane for each in self._known.values())
            return self._lanes[job.lane].index(job) + running

    def cancel(self, job: Job) -> None:
        """Take a job out of its lane, or stop it at its next run; what is over stays as it is."""
        with self._changed:
            job.stopped = True
            if job.state == "waiting":
                self._lanes[job.lane].remove(job)
                self._over(job, "cancelled")

    def close(self, seconds: float | None = None) -> bool:
        """Cancel everything, and wait for so long until what is running has ended; whether it has."""
        with self._changed:
            self._closed = True
            for job in list(self._known.values()):
                if job.ended is None:
                    self.cancel(job)
            self._changed.notify_all()
        for each in self._threads:
            each.join(seconds)
        return not any(each.is_alive() for each in self._threads)

    def _run(self, lane: Lane) -> None:
        while (job := self._next(lane)) is not None:
            assert job.work is not None  # let go when the job is over
            try:
                made = job.work(job)
            except Cancelled:
                self._end(job, "cancelled")
            except WhycamError as error:
                self._end(job, "failed", error=error)
            except Exception as error:  # the network's own code may raise anything, and the lane goes on
                traceback.print_exc()
                self._end(job, "failed", error=WhycamError(f"{type(error).__name__}: {first_line(error)}"))
            else:
                self._end(job, "done", made)
            del job

    def _next(self, lane: Lane) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._lanes[lane])
            if self._closed:
                return None
            job = self._lanes[lane].popleft()
            job.state, job.started = "running", time.monotonic()
            return job

    def _end(self, job: Job, state: State, made: Any = None, error: WhycamError | None = None) -> None:
        with self._changed:
            self._over(job, state, made, error)

    def _over(self, job: Job, state: State, made: Any = None, error: WhycamError | None = None) -> None:
        job.state, job.ended, job.error, job.work = state, time.monotonic(), error, None
        if state == "done":
            job.future.set_result(made)
        else:
            job.future.set_exception(error or Refused(409, "this was cancelled."))
