"""Work that waits: lanes, bounds, cancelling, and what became of it."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import nets
import pages
import pytest

from whycam.errors import WhycamError
from whycam.page.jobs import REMEMBERED, Job, Jobs
from whycam.page.refusals import Refused


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    made = Jobs(waiting=3)
    yield made
    made.close(20)


def until(true: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


class Gate:
    """Work that waits until it is let go, and looks for a cancel meanwhile."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, job: Job) -> str:
        while not self.open.wait(0.002):
            job.tick()
        return "through"


def test_quick_work_is_not_behind_slow_work(jobs: Jobs) -> None:
    gate = Gate()
    slow = [jobs.submit(gate, "slow") for _ in range(3)]
    assert jobs.submit(lambda _: 7, "quick").future.result(20) == 7
    assert [jobs.ahead(each) for each in slow[1:]] == [1, 2]
    gate.open.set()
    assert [each.future.result(20) for each in slow] == ["through"] * 3
    assert [each.state for each in slow] == ["done"] * 3


def test_what_waits_is_bounded_and_refused_politely(jobs: Jobs) -> None:
    gate = Gate()
    first = jobs.submit(gate, "slow")
    until(lambda: first.state == "running")
    for _ in range(3):
        jobs.submit(gate, "slow")
    with pytest.raises(Refused, match="3 requests are waiting already; try again") as caught:
        jobs.submit(gate, "slow")
    assert (caught.value.status, caught.value.again) == (503, 5)
    jobs.submit(lambda _: 1, "quick").future.result(20)  # the other lane takes more
    gate.open.set()


def test_waiting_work_is_cancelled_before_it_begins(jobs: Jobs) -> None:
    gate, begun = Gate(), threading.Event()
    jobs.submit(gate, "slow")
    waiting = jobs.submit(lambda _: begun.set(), "slow")
    last = jobs.submit(lambda _: "last", "slow")
    jobs.cancel(waiting)
    assert (waiting.state, jobs.ahead(last)) == ("cancelled", 1)
    gate.open.set()
    assert last.future.result(20) == "last"
    assert not begun.is_set()
    with pytest.raises(Refused, match="cancelled"):
        waiting.future.result()


def test_running_work_is_cancelled_at_its_next_run(jobs: Jobs) -> None:
    running = jobs.submit(Gate(), "slow")
    until(lambda: running.state == "running")
    jobs.cancel(running)
    until(lambda: running.state == "cancelled")
    assert jobs.submit(lambda _: 3, "slow").future.result(20) == 3  # the lane goes on
    jobs.cancel(running)
    assert running.state == "cancelled"


def test_errors_become_sentences_and_the_lane_goes_on(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(_: Job) -> None:
        raise WhycamError("no such layer.")

    def broken(_: Job) -> None:
        raise RuntimeError("a size does not match\nand more")

    ours, theirs = jobs.submit(wrong, "quick"), jobs.submit(broken, "quick")
    assert jobs.submit(lambda _: 3, "quick").future.result(20) == 3
    assert (ours.state, str(ours.error)) == ("failed", "no such layer.")
    assert (theirs.state, str(theirs.error)) == ("failed", "RuntimeError: a size does not match")
    assert "RuntimeError: a size does not match" in capsys.readouterr().err  # the traceback is for who runs the server


def test_progress_is_told(jobs: Jobs) -> None:
    counted, go = threading.Event(), threading.Event()

    def work(job: Job) -> None:
        with job.of("RISE", 8, "runs") as advance:
            time.sleep(0.02)
            advance(2)
            counted.set()
            go.wait(20)
        with job.of("another", None, "runs") as advance:
            advance(5)

    job = jobs.submit(work, "slow")
    assert counted.wait(20)
    assert (job.state, job.done, job.total) == ("running", 2, 8)
    assert job.about_seconds == pytest.approx(3 * job.seconds, rel=0.5)
    go.set()
    job.future.result(20)
    assert (job.done, job.total, job.about_seconds) == (5, None, None)
    taken = job.seconds
    time.sleep(0.02)
    assert job.seconds == taken > 0.02


def test_what_is_over_is_remembered_for_a_while(jobs: Jobs) -> None:
    gate = Gate()
    running = jobs.submit(gate, "slow")
    first = jobs.submit(lambda _: 0, "quick")
    first.future.result(20)
    assert jobs.find(first.id) is first
    for number in range(REMEMBERED + 3):
        jobs.submit(lambda _, number=number: number, "quick").future.result(20)
    with pytest.raises(Refused, match="there is no job") as caught:
        jobs.find(first.id)
    assert caught.value.status == 404
    assert jobs.find(running.id) is running  # older, and not over
    gate.open.set()


def test_closing_ends_the_threads() -> None:
    made = Jobs()
    jobs = [made.submit(Gate(), lane) for lane in ("quick", "slow", "slow")]  # type: ignore[arg-type]
    until(lambda: jobs[0].state == jobs[1].state == "running")
    assert made.close(20)
    assert [each.state for each in jobs] == ["cancelled"] * 3
    assert not [
        each for each in threading.enumerate() if each.name in ("whycam quick", "whycam slow") and each in made._threads
    ]


@pytest.mark.parametrize(
    "method", ["rise", "score_cam", "opti_cam", "integrated_grad_cam", "smooth_grad_cam_plus_plus"]
)
def test_a_slow_method_is_cancelled_and_leaves_the_network_as_found(method: str) -> None:
    network = pages.model(seconds=0.03)
    before = nets.state(network.module)
    many = {"rise": {"samples": 10_000}, "opti_cam": {"steps": 5000}, "integrated_grad_cam": {"steps": 3000},
            "smooth_grad_cam_plus_plus": {"samples": 3000}, "score_cam": {}}[method]  # fmt: skip
    with pages.asking(pages.page(network)) as asking:
        sent = asking.add(pages.photo())["id"]
        asking.ask(sent, "grad_cam")
        job = asking.begin(sent, *(["rise"] if method == "score_cam" else []), {"name": method, "options": many})
        until(lambda: asking.get(f"jobs/{job}")["state"] == "running")
        asking.ask(sent, "grad_cam", targets=["1"])  # which does not wait
        assert asking.get(f"jobs/{job}")["state"] == "running"
        time.sleep(0.2)
        began = time.monotonic()
        assert asking.client.delete(f"/api/jobs/{job}").status_code == 200
        found = asking.wait(job)
        assert (found["state"], found["result"], found["error"]) == ("cancelled", None, None)
        assert time.monotonic() - began < 5
        assert not nets.differences(before, nets.state(network.module))
        asking.ask(sent, "grad_cam")


def test_smoothing_is_cancelled_between_its_passes() -> None:
    network, runs = pages.model(seconds=0.3), []
    network.module.register_forward_pre_hook(lambda *_: runs.append(1))
    with pages.asking(pages.page(network)) as asking:
        sent = asking.add(pages.photo())["id"]
        asking.ask(sent, "grad_cam")
        runs.clear()
        job = asking.begin(sent, "grad_cam", smoothing="augmentations")
        until(lambda: runs)
        asking.client.delete(f"/api/jobs/{job}")
        assert asking.wait(job)["state"] == "cancelled"
        assert len(runs) < 4  # of six
