"""What goes wrong while a run goes on: nothing that was done is lost, and what was not is said."""

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import connection

import nets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import whycam
from whycam.runs.decoding import _bound, _held_back, decode, decoded
from whycam.runs.sources import Item
from whycam.runs.store import Store

PREPROCESS = whycam.Preprocess((16, 16), "stretch", mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.fixture
def vision():
    return whycam.VisionModel(nets.plain().float(), PREPROCESS, None, "plain")


def photo(path, number):
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        photo(tmp_path / "photos" / f"{number}.png", number)
    return tmp_path / "photos"


def when(vision, calls, act):
    """Do something to the source before the so-many-th answer of the network."""
    left = [calls]

    def hook(*_):
        left[0] -= 1
        if left[0] == 0:
            act()

    vision.module.register_forward_pre_hook(hook)


def errors(run):
    return {row["source"]: row["error"] for row in run.table.to_pylist()}


def test_a_photo_that_vanishes_is_a_row_and_the_others_are_explained(vision, folder, tmp_path):
    when(vision, 2, lambda: (folder / "5.png").unlink())
    run = whycam.run(vision, folder, tmp_path / "out", layer="relu2", batch=1, workers=0)
    found = errors(run)
    assert "there is no such file" in found.pop("5.png")
    assert found == dict.fromkeys([f"{number}.png" for number in range(5)])


def test_a_photo_that_changes_is_known_by_what_was_read(vision, folder, tmp_path):
    whole = whycam.run(vision, folder, tmp_path / "whole", layer="relu2", workers=0)
    when(vision, 2, lambda: photo(folder / "5.png", 77))
    run = whycam.run(vision, folder, tmp_path / "out", layer="relu2", batch=1, workers=0)
    before, after = (
        dict(zip(*one.table.select(["source", "content"]).to_pydict().values(), strict=True)) for one in (whole, run)
    )
    assert {name for name in before if before[name] != after[name]} == {"5.png"}
    torch.testing.assert_close(
        run[5].maps, whycam.explain(vision, folder / "5.png", layer="relu2").maps, rtol=2e-3, atol=1e-4
    )


def test_photos_that_are_added_are_explained_by_the_same_call_once_more(vision, folder, tmp_path):
    def act():
        photo(folder / "a" / "new.png", 9)
        photo(folder / "0a.png", 10)

    when(vision, 3, act)
    whycam.run(vision, folder, tmp_path / "out", layer="relu2", batch=1, workers=0)
    run = whycam.run(vision, folder, tmp_path / "out", layer="relu2", batch=1, workers=0)
    assert sorted(errors(run)) == sorted([*(f"{number}.png" for number in range(6)), "0a.png", "a/new.png"])
    assert len(run) == 8


def test_a_source_that_breaks_off_keeps_what_came_before(vision, folder, tmp_path):
    def broken():
        for number in range(3):
            yield f"{number}", folder / f"{number}.png"
        raise ConnectionError("the line is dead")

    with pytest.raises(ConnectionError, match="the line is dead"):
        whycam.run(vision, broken(), tmp_path / "out", layer="relu2", batch=1, workers=0)
    assert list(errors(whycam.open_run(tmp_path / "out"))) == ["0", "1", "2"]
    listed = [(f"{number}", folder / f"{number}.png") for number in range(6)]
    assert len(whycam.run(vision, listed, tmp_path / "out", layer="relu2", workers=0)) == 6


def test_a_second_run_into_the_folder_is_refused_while_the_first_goes_on(vision, folder, tmp_path):
    refused = []

    def act():
        with pytest.raises(whycam.WhycamError, match="another run writes to") as caught:
            whycam.run(vision, folder, tmp_path / "out", layer="relu2", workers=0)
        refused.append(caught)

    when(vision, 2, act)
    assert len(whycam.run(vision, folder, tmp_path / "out", layer="relu2", batch=2, workers=0)) == 6
    assert len(refused) == 1


def test_one_answer_of_a_whole_batch_hangs_on_no_neighbor(vision, folder, tmp_path):
    asked = {"method": "deep_feature_factorization", "layer": "relu2", "maps": "float32", "workers": 0}
    several = whycam.run(vision, folder, tmp_path / "several", batch=6, **asked)
    alone = whycam.run(vision, folder, tmp_path / "alone", batch=1, **asked)
    for number in range(6):
        assert torch.equal(several[number].maps, alone[number].maps)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_processes_are_forked_arrives_after(number):
    before, seen = signal.getsignal(number), []
    signal.signal(number, lambda *_: seen.append("stopped"))
    try:
        with _held_back():
            signal.raise_signal(number)
            seen.append("forked")
        assert seen == ["forked", "stopped"]
    finally:
        signal.signal(number, before)


#: Reads photos that no pipe holds, for somebody who takes one and then no more.
READER = """
import sys
import numpy as np
from whycam.runs.decoding import decoded
from whycam.runs.sources import Item
items = [Item(str(n), np.full((1000, 1000, 3), n, np.uint8)) for n in range(6)]
held = decoded(items, None, batch=1, workers=2)
next(held)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_processes_that_read_photos_end_with_a_killed_run_also_while_they_wait():
    child = subprocess.Popen([sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    time.sleep(0.5)  # until they wait
    child.kill()
    child.communicate(timeout=10)  # its output ends when nobody has it any more


def test_a_photo_knows_its_content_so_that_no_file_is_read_again(folder):
    held = decode(Item("5", folder / "5.png"), PREPROCESS, drawn=True)
    assert held.photo.content == held.content == hashlib.sha256((folder / "5.png").read_bytes()).hexdigest()[:16]


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_processes_that_read_photos_leave_sigterm_to_the_run():
    """A scheduler sends it to all of them."""
    loaded = decoded([_Ends() for _ in range(3)], None, batch=1, workers=1)
    assert [len(each) for each in loaded] == [1, 1, 1]


@pytest.mark.parametrize("overlays", [None, "jpg"])
def test_a_traceback_that_is_kept_keeps_no_processes(overlays, vision, tmp_path, monkeypatch):
    """As a prompt keeps the last one; Python's end would wait for them forever."""
    rows = []

    def stopped(_, several):
        rows.append(several)
        if len(rows) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "add", stopped)
    photos = [(str(number), np.full((20, 24, 3), number, np.uint8)) for number in range(9)]
    before = {*multiprocessing.active_children()}
    with pytest.raises(KeyboardInterrupt) as caught:
        whycam.run(vision, photos, tmp_path / "out", layer="relu2", batch=1, workers=2, overlays=overlays)
    assert caught.tb is not None
    assert {*multiprocessing.active_children()} <= before


class _Handed:
    """Open files, as a worker hands them over."""

    def __len__(self):
        return 9  # more than a worker prepares at once, so that it stays

    def __getitem__(self, number):
        return multiprocessing.reduction.DupFd(os.open(os.devnull, os.O_RDONLY))


@pytest.mark.skipif(sys.platform == "win32", reason="files are handed over as POSIX does")
def test_what_a_stopped_run_does_not_take_is_no_traceback(capfd):
    loaded = iter(DataLoader(_Handed(), batch_size=None, num_workers=1, worker_init_fn=_bound))
    handed = next(loaded)
    address, _ = handed._id
    for said in ("nothing", ("no key", os.getpid())):
        with connection.Client(address, authkey=multiprocessing.current_process().authkey) as gone:
            if said != "nothing":
                gone.send(said)
    os.close(handed.detach())  # it still hands over, and what came before was heard
    del loaded  # ends the worker, which a failed test would keep
    error = capfd.readouterr().err
    assert "EOFError" not in error
    assert "KeyError: 'no key'" in error  # what goes wrong there otherwise is said


class _Ends(Item):
    """A photo whose reading gets a SIGTERM."""

    def __init__(self):
        super().__init__("0", np.zeros((4, 4, 3), np.uint8))

    def __setstate__(self, state):
        self.__dict__.update(state)
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_picture_that_was_half_written_is_written_over_and_never_merged(vision, folder, tmp_path):
    where = tmp_path / "out" / "shard-1-of-1"
    (where / "overlays").mkdir(parents=True)
    (where / "overlays" / ".0.png.grad_cam.jpg.part").write_bytes(b"half")
    (where / "overlays" / ".gone.png.grad_cam.jpg.part").write_bytes(b"half")
    asked = {"method": "grad_cam", "overlays": "jpg", "workers": 0}
    whycam.run(vision, folder, tmp_path / "out", **asked, shard=(1, 1))
    names = [f"{number}.png.grad_cam.jpg" for number in range(6)]
    assert sorted(each.name for each in (where / "overlays").iterdir()) == [".gone.png.grad_cam.jpg.part", *names]
    merged = whycam.merge_shards(tmp_path / "out")
    assert sorted(each.name for each in (merged.folder / "overlays").iterdir()) == names


def test_a_wrong_question_is_said_also_where_only_failures_are_kept(vision, folder, tmp_path):
    (folder / "0.png").write_bytes(b"no photo")
    asked = {"target": 99, "layer": "relu2", "batch": 1, "workers": 0}
    for _ in range(2):  # the first photo cannot be read, and then the question is at fault
        with pytest.raises(whycam.WhycamError, match="99"):
            whycam.run(vision, folder, tmp_path / "out", **asked)
    assert list(errors(whycam.open_run(tmp_path / "out"))) == ["0.png"]
