"""The store of a run: every image once, whatever stops the writer, and filters that read no map."""

import errno
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
import pytest

from whycam.errors import MissingExtraError, OptionError, WhycamError
from whycam.runs import lock
from whycam.runs.store import COLUMNS, Store, drop_damaged, packed, unpacked

ASKED = {"model": "resnet18", "method": "grad_cam"}


def row(number, **other):
    shown = {
        "source": f"{number:04d}.jpg",
        "width": 640,
        "height": 480,
        "prediction": "cat" if number % 2 else "dog",
        "score": number / 4,
        "method": "grad_cam",
        "status": "ok" if number % 5 else "empty",
    }
    return {**shown, **packed([[number, 0.5]]), **other}


def written(folder, count=10, **options):
    with Store.create_or_continue(folder, ASKED, **{"rows_per_shard": 4, **options}) as store:
        store.add([row(number) for number in range(count) if row(number)["source"] not in store.done])
    return Store.open(folder)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def flip(path, at=None):
    held = bytearray(path.read_bytes())
    held[len(held) // 2 if at is None else at] ^= 1
    path.write_bytes(held)


def test_rows_come_back_in_their_order(tmp_path):
    store = written(tmp_path / "run")
    assert len(store) == 10
    assert [name[:12] for name in store.shards] == ["part-000000-", "part-000001-", "part-000002-"]
    assert [pyarrow.parquet.read_metadata(tmp_path / "run/shards" / name).num_rows for name in store.shards] == [
        4,
        4,
        2,
    ]
    assert store.table(["source", "score"]).to_pylist() == [
        {"source": f"000{number}.jpg", "score": number / 4} for number in range(10)
    ]
    assert store.done == {f"000{number}.jpg" for number in range(10)}
    assert store.asked == ASKED


def test_a_table_has_every_column_but_the_map(tmp_path):
    store = written(tmp_path)
    assert store.table().column_names == [name for name in COLUMNS if name != "map"]
    assert store.table(["map"])["map"].to_pylist()[3] == np.array([3, 0.5], "<f2").tobytes()
    assert store.table().schema.metadata == {b"whycam.schema": b"1"}
    assert store.table().schema.field("map_shape").type == pyarrow.list_(pyarrow.int32())
    with pytest.raises(OptionError, match="a run has no column 'maps'; it has source, content"):
        store.table(["maps"])


def test_rows_are_filtered(tmp_path):
    field = pyarrow.compute.field
    found = written(tmp_path).table(["source"], filter=(field("prediction") == "dog") & (field("status") == "ok"))
    assert found["source"].to_pylist() == ["0002.jpg", "0004.jpg", "0006.jpg", "0008.jpg"]


def test_a_row_is_found_by_its_number(tmp_path):
    store = written(tmp_path)
    for number in (0, 3, 4, 7, 9):
        assert store.row(number)["score"] == number / 4
        assert unpacked(store.row(number)).tolist() == [[number, 0.5]]
    assert store.row(4)["label"] is None
    for number in (-1, 10):
        with pytest.raises(IndexError, match=f"rows are 0 to 9, not {number}"):
            store.row(number)


def test_a_row_reads_no_other_shard(tmp_path):
    store = written(tmp_path)
    assert len(store) == 10
    for name in (store.shards[0], store.shards[2]):
        (tmp_path / "shards" / name).unlink()
    assert store.row(5)["source"] == "0005.jpg"


def test_a_map_comes_back_as_it_is_kept():
    assert packed([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]) == {
        "map": np.arange(1, 7).astype("<f2").tobytes(),
        "map_shape": [3, 2],
        "map_type": "float16",
    }
    for values, kind, expected in [
        ([0.0, 65504.0], "float16", "float16"),
        ([0.0, 65536.0], "float16", "float32"),  # infinite in half precision
        ([0.0, 2.0**-14], "float16", "float16"),
        ([0.0, -3e-7], "float16", "float32"),  # three bits are left of it there
        ([0.0, 0.0], "float16", "float16"),
        ([0.0, np.nan], "float16", "float32"),
        ([0.0, 1.0], "float32", "float32"),
    ]:
        kept = packed(values, kind)
        assert kept["map_type"] == expected, values
        np.testing.assert_array_equal(unpacked(kept), np.float32(values))
    assert unpacked({"map": None}) is None


def test_the_rows_of_an_image_stay_in_one_shard(tmp_path):
    with Store.create_or_continue(tmp_path, ASKED, rows_per_shard=4) as store:
        for number in range(5):
            store.add([row(number, method=method) for method in ("grad_cam", "layer_cam", "cam")])
    held = [pyarrow.parquet.read_table(tmp_path / "shards" / name)["source"].to_pylist() for name in store.shards]
    assert held == [["0000.jpg"] * 3 + ["0001.jpg"] * 3, ["0002.jpg"] * 3 + ["0003.jpg"] * 3, ["0004.jpg"] * 3]


def test_a_shard_is_written_when_it_is_full(tmp_path):
    with Store.create_or_continue(tmp_path, ASKED, rows_per_shard=4) as store:
        store.add([row(0), row(1), row(2)])
        assert store.shards == []
        assert store.done == set()
        store.add([row(3), row(4)])
        assert len(store) == 4
        assert store.done == {"0000.jpg", "0001.jpg", "0002.jpg", "0003.jpg"}
        store.flush()
        assert len(store) == 5
        assert "0004.jpg" in store.done


def test_an_image_is_added_once(tmp_path):
    with Store.create_or_continue(tmp_path, ASKED, rows_per_shard=2) as store:
        store.add([row(0), row(1), row(2)])
        for number in (1, 2):  # in a shard, waiting
            with pytest.raises(
                WhycamError, match=rf"'000{number}\.jpg' has rows in .* already; an image is added once"
            ):
                store.add([row(number)])
    assert len(Store.open(tmp_path)) == 3


def test_metrics_are_columns(tmp_path):
    with Store.create_or_continue(tmp_path, {"metrics": ["insertion"]}) as store:
        store.add([row(0, **{"metric.insertion": 0.1}), row(1)])
        with pytest.raises(
            OptionError, match=r"a run has no column 'metric\.deletion'; it has .*, metric\.insertion\."
        ):
            store.add([row(2, **{"metric.deletion": 0.1})])
    assert Store.open(tmp_path).table(["metric.insertion"])["metric.insertion"].to_pylist() == [0.1, None]


def test_going_on_asks_only_what_is_missing(tmp_path):
    written(tmp_path, 6)
    store = written(tmp_path, 10)
    assert store.table(["source"])["source"].to_pylist() == [f"000{number}.jpg" for number in range(10)]
    assert [name[5:11] for name in store.shards] == ["000000", "000001", "000002"]


def test_another_configuration_is_refused_and_lets_the_lock_go(tmp_path):
    written(tmp_path)
    with pytest.raises(WhycamError, match=r"method was 'grad_cam' and is 'cam'\. .* pass --new"):
        Store.create_or_continue(tmp_path, {**ASKED, "method": "cam"})
    assert len(written(tmp_path, 11)) == 11


def test_a_new_run_stands_beside(tmp_path):
    written(tmp_path / "run")
    with Store.create_or_continue(tmp_path / "run", {"method": "cam"}, new=True) as store:
        store.add([row(0)])
    assert store.folder == tmp_path / "run-2"
    assert len(Store.open(tmp_path / "run-2")) == 1
    assert len(Store.open(tmp_path / "run")) == 10


def test_shards_of_nobody_knows_what_are_refused(tmp_path):
    written(tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(WhycamError, match=r"holds shards and no run\.json that says of what"):
        Store.create_or_continue(tmp_path, ASKED)


def test_no_rows_in_a_shard_are_refused(tmp_path):
    with pytest.raises(OptionError, match="1 or more, not 0"):
        Store.create_or_continue(tmp_path, ASKED, rows_per_shard=0)


def test_a_run_without_rows_is_an_empty_table(tmp_path):
    store = written(tmp_path, 0)
    assert len(store) == 0
    assert store.table().num_rows == 0
    assert store.done == set()


def test_failed_images_are_done_and_tried_again_where_asked(tmp_path):
    with Store.create_or_continue(tmp_path, ASKED, rows_per_shard=4) as store:
        store.add([row(number, error="no photo" if number in (1, 8, 9) else None) for number in range(10)])
    assert "0001.jpg" in written(tmp_path, 0).done

    with Store.create_or_continue(tmp_path, ASKED, rows_per_shard=4, retry=True) as store:
        assert store.done == {f"000{number}.jpg" for number in (0, 2, 3, 4, 5, 6, 7)}
        assert len(store) == 7
        assert store.damaged() == []
        store.add([row(number) for number in (1, 8, 9)])
    found = Store.open(tmp_path).table(["source", "error"])
    assert sorted(found["source"].to_pylist()) == [f"000{number}.jpg" for number in range(10)]
    assert found["error"].null_count == 10
    assert unpacked(Store.open(tmp_path).row(1)).tolist() == [[2, 0.5]]


def test_every_row_of_a_failed_image_is_forgotten(tmp_path):
    with Store.create_or_continue(tmp_path, ASKED) as store:
        store.add([row(0), row(1, method="cam", error="no weights"), row(1), row(2)])
    with Store.create_or_continue(tmp_path, ASKED, retry=True) as store:
        assert store.done == {"0000.jpg", "0002.jpg"}
        assert len(store) == 2


def test_a_crash_while_failed_images_are_forgotten_leaves_no_image_twice(tmp_path, monkeypatch):
    with Store.create_or_continue(tmp_path, ASKED, rows_per_shard=4) as store:
        store.add([row(number, error="no photo" if number == 1 else None) for number in range(8)])
    before = {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    Store.create_or_continue(tmp_path, ASKED, retry=True).close()
    for name, data in before.items():
        (tmp_path / "shards" / name).write_bytes(data)  # as if it had ended before it deleted
    assert len(files(tmp_path / "shards")) == 3

    assert len(Store.open(tmp_path)) == 7
    assert "0001.jpg" not in Store.open(tmp_path).done
    Store.create_or_continue(tmp_path, ASKED).close()
    assert len(files(tmp_path / "shards")) == 2


def test_what_a_killed_writer_left_half_written_is_deleted(tmp_path):
    written(tmp_path)
    (tmp_path / "shards/.part-000003-0123456789abcdef.parquet.x7").write_bytes(b"PAR1")
    (tmp_path / ".run.json.x7").write_bytes(b"{")
    assert len(Store.open(tmp_path)) == 10
    assert (tmp_path / ".run.json.x7").exists()  # a reader deletes nothing
    Store.create_or_continue(tmp_path, ASKED).close()
    assert files(tmp_path) == ["lock", "run.json", "shards"]
    assert files(tmp_path / "shards") == Store.open(tmp_path).shards


WRITER = """
import sys
from pathlib import Path
from pyarrow import dataset, parquet
from whycam.runs.store import Store, packed
assert "torch" not in sys.modules
with Store.create_or_continue(Path(sys.argv[1]), {"method": "grad_cam"}, rows_per_shard=20) as store:
    done = set(store.done)
    print("ready", flush=True)
    for number in range(500):
        if (source := f"{number}.jpg") not in done:
            store.add([{"source": source, "score": number / 4, **packed([[number, 1]])}])
print("done", flush=True)
"""


def writer(folder):
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)


# of 25 shards four, or one, fit between two kills at most, so that the last ones find work left
@pytest.mark.parametrize(("kills", "most"), [(10, 4), pytest.param(50, 1.2, marks=pytest.mark.slow)])
def test_killed_at_random_moments_every_image_is_there_once(tmp_path, kills, most):
    with writer(tmp_path / "whole") as child:
        assert child.stdout.readline() == "ready\n"
        started = time.perf_counter()
        assert child.stdout.readline() == "done\n"
        shard = (time.perf_counter() - started) / 25

    moments = random.Random(0)
    sizes, stopped = [0], 0
    for _ in range(kills):
        with writer(tmp_path) as child:
            assert child.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0, most * shard))
            child.kill()
        stopped += child.returncode == -signal.SIGKILL
        sizes.append(len(Store.open(tmp_path)))
        assert sizes[-1] % 20 == 0
    assert sizes == sorted(sizes)
    assert stopped > kills / 2  # or hardly anything was tested
    assert sizes[-1] > 0

    with writer(tmp_path) as child:
        assert child.stdout.read() == "ready\ndone\n"
    assert child.returncode == 0
    store = Store.open(tmp_path)
    found = store.table(["source", "score", "map"]).to_pylist()
    assert Counter(each["source"] for each in found) == Counter(f"{number}.jpg" for number in range(500))
    assert all(each["source"] == f"{each['score'] * 4:.0f}.jpg" for each in found)
    assert all(each["map"] == packed([[each["score"] * 4, 1]])["map"] for each in found)
    assert store.damaged() == []
    assert files(tmp_path / "shards") == store.shards


def test_an_interrupt_writes_what_waits(tmp_path):
    def interrupted():
        with Store.create_or_continue(tmp_path, ASKED) as store:
            store.add([row(0), row(1)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(Store.open(tmp_path)) == 2
    assert len(written(tmp_path, 3)) == 3


def test_an_interrupt_after_the_rename_leaves_no_image_twice(tmp_path, monkeypatch):
    def interrupted(folder):
        raise KeyboardInterrupt

    with Store.create_or_continue(tmp_path, ASKED, rows_per_shard=2) as store:
        store.add([row(0)])
        with monkeypatch.context() as patch:
            patch.setattr("whycam.kit.files.sync_folder", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.flush()
        store.add([row(1), row(2)])
    assert Store.open(tmp_path).table(["source"])["source"].to_pylist() == ["0000.jpg", "0001.jpg", "0002.jpg"]


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    store = Store.create_or_continue(tmp_path, ASKED, rows_per_shard=4)
    store.add([row(number) for number in range(5)])

    def full(handle, mode):
        os.close(handle)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("whycam.kit.files.os.fdopen", full)
        with pytest.raises(
            WhycamError, match=r"No space left on device\. What it holds is kept: once that is put right"
        ):
            store.add([row(number) for number in range(5, 10)])
        assert files(tmp_path / "shards") == store.shards
        assert len(store) == 4
        with pytest.raises(WhycamError, match="No space left"):
            store.flush()
        with pytest.raises(ZeroDivisionError), store:  # what stopped the run is said, and not the disk again
            raise ZeroDivisionError
    assert len(Store.open(tmp_path)) == 4
    assert len(written(tmp_path)) == 10


def test_after_a_full_disk_the_same_store_goes_on(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store.create_or_continue(tmp_path, ASKED, rows_per_shard=4) as store:
        with monkeypatch.context() as patch:
            patch.setattr("whycam.kit.files.sync_folder", full)
            with pytest.raises(WhycamError, match="No space left"):
                store.add([row(number) for number in range(10)])
        assert files(tmp_path / "shards") == []
    assert Store.open(tmp_path).table(["source"])["source"].to_pylist() == [f"000{number}.jpg" for number in range(10)]


def test_shards_are_on_the_disk_before_and_after_they_get_their_name(tmp_path, monkeypatch):
    steps = []
    kinds = {True: "folder", False: "file"}
    replace = Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: steps.append(kinds[stat.S_ISDIR(os.fstat(handle).st_mode)]))
    monkeypatch.setattr(Path, "replace", lambda path, to: (steps.append("rename"), replace(path, to))[1])
    with Store.create_or_continue(tmp_path, ASKED) as store:
        steps.clear()
        store.add([row(0)])
    assert steps == ["file", "rename", "folder"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_says_so(tmp_path):
    written(tmp_path)
    for folder in (tmp_path, tmp_path / "shards"):
        folder.chmod(0o555)
    (tmp_path / "lock").chmod(0o444)
    try:
        assert len(Store.open(tmp_path)) == 10
        with pytest.raises(WhycamError, match="cannot be read or written: Permission denied"):
            written(tmp_path, 11)
    finally:
        for folder in (tmp_path, tmp_path / "shards"):
            folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(WhycamError, match="run cannot be read or written: Not a directory"):
        Store.create_or_continue(tmp_path / "file/run", ASKED)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("whycam.kit.files.tempfile.mkstemp", refuse)
    with pytest.raises(WhycamError, match="cannot be read or written: Read-only file system"):
        Store.create_or_continue(tmp_path / "run", ASKED)
    monkeypatch.undo()
    assert len(written(tmp_path / "run")) == 10  # and the lock was let go


def test_a_second_writer_is_refused_and_readers_are_not(tmp_path):
    with Store.create_or_continue(tmp_path, ASKED, rows_per_shard=1) as store:
        store.add([row(0)])
        with pytest.raises(WhycamError, match=rf"another run writes to .* \(process {os.getpid()} on .*\)\. Wait"):
            Store.create_or_continue(tmp_path, ASKED)
        with writer(tmp_path) as child:
            assert child.stdout.read() == ""
        assert child.returncode == 1
        assert len(Store.open(tmp_path)) == 1
    assert len(written(tmp_path, 2)) == 2


def test_a_reader_cannot_write(tmp_path):
    store = written(tmp_path)
    with pytest.raises(WhycamError, match=r"is not open for writing\. Store\.create_or_continue"):
        store.add([row(20)])
    store.close()


FORKER = """
import os, sys, time
from pathlib import Path
from whycam.runs.store import Store
store = Store.create_or_continue(Path(sys.argv[1]), {"method": "grad_cam"})
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_worker_that_outlives_a_killed_writer_holds_no_lock(tmp_path):
    command = [sys.executable, "-c", FORKER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        try:
            with pytest.raises(WhycamError, match="another run writes"):
                Store.create_or_continue(tmp_path, {"method": "grad_cam"})
            parent.kill()
            parent.wait()
            os.kill(worker, 0)  # it is there
            Store.create_or_continue(tmp_path, {"method": "grad_cam"}).close()
        finally:
            os.kill(worker, signal.SIGKILL)


class NoLocks:
    LOCK_EX = LOCK_NB = 0

    def flock(self, *_):
        raise OSError(errno.ENOSYS, "Function not implemented")


@pytest.mark.parametrize("without", [None, NoLocks()], ids=["windows", "disk"])
def test_where_a_disk_knows_no_locks_a_file_stands_in(tmp_path, monkeypatch, without):
    monkeypatch.setattr(lock, "fcntl", without)
    with Store.create_or_continue(tmp_path, ASKED) as store:
        store.add([row(0)])
        with pytest.raises(WhycamError, match=rf"\(process {os.getpid()} on .*delete .*lock\.held"):
            Store.create_or_continue(tmp_path, ASKED)
    assert not (tmp_path / "lock.held").exists()

    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        pass
    here = lock._here()
    (tmp_path / "lock.held").write_text(here.replace(f" {os.getpid()} ", f" {gone.pid} "))
    assert len(written(tmp_path, 2)) == 2  # of a process that has ended

    (tmp_path / "lock.held").write_text(f"process {gone.pid} on another-machine")
    with pytest.raises(WhycamError, match=r"on another-machine\)\. If nothing writes there any more, delete"):
        Store.create_or_continue(tmp_path, ASKED)


def test_a_damaged_shard_is_named_dropped_and_computed_again(tmp_path):
    store = written(tmp_path)
    hurt = store.shards[1]
    flip(tmp_path / "shards" / hurt)
    assert store.damaged() == [hurt]
    assert Store.open(tmp_path).damaged() == [hurt]

    with Store.create_or_continue(tmp_path, ASKED), pytest.raises(WhycamError, match="another run writes to"):
        drop_damaged(tmp_path)
    assert drop_damaged(tmp_path) == [hurt]
    store = Store.open(tmp_path)
    assert store.damaged() == drop_damaged(tmp_path) == []
    assert store.done == {f"000{number}.jpg" for number in (0, 1, 2, 3, 8, 9)}
    assert len(store) == 6
    store = written(tmp_path)
    assert sorted(store.table(["source"])["source"].to_pylist()) == [f"000{number}.jpg" for number in range(10)]
    assert store.damaged() == []


@pytest.mark.parametrize("hurt", ["footer", "cut", "empty"])
def test_reading_a_damaged_shard_names_it(tmp_path, hurt):
    path = tmp_path / "shards" / written(tmp_path).shards[1]
    if hurt == "footer":
        flip(path, -3)
    else:
        path.write_bytes(path.read_bytes()[: 100 if hurt == "cut" else 0])
    store = Store.open(tmp_path)
    assert store.damaged() == [path.name]
    for call in (store.table, lambda: len(store), lambda: store.done):
        with pytest.raises(WhycamError, match=rf"holds damaged shards: {path.name}\. .*--drop-damaged' deletes them"):
            call()
    path.unlink()
    assert len(written(tmp_path)) == 10


def test_damage_that_would_read_as_other_values_is_named(tmp_path):
    store = written(tmp_path, 4)
    path = tmp_path / "shards" / store.shards[0]
    whole, chunks = path.read_bytes(), pyarrow.parquet.read_metadata(path).row_group(0)
    for number in range(chunks.num_columns):
        chunk = chunks.column(number)
        start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        flip(path, start + chunk.total_compressed_size - 1)
        name = chunk.path_in_schema.split(".")[0]
        with pytest.raises(WhycamError, match=f"holds damaged shards: {path.name}"):
            store.table([name])
        with pytest.raises(WhycamError, match=f"holds damaged shards: {path.name}"):
            Store.open(tmp_path).row(0)
        path.write_bytes(whole)
    assert len(store.table(list(COLUMNS))) == 4


def test_a_damaged_shard_beside_what_took_its_place_can_be_dropped(tmp_path):
    (name,) = written(tmp_path, 3).shards
    twin = f"part-000000-{'0' * 16}.parquet"
    (tmp_path / "shards" / twin).write_bytes(b"half of it")
    with pytest.raises(WhycamError, match=f"holds damaged shards: {twin}"):
        Store.open(tmp_path)
    assert drop_damaged(tmp_path) == [twin]
    assert Store.open(tmp_path).shards == [name]
    with pytest.raises(WhycamError, match="holds no run"):
        drop_damaged(tmp_path / "shards")
    assert files(tmp_path / "shards") == [name]


def test_every_byte_of_a_shard_is_watched(tmp_path):
    store = written(tmp_path, 1)
    path = tmp_path / "shards" / store.shards[0]
    whole = path.read_bytes()
    for at in range(0, len(whole), 101):
        flip(path, at)
        assert store.damaged() == store.shards, at
        path.write_bytes(whole)
    assert store.damaged() == []


def bytes_read():
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts the bytes that a process reads")
def test_filters_read_no_maps(tmp_path):
    noise = np.random.default_rng(0)
    with Store.create_or_continue(tmp_path, ASKED, rows_per_shard=2000) as store:
        for start in range(0, 8000, 2000):
            store.add([row(n, map=noise.bytes(1000), map_shape=[500]) for n in range(start, start + 2000)])
    size = sum(path.stat().st_size for path in (tmp_path / "shards").iterdir())
    assert size > 8_000_000
    store = Store.open(tmp_path)
    before = bytes_read()
    assert len(store) == 8000
    found = store.table(["source", "score"], filter=pyarrow.compute.field("status") == "empty")
    assert found.num_rows == 1600
    assert store.table().num_rows == 8000
    assert len(store.done) == 8000
    assert bytes_read() - before < size / 6
    before = bytes_read()
    store.row(5000)
    assert size / 5 < bytes_read() - before < size / 3  # one shard of four


@pytest.mark.slow
def test_a_million_rows(tmp_path):
    with Store.create_or_continue(tmp_path, ASKED, rows_per_shard=10_000) as store:
        first = pyarrow.Table.from_pylist([row(number) for number in range(10_000)], schema=store._schema)
        for number in range(100):
            sources = pyarrow.array([f"{number:03d}/{each:05d}.jpg" for each in range(10_000)])
            name, data = store._spelled(number, first.set_column(0, first.schema.field(0), sources))
            (tmp_path / "shards" / name).write_bytes(data)
    started = time.perf_counter()
    store = Store.open(tmp_path)
    assert len(store) == 1_000_000
    opened = time.perf_counter() - started
    field = pyarrow.compute.field
    found = store.table(["source"], filter=(field("prediction") == "cat") & (field("status") == "empty"))
    filtered = time.perf_counter() - started - opened
    assert found.num_rows == 100_000
    assert len(store.done) == 1_000_000
    known = time.perf_counter() - started - opened - filtered
    assert store.row(999_999)["source"] == "099/09999.jpg"
    print(f"opened in {opened:.3f} s, filtered in {filtered:.3f} s, what is done known in {known:.3f} s")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"the table of a run needs pyarrow.*whycam\[runs\]"):
        Store.create_or_continue(tmp_path / "run", ASKED)
    assert not (tmp_path / "run").exists()


def test_pandas_reads_it(tmp_path):
    pandas = pytest.importorskip("pandas")
    written(tmp_path)
    assert pandas.read_parquet(tmp_path / "shards")["score"].tolist() == [number / 4 for number in range(10)]


def test_polars_reads_it(tmp_path):
    polars = pytest.importorskip("polars")
    written(tmp_path)
    found = polars.scan_parquet(tmp_path / "shards/*.parquet").filter(polars.col("prediction") == "cat").collect()
    assert found["score"].to_list() == [0.25, 0.75, 1.25, 1.75, 2.25]
    assert found["map_shape"].to_list() == [[1, 2]] * 5


def test_duckdb_reads_it(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    written(tmp_path)
    asked = f"select sum(score) from '{tmp_path}/shards/*.parquet' where status = 'ok'"
    assert duckdb.sql(asked).fetchall() == [(10.0,)]


def test_the_manifest_is_beside_the_shards(tmp_path):
    written(tmp_path)
    held = json.loads((tmp_path / "run.json").read_text())
    assert (held["schema"], held["asked"]) == (1, ASKED)


def test_what_waits_long_is_written(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("whycam.runs.store.time.monotonic", lambda: now[0])
    with Store.create_or_continue(tmp_path, ASKED, rows_per_shard=4) as store:
        for number, (later, shards) in enumerate(((29, 0), (2, 1), (29, 1), (0.5, 1), (1, 2))):
            now[0] += later
            store.add([{"source": f"{number}"}])
            assert len(store.shards) == shards
