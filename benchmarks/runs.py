"""Whole image sets: photos a second beside a bare loop, and whether memory grows.

python benchmarks/runs.py speed --images FOLDER --photos 2000
python benchmarks/runs.py memory --images FOLDER --photos 5000

The bare loop reads, prepares and predicts the same photos with the same workers and batch, and keeps the class. Loop,
maps, and maps with overlays as JPEG take turns in one process, a part of the photos at a time.
"""

import argparse
import ctypes
import itertools
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import whycam

Listed = list[tuple[str, Path]]


class Photos(Dataset[torch.Tensor]):
    """The network's inputs."""

    def __init__(self, listed: Listed, preprocess: whycam.Preprocess) -> None:
        self.listed, self.preprocess = listed, preprocess

    def __len__(self) -> int:
        return len(self.listed)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.preprocess(whycam.read_photo(self.listed[number][1]))[0]


def repeated(folder: Path, length: int) -> Listed:
    photos = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    return [(f"{number}", path) for number, path in zip(range(length), itertools.cycle(photos), strict=False)]


def bare(vision: whycam.VisionModel, listed: Listed, args: argparse.Namespace) -> None:
    assert isinstance(vision.preprocess, whycam.Preprocess)
    loader = DataLoader(Photos(listed, vision.preprocess), args.batch, num_workers=args.workers)
    with torch.inference_mode():
        found = [int(index) for batch in loader for index in vision.module(batch).argmax(1)]
    assert len(found) == len(listed)


def processor() -> float:
    """Seconds of the processor, of this process and of those that it waited for."""
    return sum(
        each.ru_utime + each.ru_stime
        for each in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def speed(args: argparse.Namespace) -> None:
    vision = whycam.load("builtin")
    explainer = whycam.Explainer(vision)
    listed = repeated(args.images, args.photos)

    def run(part: Listed, **more: object) -> None:
        folder = Path(tempfile.mkdtemp())
        common = {"batch": args.batch, "workers": args.workers, "progress": False}
        assert len(explainer.run(part, folder / "out", method="grad_cam", **common, **more)) == len(part)
        shutil.rmtree(folder)

    ways: dict[str, Callable[[Listed], None]] = {
        "bare": lambda part: bare(vision, part, args),
        "maps": run,
        "overlays": lambda part: run(part, overlays="jpg"),
    }
    ways = {name: way for name, way in ways.items() if name in args.ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    for start in range(0, len(listed), args.part):
        part = listed[start : start + args.part]
        for name, way in ways.items():
            before, used = time.perf_counter(), processor()
            way(part)
            wall[name].append(time.perf_counter() - before)
            busy[name].append(processor() - used)
    for name in ways:
        against = sum(wall["bare"]) / sum(wall[name])
        each = statistics.median(one / other for one, other in zip(wall["bare"], wall[name], strict=True))
        cost = sum(busy["bare"]) / sum(busy[name])
        print(
            f"{name:9} {len(listed) / sum(wall[name]):6.1f} photos a second; of the bare loop's: {against:.2f} whole, "
            f"{each:.2f} median of {len(wall[name])} turns, {cost:.2f} by seconds of the processor"
        )


def resident() -> float:
    """Megabytes of this process, less what its allocator keeps for later."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(args: argparse.Namespace) -> None:
    seen: dict[int, float] = {}

    def watched() -> Iterator[tuple[str, Path]]:
        for number, each in enumerate(repeated(args.images, args.photos)):
            if number % 250 == 0:
                seen[number] = resident()
            yield each

    folder = Path(tempfile.mkdtemp())
    more = {"overlays": "jpg"} if "overlays" in args.ways else {}
    whycam.run("builtin", watched(), folder / "out", batch=args.batch, workers=args.workers, progress=False, **more)
    shutil.rmtree(folder)
    late = {number: size for number, size in seen.items() if number >= 500}
    slope = statistics.linear_regression([*late], [*late.values()]).slope * 1000
    first, last = min(late), max(late)
    print(" ".join(f"{size:.0f}" for size in seen.values()), "MB, every 250 photos")
    print(
        f"resident: {late[first]:.0f} MB at {first} photos, {late[last]:.0f} MB at {last}; {slope:+.1f} MB a thousand"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory"])
    parser.add_argument("--images", type=Path, default=Path("photos"))
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--part", type=int, default=200, help="photos in a turn")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--ways", nargs="+", default=["bare", "maps", "overlays"])
    args = parser.parse_args()
    {"speed": speed, "memory": memory}[args.what](args)


if __name__ == "__main__":
    main()
