"""Rounds of works taken in turn, passes through a network, and floating-point operations."""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils import flop_counter

from whycam.network.diagnosis.flops import counted

RunStats = Callable[[], Any]

#: Plain forwards are repeated for this long within a round, and their median taken.
PLAIN_SECONDS = 0.05
#: What works are timed by: `time.process_time`, on one thread, where other programs run.
clock = time.perf_counter


@dataclass
class Passes:
    """Calls of a network, and the rows that went through it."""

    calls: int = 0
    rows: int = 0


@contextmanager
def passes(network: nn.Module) -> Iterator[Passes]:
    """Count the calls of a network until the block ends; those of copies of it are not its own."""
    counts = Passes()

    def see(module: nn.Module, given: tuple[Any, ...]) -> None:
        if module is network:
            counts.calls += 1
            counts.rows += next((len(each) for each in given if isinstance(each, Tensor) and each.ndim), 1)

    handle = register_module_forward_pre_hook(see)
    try:
        yield counts
    finally:
        handle.remove()


def flops(work: RunStats) -> tuple[int, Any]:
    """What a work's products and convolutions cost, and what it gave."""
    with counted() as counter:
        # torch takes the backward of a grouped convolution for that of a dense one
        counter.flop_registry[torch.ops.aten.convolution_backward] = flop_counter.shape_wrapper(_backward)
        # which module an operation belongs to is found by hooks that a second backward does not bear
        counter.mod_tracker.__exit__(None, None, None)
        counter.mod_tracker = _Nowhere()  # type: ignore[assignment]
        given = work()
    return int(counter.get_total_flops()), given


class _Nowhere:
    parents = frozenset({"Global"})

    def __exit__(self, *_: object) -> None:
        pass


def _backward(gradient: Any, inputs: Any, weight: Any, *rest: Any, out_shape: Any, **_: Any) -> int:
    transposed, mask = rest[4], rest[7]
    forward = flop_counter.conv_flop_count(inputs, weight, gradient, transposed)
    return int(forward * (bool(mask[0]) + bool(mask[1])))


@dataclass
class Timed:
    """Works in units of the plain forward of the same round, round by round."""

    ratios: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """The median over the rounds."""
        return statistics.median(self.ratios[name])

    def spread(self, name: str) -> tuple[float, float]:
        """The least and the most of the rounds."""
        return min(self.ratios[name]), max(self.ratios[name])

    def times(self, name: str, other: str) -> list[float]:
        """How many times as long as the other one took, round by round."""
        return [mine / its for mine, its in zip(self.ratios[name], self.ratios[other], strict=True)]


def timed(
    works: Mapping[str, RunStats], plain: RunStats, rounds: int, patience: float = 10.0, cap: float = 60.0
) -> Timed:
    """Take the works in turn, in a new order every round.

    There are fewer rounds where they take long: at least three up to `patience` seconds, one where one takes more than
    `cap`. The works have run before.
    """
    found = Timed({name: [] for name in works})
    draw = random.Random(0)
    started = time.perf_counter()
    for number in range(1, rounds + 1):
        begun = time.perf_counter()
        seconds = {}
        base = []
        for name in draw.sample(list(works), len(works)):
            base += _plain(plain)
            seconds[name] = _seconds(works[name])
        base += _plain(plain)
        unit = statistics.median(base)
        for name, each in seconds.items():
            found.ratios[name].append(each / unit)
        now = time.perf_counter()
        spent, last = now - started, now - begun
        if last > cap or spent > cap or (number >= 3 and spent > patience):
            break
    return found


def _plain(plain: RunStats) -> list[float]:
    taken = [_seconds(plain)]
    while sum(taken) < PLAIN_SECONDS:
        taken.append(_seconds(plain))
    return taken


def _seconds(work: RunStats) -> float:
    started = clock()
    work()
    return clock() - started


def forward(network: nn.Module, inputs: Tensor) -> RunStats:
    """Plain inference."""

    def work() -> Tensor:
        with torch.inference_mode():
            return network(inputs)

    return work


def shortest(values: Sequence[float]) -> str:
    """The median and the range of some ratios, as short as they stay readable: `12.3 (11.9-14)`."""
    middle = number(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values))}-{number(max(values))})"


def number(value: float) -> str:
    """Three digits of a number."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
