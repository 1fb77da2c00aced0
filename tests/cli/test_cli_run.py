"""`whycam run`: what is printed and kept, and how it goes on after it was stopped or killed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import whycam
from whycam.cli import app

NETWORK = """
import nets
import pathlib
import os
import time
import whycam
import whycam.runs.store

def build():
    return whycam.VisionModel(nets.plain().float(), whycam.Preprocess.imagenet(8, 8), list("abcde"), "tiny")

def slow():
    model = build()
    model.module.register_forward_pre_hook(nap)
    whycam.runs.store.SECONDS = 0.02
    return model

def nap(*_):
    pathlib.Path("began").touch()
    time.sleep(float(os.environ.get("NAP", "0.02")))
"""
MANY = 60


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network, photos in photos/, and this process in it."""
    (tmp_path / "tiny_network.py").write_text(NETWORK)
    (tmp_path / "photos").mkdir()
    for number in range(MANY):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number:02d}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def asked(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["run", *arguments, "--model", "tiny_network:build", "--workers", "0"])


def started(*arguments: str, group: bool = False) -> "subprocess.Popen[str]":
    """The command in a process of its own, or in a group of processes of its own."""
    path = os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])
    command = [sys.executable, "-m", "whycam", "run", *arguments, "--model", "tiny_network:slow", "--batch", "4"]
    # a shell that starts this test in the background makes its children ignore Ctrl-C, unless they are told otherwise
    hearing = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    env = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(
        command, env=env, stderr=subprocess.PIPE, text=True, preexec_fn=hearing, start_new_session=group
    )


def kept(folder: Path) -> list[str]:
    """The images of a run, in its order."""
    names: list[str] = whycam.open_run(folder).table["source"].to_pylist()
    return names


def test_a_folder_into_one_table(here: Path) -> None:
    (here / "photos" / "broken.jpg").write_bytes(b"no photo")
    result = asked("photos", "-o", "out", "-m", "grad_cam,fem", "--json")
    assert result.exit_code == 1  # one could not be read
    document = json.loads(result.stdout)
    assert (document["images"], document["rows"], document["failed"]) == (MANY + 1, 2 * MANY + 1, 1)
    assert "broken.jpg" in result.stderr
    (here / "photos" / "broken.jpg").unlink()
    again = asked("photos", "-o", "other", "-m", "grad_cam")
    assert again.exit_code == 0
    assert "60, 60 rows" in again.stdout
    assert sorted(kept(here / "other")) == [f"{number:02d}.png" for number in range(MANY)]
    refused = asked("photos", "-o", "other", "-m", "fem")
    assert refused.exit_code == 2
    assert "--new" in refused.stderr


def test_an_option_is_never_dropped(here: Path) -> None:
    result = asked("photos", "-o", "out", "-O", "k=2")
    assert result.exit_code == 2
    assert "no option 'k'" in result.stderr
    assert not (here / "out").exists()
    assert asked("photos/00.png", "-o", "out", "-m", "fem", "-O", "k=2").exit_code == 0
    assert json.loads(whycam.open_run(here / "out").table["options"].to_pylist()[0])["k"] == 2


def test_a_list_with_targets(here: Path) -> None:
    (here / "list.csv").write_text("path,target\nphotos/00.png,b\nphotos/01.png,3\nphotos/02.png,\n")
    assert asked("list.csv", "-o", "out").exit_code == 0
    targets = {row["source"]: row["target"] for row in whycam.open_run(here / "out").table.to_pylist()}
    assert [targets[f"photos/0{number}.png"] for number in (0, 1)] == ["b", "d"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_keeps_what_it_has_and_goes_on(here: Path, sent: signal.Signals) -> None:
    process = started("photos", "-o", "out", "--workers", "1")
    while not (here / "out" / "run.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    first = kept(here / "out")
    assert len(first) < MANY
    with started("photos", "-o", "out") as process:
        assert process.wait(120) == 0
    assert sorted(kept(here / "out")) == [f"{number:02d}.png" for number in range(MANY)]
    assert kept(here / "out")[: len(first)] == first


@pytest.mark.parametrize(("times", "images"), [(2, MANY), pytest.param(50, 500, marks=pytest.mark.slow)])
def test_killed_at_random_moments_every_image_is_there_once(here: Path, times: int, images: int) -> None:
    draw, counts = random.Random(times), list[int]()
    for number in range(MANY, images):
        shutil.copy(here / "photos" / f"{number % MANY:02d}.png", here / "photos" / f"{number}.png")
    began = here / "began"
    for _ in range(times):
        began.unlink(missing_ok=True)
        process = started("photos", "-o", "out", "--workers", "1")
        while not began.exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.15))
        process.kill()
        process.communicate()
        counts.append(len(kept(here / "out")))
    assert counts == sorted(counts)  # nothing that was written is lost
    with started("photos", "-o", "out") as process:
        assert process.wait(120) == 0
    assert sorted(kept(here / "out")) == sorted(f"{number:02d}.png" for number in range(images))
    assert whycam.open_run(here / "out").damaged() == []
    assert len({*counts} - {0, images}) > times / 4  # it was killed in the middle


def test_metrics_pictures_and_columns_by_flags(here):
    (here / "list.csv").write_text("where,what\nphotos/00.png,2\nphotos/01.png,\n")
    done = asked(
        *("list.csv", "-o", "out", "-m", "grad_cam", "-M", "insertion", "-O", "insertion.steps=3"),
        *("--columns", "photo=where", "--columns", "target=what", "--overlays", "webp", "--colormap", "jet"),
    )
    assert done.exit_code == 0, done.output
    run = whycam.open_run("out")
    first, second = run.table.to_pylist()
    assert (first["target"], first["overlay"]) == ("c", "overlays/photos/00.png.grad_cam.webp")
    with Image.open(f"out/{second['overlay']}") as drawn:
        assert (drawn.format, drawn.size) == ("WEBP", (16, 12))
    from tiny_network import build

    wanted = whycam.evaluate(
        build(), ["photos/00.png"], ["grad_cam"], metrics=["insertion"], targets=[2], controls=False, sanity=0,
        options={"insertion": {"steps": 3}},
    )  # fmt: skip
    assert first["metric.insertion"] == pytest.approx(wanted.rows[0]["value"], rel=1e-5)


def test_auto_is_the_usual_method_where_no_choice_is_kept(here, monkeypatch):
    monkeypatch.setenv("WHYCAM_CACHE", str(here / "cache"))
    done = asked("photos/00.png", "-o", "out", "-m", "auto")
    assert done.exit_code == 0, done.output
    assert "auto: nothing is known yet" in done.stderr
    assert whycam.open_run("out").table["method"].to_pylist() == ["grad_cam"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["-m", "auto", "-t", "a,b"], "auto is one method at one layer for one target"),
        (["--columns", "where"], "--columns is written WHAT=NAME, such as photo=file, not 'where'"),
        (["--device", "tpu9"], "--device tpu9: the network cannot be put there: "),
        (["--overlays", "tiff"], "overlays are drawn as jpg, webp, png, not 'tiff'"),
        (["--shard", "3"], "--shard is K/N, such as 3/16; what came is '3'"),
        (["--shard", "3/2"], "K from 1 to N"),
        (["--num-gpus", "1"], "num_gpus= is for engine='ray'; leave it out for engine='local'"),
        (["--engine", "dask"], "engine is 'local' or 'ray', not 'dask'"),
        (["--unfinished"], "--unfinished is for --merge"),
        (["--merge", "out"], "--merge takes the folder of the parts, and neither SOURCE nor --output"),
    ],
)
def test_flags_that_cannot_be_are_refused_before_any_work(here, flags, said):
    refused = asked("photos", "-o", "out", *flags)
    assert refused.exit_code == 2
    assert said in refused.output
    assert not (here / "out").exists()


def test_parts_of_an_array_of_jobs_are_merged(here):
    for k in (1, 2):
        assert asked("photos", "-o", "out", "--shard", f"{k}/2").exit_code == 0
    assert kept(here / "out/shard-2-of-2") == [f"{number:02d}.png" for number in range(1, MANY, 2)]
    merged = CliRunner().invoke(app, ["run", "--merge", "out", "--json"])
    assert merged.exit_code == 0, merged.output
    assert json.loads(merged.stdout)["images"] == MANY
    assert sorted(kept(here / "out")) == [f"{number:02d}.png" for number in range(MANY)]
    (here / "out/shard-1-of-2/finished").unlink()
    refused = CliRunner().invoke(app, ["run", "--merge", "out"])
    assert refused.exit_code == 2
    assert "Run --shard 1/2 again" in " ".join(refused.output.split())
    assert CliRunner().invoke(app, ["run", "--merge", "out", "--unfinished"]).exit_code == 0
    assert "a run needs SOURCE and --output" in CliRunner().invoke(app, ["run"]).output


@pytest.mark.slow
def test_a_job_on_ray_that_is_stopped_with_all_its_processes_keeps_what_it_has(here: Path, monkeypatch: Any) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("NAP", "0.5")
    process = started("photos", "-o", "out", "--engine", "ray", "--concurrency", "1", "--overlays", "jpg", group=True)
    while not (here / "out" / "run.json").exists() or not any((here / "out/overlays").rglob("*.jpg")):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    # Ray itself ends a process whose node has ended before; what was written stays all the same
    assert process.returncode in (130, 1), said
    assert process.returncode == 1 or "the same command goes on" in said
    assert 0 < len(kept(here / "out")) < MANY


def test_one_that_began_anew_and_was_stopped_says_how_to_go_on(here: Path, monkeypatch: Any) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("whycam.explainer.run", stopped)
    result = asked("photos", "-o", "maps")
    assert (result.exit_code, result.stderr.strip()) == (
        130, "whycam: interrupted: what was explained is in maps; the same command goes on."
    )  # fmt: skip
    result = asked("photos", "-o", "maps", "--new")
    said = "what was explained is in the newest folder beside maps; name that, without --new, to go on."
    assert (result.exit_code, " ".join(result.stderr.split())) == (130, f"whycam: interrupted: {said}")
