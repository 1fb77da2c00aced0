"""What a run of millions of images costs beside its network: the figures of docs/scale.md.

python benchmarks/scale.py rows       # bytes of a row, rows that one store takes in a second
python benchmarks/scale.py listing    # a folder of 20,000 shards opened and read
python benchmarks/scale.py sources    # images listed in a second: a folder, a tar shard, a Parquet file
python benchmarks/scale.py done       # memory of the images that a run that goes on has behind it
python benchmarks/scale.py ray        # time of a chunk on Ray beside the local engine, and of the start

Everything is synthetic and in a temporary folder of $TMPDIR.
"""

import argparse
import io
import os
import pickle
import resource
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet
from torch import nn

import whycam
from whycam.runs.sources import open_source
from whycam.runs.store import Store, packed

BATCH = 16


def named(number: int) -> str:
    """An id as a folder of classes has it."""
    return f"n{number // 1300:08d}/n{number // 1300:08d}_{number:08d}.JPEG"


def rows(count: int, cells: int) -> Iterator[list[dict[str, object]]]:
    """Batches of rows as a network of 1,000 classes fills them."""
    maps = np.random.default_rng(0).random((256, cells, cells), np.float32)
    geometry = '{"photo_size": [375, 500], "input_size": [224, 224], "scale": [1.0, 1.0], "offset": [0.5, 0.25]}'
    for first in range(0, count, BATCH):
        yield [
            {
                "source": named(number), "content": f"{hash(str(number)) % 2**64:016x}", "width": 500, "height": 375,
                "geometry": geometry, "prediction": f"class {number % 1000}", "prediction_index": number % 1000,
                "probability": number % 997 / 997, "target": f"class {number % 1000}", "score": number % 9973 / 997,
                "method": "grad_cam", "layer": "blocks.15", "options": "{}", "status": "ok", "message": "",
                **packed(maps[number % 256] * (1 + number % 89)),
            }
            for number in range(first, min(first + BATCH, count))
        ]  # fmt: skip


def measured_rows(folder: Path) -> None:
    for cells in (7, 14):
        out = folder / f"{cells}"
        started = time.perf_counter()
        with Store.create_or_continue(out, {}) as store:
            for some in rows(50_000, cells):
                store.add(some)
        spent = time.perf_counter() - started
        size = sum(path.stat().st_size for path in (out / "shards").iterdir())
        print(f"maps of {cells} x {cells}: {size / 50_000:.0f} bytes a row, {50_000 / spent:,.0f} rows a second")


def measured_listing(folder: Path, shards: int = 20_000) -> None:
    with Store.create_or_continue(folder / "run", {}) as store:
        store.add([row for some in rows(500, 7) for row in some])
    (first,) = (folder / "run/shards").iterdir()
    for number in range(1, shards):
        os.link(first, first.with_name(first.name.replace("000000", f"{number:06d}", 1)))
    for what, asked in (
        ("open", lambda: Store.open(folder / "run")),
        ("count rows", lambda: len(Store.open(folder / "run"))),
        ("read the ids", lambda: Store.open(folder / "run").table(["source"])),
    ):
        started = time.perf_counter()
        asked()
        print(f"{shards:,} shards of 500 rows: {what} {time.perf_counter() - started:.2f} s")


def measured_sources(folder: Path, count: int = 20_000) -> None:
    photos = folder / "photos"
    for number in range(count):
        path = photos / named(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    body = b"\xff\xd8" + bytes(20_000)
    with tarfile.open(folder / "photos.tar", "w") as tar:
        for number in range(count):
            info = tarfile.TarInfo(named(number))
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    parquet.write_table(pyarrow.table({"image": [body] * count}), folder / "photos.parquet", row_group_size=500)
    for name in ("photos", "photos.tar", "photos.parquet"):
        started = time.perf_counter()
        listed = sum(1 for _ in open_source(folder / name))
        print(f"{name}: {listed / (time.perf_counter() - started):,.0f} images a second")


def measured_done(folder: Path, count: int = 1_000_000) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = {named(number) for number in range(count)}
    spent = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{count:,} ids: {spent:.0f} MB, {len(pickle.dumps(done)) / 1e6:.0f} MB to send to a task")


def measured_ray(folder: Path, count: int = 4_000) -> None:
    import ray

    photos = [(f"{number}", np.full((32, 32, 3), number % 256, np.uint8)) for number in range(count)]
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    explainer = whycam.Explainer(network.eval(), preprocess=whycam.Preprocess.imagenet(32, 32))
    asked = {"method": "grad_cam", "layer": "0", "batch": 4}
    started = time.perf_counter()
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    print(f"Ray starts in {time.perf_counter() - started:.1f} s")
    for engine, more in (("local", {"workers": 0}), ("ray", {"concurrency": 1}), ("ray", {"concurrency": 2})):
        spent = []
        for size in (8, count):
            started = time.perf_counter()
            explainer.run(photos[:size], folder / f"{engine}{more}{size}", engine=engine, **more, **asked)
            spent.append(time.perf_counter() - started)
        each = (spent[1] - spent[0]) / ((count - 8) / 4)
        print(f"{engine} {more}: 2 chunks {spent[0]:.1f} s, then {1000 * each:.1f} ms a chunk of 4 small images")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measures = {
        name.removeprefix("measured_"): each for name, each in globals().items() if name.startswith("measured_")
    }
    parser.add_argument("what", choices=[*measures])
    with tempfile.TemporaryDirectory() as name:
        measures[parser.parse_args().what](Path(name))
