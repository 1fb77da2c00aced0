"""The engine on Ray: the table of the local engine, row for row and bit for bit, whatever becomes of an actor."""

import os
import signal
import sys
import threading
import types
import warnings
from contextlib import contextmanager

import nets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import whycam
from whycam.kit.progress import Progress
from whycam.runs.store import Store

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that Ray imports
        import ray
        import ray.data

        from whycam.runs import on_ray as on_ray_engine
except ImportError:
    pytest.skip("ray is not installed: pip install 'whycam[ray]'", allow_module_level=True)

#: Ray Data warns of its own settings when it copies them.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning:ray.data.context")

PREPROCESS = whycam.Preprocess((16, 16), "stretch", mean=(0.5,) * 3, std=(0.25,) * 3)
LABELS = [f"class {number}" for number in range(5)]


@pytest.fixture(scope="module")
def cluster():
    """Two CPUs, and so two actors, that can import what tests can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    yield
    ray.shutdown()


@pytest.fixture
def vision():
    return whycam.VisionModel(nets.plain().float(), PREPROCESS, LABELS, "plain")


@pytest.fixture
def folder(tmp_path):
    """Eleven photos, and a file that is none."""
    pixels = torch.randint(0, 256, (11, 20, 24, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    where = tmp_path / "photos"
    where.mkdir()
    for number, each in enumerate(pixels):
        Image.fromarray(each.numpy()).save(where / f"{number:02d}.png")
    (where / "05-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return where


def shards(folder):
    """Their names, which carry a checksum of every byte."""
    return Store.open(folder).shards


def on_ray(vision, source, out, **more):
    return whycam.run(vision, source, out, **{"batch": 2, "engine": "ray", "concurrency": 2, **more})


class Slow(nn.Module):
    """Takes a while, and writes down which process it is in."""

    def __init__(self, network, notes, seconds):
        super().__init__()
        self.network, self.notes, self.seconds = network, notes, seconds

    def forward(self, x):
        import os
        import time

        time.sleep(self.seconds)
        (self.notes / str(os.getpid())).touch()
        return self.network(x)


def slow(vision, notes, seconds):
    notes.mkdir(exist_ok=True)
    return whycam.VisionModel(Slow(vision.module, notes, seconds), PREPROCESS, LABELS, "slow")


@pytest.fixture
def by_value():
    """Actors cannot import this file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_two_actors_write_the_files_of_the_local_engine_and_progress_moves_on(
    cluster, vision, folder, tmp_path, monkeypatch
):
    told = []

    @contextmanager
    def counted(self, what, total, unit):
        told.append([])
        yield told[-1].append

    monkeypatch.setattr(Progress, "of", counted)
    monkeypatch.setattr("whycam.runs.store.SECONDS", 1e9)  # a slow machine's shards are the same
    asked = {"methods": ["grad_cam", "layer_cam"], "targets": [None, 3], "maps": "float32", "overlays": "jpg"}
    local = whycam.run(vision, folder, tmp_path / "local", batch=2, workers=0, **asked)
    made = on_ray(vision, folder, tmp_path / "ray", **asked)
    assert made.table.equals(local.table)
    assert shards(made.folder) == shards(local.folder)
    assert all(
        torch.equal(made[k].maps, local[k].maps) for k in range(len(made)) if made.table["error"][k].as_py() is None
    )
    assert made.asked == local.asked
    drawn = [sorted((run.folder / "overlays").iterdir()) for run in (local, made)]
    assert [(path.name, path.read_bytes()) for path in drawn[0]] == [
        (path.name, path.read_bytes()) for path in drawn[1]
    ]
    assert len(drawn[0]) == 11 * 4
    assert told[0] == told[1]
    assert sum(told[1]) == 12
    assert max(told[1]) == 2
    assert len(made) == 11 * 4 + 1


@pytest.mark.slow
def test_an_actor_that_is_killed_is_replaced_and_each_image_is_there_once(cluster, by_value, vision, folder, tmp_path):
    notes = tmp_path / "notes"
    model = slow(vision, notes, 0.2)
    local = whycam.run(slow(vision, tmp_path / "here", 0), folder, tmp_path / "local", batch=1, workers=0)
    killed = []

    def kill():
        while not killed:
            for path in notes.iterdir():
                os.kill(int(path.name), signal.SIGKILL)
                killed.append(path.name)
                return
            stop.wait(0.01)

    stop = threading.Event()
    thread = threading.Thread(target=kill)
    thread.start()
    made = on_ray(model, folder, tmp_path / "ray", batch=1)
    thread.join()
    assert len(killed) == 1
    assert len({path.name for path in notes.iterdir()}) >= 3  # two actors, and one in the place of the first
    assert made.table.equals(local.table)


@pytest.mark.slow
def test_a_run_that_was_begun_here_goes_on_there(cluster, vision, folder, tmp_path):
    few = [(f"{path.name}", path) for path in sorted(folder.iterdir())]
    whycam.run(vision, few[:5], tmp_path / "out", batch=2, workers=0)
    first = shards(tmp_path / "out")
    made = on_ray(vision, few, tmp_path / "out", workers=1, concurrency=1)
    assert made.table["source"].to_pylist() == [name for name, _ in few]
    assert shards(tmp_path / "out")[: len(first)] == first
    # in pieces that are those of the local engine
    whycam.run(vision, few[:5], tmp_path / "local", batch=2, workers=0)
    assert made.table.equals(whycam.run(vision, few, tmp_path / "local", batch=2, workers=0).table)


@pytest.mark.slow
def test_what_cannot_be_explained_is_said_as_the_local_engine_says_it(cluster, vision, folder, tmp_path):
    for number, (asked, said) in enumerate(
        (({"target": 7}, "7"), ({"layer": "relu9"}, "relu9"), ({"target": "class 9"}, "class 9"))
    ):
        errors = []
        for run in (whycam.run, on_ray):
            with pytest.raises(whycam.WhycamError, match=said) as caught:
                run(vision, folder, tmp_path / f"{run.__name__}{number}", **asked)
            errors.append((type(caught.value), str(caught.value)))
        assert errors[0] == errors[1]


@pytest.mark.slow
def test_an_image_that_the_network_refuses_is_a_row_where_another_actor_explained_one_before(
    cluster, by_value, tmp_path, vision
):
    def shrinking(image):
        return torch.from_numpy(np.asarray(image).copy()).movedim(2, 0).float() / 255

    photos = [("large", np.full((9, 9, 3), 100, np.uint8)), ("dot", np.full((1, 1, 3), 100, np.uint8))]
    model = whycam.VisionModel(vision.module, shrinking, LABELS)
    made = on_ray(model, photos, tmp_path / "ray", batch=1, method="grad_cam")
    local = whycam.run(model, photos, tmp_path / "local", batch=1, method="grad_cam", workers=0)
    assert made.table.equals(local.table)
    assert "spatial axes" in made.table["error"].to_pylist()[1]


@pytest.mark.slow
def test_a_source_that_cannot_be_read_further_is_said(cluster, vision, tmp_path):
    photos = [("a", np.full((9, 9, 3), 100, np.uint8)), ("a", np.full((9, 9, 3), 100, np.uint8))]
    with pytest.raises(whycam.WhycamError, match="a second image of id 'a'"):
        on_ray(vision, photos, tmp_path / "ray", batch=1)


@pytest.mark.slow
def test_a_pipeline_of_rays_own_takes_the_callable_class(cluster, vision, folder):
    photos = ray.data.from_items([{"path": str(folder / f"{number:02d}.png")} for number in range(4)])
    rows = photos.map_batches(
        whycam.adapters.RayExplainer,
        fn_constructor_kwargs={"model": vision, "method": "grad_cam", "photo": "path", "maps": "float32"},
        compute=ray.data.ActorPoolStrategy(size=1),
        batch_size=4,
    ).take_all()
    alone = whycam.explain(vision, [folder / f"{number:02d}.png" for number in range(4)], "grad_cam")
    assert [row["prediction"] for row in rows] == [each.name for each in alone.predictions]
    for number, row in enumerate(rows):
        held = np.frombuffer(row["map"], row["map_type"]).reshape(row["map_shape"])
        np.testing.assert_allclose(held, alone.maps[number].numpy(), rtol=1e-5, atol=1e-7)


class Walked:
    """A source that writes down how far it was walked."""

    def __init__(self, notes):
        self.notes = notes

    def __iter__(self):
        for number in range(200):
            with self.notes.open("ab") as file:
                file.write(b".")
            yield f"{number}", np.full((9, 9, 3), number, np.uint8)


@pytest.mark.slow
def test_a_source_is_walked_so_many_chunks_ahead_and_no_more(cluster, by_value, vision, tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray_engine, "_AHEAD", 20)
    (tmp_path / "out").mkdir()
    ahead = []

    @contextmanager
    def noted(self, what, total, unit):
        done = 0

        def advance(images):
            nonlocal done
            done += images
            ahead.append((tmp_path / "walked").stat().st_size - done)

        yield advance

    monkeypatch.setattr(Progress, "of", noted)
    made = on_ray(slow(vision, tmp_path / "notes", 0.02), Walked(tmp_path / "walked"), tmp_path / "out", batch=1)
    assert len(made) == 200
    assert 5 < max(ahead) <= 20 + 2  # one that is drawn, and one that has come back and is not counted yet


@pytest.mark.slow
def test_a_model_that_actors_cannot_import_is_said(cluster, vision, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "only_here", types.ModuleType("only_here"))
    monkeypatch.setattr(Slow, "__module__", "only_here")
    sys.modules["only_here"].Slow = Slow
    with pytest.raises(whycam.WhycamError, match=r"cannot load the model .*No module named 'only_here'"):
        on_ray(slow(vision, tmp_path / "notes", 0), folder, tmp_path / "out")


@pytest.mark.slow
def test_after_a_run_no_thread_is_left_that_asks_ray(cluster, vision, folder, tmp_path):
    with pytest.raises(whycam.WhycamError, match="99 is out of range"):
        on_ray(vision, folder, tmp_path / "wrong", target=99)
    on_ray(vision, folder, tmp_path / "out")
    left = [each.name for each in threading.enumerate()]
    assert not [name for name in left if name.startswith(("StreamingExecutor", "iter_threaded", "ray-data"))]


def test_more_than_a_machine_has_is_refused_where_ray_is_started_for_the_run(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 2.0})
    for fits in ((None, None, 4), (1, None, 3), (3, 0.5, 4), (None, 1, 2), (None, None, None)):
        on_ray_engine._check_room(*fits)
    for asked, said in (
        ((None, None, 5), "5 actors and what reads photos need 5 CPUs, and this machine has 4"),
        ((1, None, 4), "need 5 CPUs"),
        ((None, 1, 3), "need 3 GPUs, and this machine has 2"),
        ((None, 0.5, 5), "need 2.5 GPUs"),
    ):
        with pytest.raises(whycam.OptionError, match=said):
            on_ray_engine._check_room(*asked)


def test_what_cannot_be_sent_to_other_processes_is_said(vision, folder, tmp_path):
    with pytest.raises(whycam.WhycamError, match=r"sends the source .* Pass a path, or a list, or use engine='local'"):
        on_ray(vision, ((path.name, path) for path in folder.iterdir()), tmp_path / "out")
    vision.module.lock = threading.Lock()
    with pytest.raises(whycam.WhycamError, match=r"sends the model .* every machine can import"):
        on_ray(vision, folder, tmp_path / "out")
    with pytest.raises(whycam.OptionError, match="workers=0 is for engine='local'"):
        on_ray(vision, folder, tmp_path / "out", workers=0)
