"""Whether the positions of a feature lie where they are said to: a slow check that shares no code with whycam.

The input is cut into bands along one axis after the other. Noise is added in one band at a time, and the change of the
feature is measured at every position. The mean of the bands, weighted by how strongly a position answers to each, is
where the position lies; it should follow where the position is said to lie. A feature may lie half a cell beside its
claim (padded convolutions with a stride do), so that order is asked for and not coincidence.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

Answer: TypeAlias = Literal["holds", "does not hold", "cannot tell"]
#: inputs -> the feature of each sample, `(batch, channel, *grid)`.
Reading: TypeAlias = Callable[[Tensor], Tensor]

#: Bands along each axis of the input.
BANDS = 4


@dataclass(frozen=True)
class Finding:
    """The answer, and for each axis with more than one position what it rests on.

    Attributes:
        answer: whether the positions lie where they are said to.
        follows: the correlation between where positions are said to lie and where they were found.
        spread: the standard deviation of where they were found, as a part of the axis; 0.29 at most for sharp features.
        repeats: the correlation between where two halves of the draws find them.
    """

    answer: Answer
    follows: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    repeats: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.answer} ({', '.join(f'{each:.2f}' for each in self.follows)})" if self.follows else self.answer


@torch.no_grad()
def locate(read: Reading, sample: Tensor, *, draws: int = 8, size: float = 1e-3, seed: int = 0) -> Finding:
    """Whether the grid that `read` returns lies over the sample, `(1, channel, *spatial)`, as a raster.

    Costs `draws` samples for each band of each axis, and one more. `size` is the standard deviation of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    still = read(sample)
    grid = tuple(still.shape[2:])
    space = tuple(sample.shape[2:])
    noise = size * torch.randn(draws, *sample.shape[1:], generator=generator, dtype=torch.float64).to(sample.dtype)
    follows, spread, repeats = [], [], []
    for axis, (cells, side) in enumerate(zip(grid, space, strict=True)):
        if cells < 2:
            continue
        bands = min(BANDS, side)
        answers = torch.stack(
            [
                (read(sample + noise * _band(number, bands, axis, space, sample)) - still).square().sum(1)
                for number in range(bands)
            ]
        ).double()  # (band, draw, *grid)
        found = _center(answers.mean(1))
        said = ((torch.arange(cells) + 0.5) / cells).reshape([-1 if each == axis else 1 for each in range(len(grid))])
        follows.append(_correlation(found, said.expand(grid)))
        spread.append(float(found[found.isfinite()].std()) if found.isfinite().sum() > 1 else 0.0)
        repeats.append(_correlation(_center(answers[:, ::2].mean(1)), _center(answers[:, 1::2].mean(1))))
    return Finding(_answer(follows, spread, repeats), tuple(follows), tuple(spread), tuple(repeats))


def _answer(follows: list[float], spread: list[float], repeats: list[float]) -> Answer:
    """Every axis must say so for `holds`; one that clearly says another place is enough for `does not hold`."""
    axes = list(zip(follows, spread, repeats, strict=True))
    if any(follow <= 0.6 and wide >= 0.05 and repeat >= 0.8 for follow, wide, repeat in axes):
        return "does not hold"
    if axes and all(follow >= 0.85 and repeat >= 0.7 for follow, _, repeat in axes):
        return "holds"
    return "cannot tell"


def _center(answers: Tensor) -> Tensor:
    """Where each position lies, from 0 to 1: the mean of the bands, weighted by its answers to them.

    Answers are taken as parts of all that the position answers, since some positions are more sensitive than others.
    NaN for positions that nothing moves. (What moves everything alike adds the same to all, and correlation is blind to
    that.)
    """
    parts = answers / answers.sum(0)
    middles = (torch.arange(len(answers), dtype=torch.float64) + 0.5) / len(answers)
    return torch.einsum("b...,b->...", parts, middles)


def _band(number: int, bands: int, axis: int, space: tuple[int, ...], like: Tensor) -> Tensor:
    """Ones in one band of the input and zeros elsewhere."""
    side = space[axis]
    mask = torch.zeros(side, dtype=like.dtype)
    mask[round(number * side / bands) : round((number + 1) * side / bands)] = 1
    return mask.reshape([-1 if each == axis else 1 for each in range(len(space))])


def _correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's, of what neither lacks; 0 where either is constant."""
    pair = torch.stack([one.flatten().double(), other.flatten().double()])
    pair = pair[:, pair.isfinite().all(0)]
    if pair.shape[1] < 2:
        return 0.0
    pair = pair - pair.mean(1, keepdim=True)
    norms = pair.norm(dim=1)
    return float((pair[0] @ pair[1]) / norms.prod()) if bool((norms > 1e-9).all()) else 0.0


def reader(model: nn.Module, layer: str, shape: tuple[int, ...], layout: str) -> Reading | None:
    """What an ordinary forward hook reads at a layer, laid out as the words of `layout` say.

    `layer` is a module's name, with `#k` for one of its calls and `:input` for what it is given. `None` where the words
    are none that this function knows.
    """
    arrange = _arrangement(layout)
    match = re.fullmatch(r"(.*?)(?:#(-?\d+))?(:input)?", layer)
    assert match is not None  # the pattern takes any text
    name, call, of_input = match[1], int(match[2] or -1), bool(match[3])
    if arrange is None or not name:
        return None
    module = model.get_submodule(name)

    def read(inputs: Tensor) -> Tensor:
        seen: list[Tensor] = []

        def hook(_: nn.Module, given: Any, output: Any) -> None:
            wanted = tuple(shape[1:])
            found = [each for each in _inside(given if of_input else output) if tuple(each.shape[1:]) == wanted]
            seen.append(found[0].clone())

        handle = module.register_forward_hook(hook)
        try:
            model(inputs)
        finally:
            handle.remove()
        return arrange(seen[call])

    return read


def _arrangement(layout: str) -> Callable[[Tensor], Tensor] | None:
    if layout == "channels first":
        return lambda output: output
    if layout == "channels last":
        return lambda output: torch.moveaxis(output, -1, 1)
    tokens = re.fullmatch(r"tokens on a grid of ([\dx]+) after (\d+)", layout)
    if tokens is None:
        return None
    grid, first = [int(side) for side in tokens[1].split("x")], int(tokens[2])
    return lambda output: torch.stack([sample[first:].T.reshape(-1, *grid) for sample in output])


def _inside(value: Any) -> list[Tensor]:
    """The tensors inside of a module's arguments or answer."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if hasattr(value, "values") else value if isinstance(value, (tuple, list)) else ()
    return [tensor for item in items for tensor in _inside(item)]
