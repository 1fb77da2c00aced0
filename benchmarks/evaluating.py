"""What a table of eight methods and three metrics costs, in plain forwards: counted, and by the clock of one process.

python benchmarks/evaluating.py --images FOLDER --photos 16

Average drop takes one forward of each map, insertion and deletion as many as their steps; that is what is needed. The
plain forwards are of the same photos, as many rows at once and as often as the table ran the network: by turns with
tables of two photos, in time of the processor, since the machine may be busy.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import whycam

METHODS = (
    *("grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam"),
    *("xgrad_cam", "eigen_cam", "cam", "grad_cam_elementwise"),
)
METRICS = ("average_drop", "insertion", "deletion")


class Counted:
    """Counts the rows that a network answers, and how many come at once."""

    def __init__(self, module: nn.Module) -> None:
        self.rows, self.packs = 0, list[int]()
        module.register_forward_pre_hook(self._see)

    def _see(self, _: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        self.rows += len(given[0])
        self.packs.append(len(given[0]))


def seconds(work: Callable[[], Any]) -> float:
    """Of the processor."""
    started = time.process_time()
    work()
    return time.process_time() - started


def answered(module: nn.Module, packs: Sequence[torch.Tensor], often: int) -> None:
    """Plain forwards of the packs in turn."""
    with torch.inference_mode():
        for number in range(often):
            module(packs[number % len(packs)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=Path("photos"))
    parser.add_argument("--photos", type=int, default=16, help="an even number")
    parser.add_argument("--steps", type=int, default=28)
    args = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(path for path in args.images.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    chosen = [paths[k * len(paths) // args.photos] for k in range(args.photos)]
    vision = whycam.load("builtin")
    explainer, counted = whycam.Explainer(vision), Counted(vision.module)
    explainer.explain(chosen[:1])  # the layer is chosen once
    options = {"insertion": {"steps": args.steps}, "deletion": {"steps": args.steps}}
    assert callable(vision.preprocess)
    taken, plain, ran = 0.0, 0.0, 0
    for photos in zip(chosen[::2], chosen[1::2], strict=True):
        counted.rows, counted.packs = 0, []
        table = functools.partial(explainer.evaluate, photos, METHODS, metrics=METRICS, options=options)
        taken += seconds(functools.partial(table, controls=False, sanity=0))
        rows, at_once = counted.rows, max(set(counted.packs), key=counted.packs.count)
        inputs = torch.stack([vision.preprocess(whycam.read_photo(path))[0] for path in photos])
        packs = inputs.repeat(at_once, 1, 1, 1).contiguous(memory_format=torch.channels_last).split(at_once)
        often = rows // at_once
        plain += seconds(functools.partial(answered, vision.module, packs, often)) * rows / (often * at_once)
        ran += rows
    needed = len(chosen) * (1 + len(METHODS) * (1 + 2 * args.steps))
    print(f"{len(chosen)} photos, {len(METHODS)} methods: {needed:,} forwards of a photo are needed, {ran:,} were run "
          f"({ran / needed:.3f}), {at_once} at once")  # fmt: skip
    print(f"time over that of so many plain forwards: {taken / plain:.2f} ({taken:.0f} s, {plain:.0f} s)")


if __name__ == "__main__":
    main()
