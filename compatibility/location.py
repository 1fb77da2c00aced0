"""Whether the positions of a feature lie where they are said to: a slow check that shares no code with whycam.

The input is cut into bands along one axis after the other. Noise is added in one band at a time, and the change of the
feature is measured at every position. A position that lies in a band answers to that band more than others do.
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

#: The most bands along an axis; small grids have a band for each position.
BANDS = 4
#: Positions nearer to the edge of a band than this part of it belong to two bands and are left out.
MARGIN = 0.2


@dataclass(frozen=True)
class Finding:
    """The answer, and for each axis with more than one position what it rests on.

    Attributes:
        won: the share of positions at which the band that they are said to lie in has the strongest answer.
        clear: how much stronger the strongest band is than the mean of the bands, in the median position.
        repeats: the correlation between two halves of the draws.
    """

    answer: Answer
    won: tuple[float, ...] = ()
    clear: tuple[float, ...] = ()
    repeats: tuple[float, ...] = ()

    def __str__(self) -> str:
        shares = ", ".join(f"{share:.0%}" for share in self.won)
        return f"{self.answer} ({shares} of positions)" if shares else self.answer


@torch.no_grad()
def locate(read: Reading, sample: Tensor, *, draws: int = 8, size: float = 1e-3, seed: int = 0) -> Finding:
    """Whether the grid that `read` returns lies over the sample, `(1, channel, *spatial)`, as a raster.

    Costs `draws` samples for each band, and one more. `size` is the standard deviation of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    still = read(sample)
    grid = tuple(still.shape[2:])
    space = tuple(sample.shape[2:])
    noise = size * torch.randn(draws, *sample.shape[1:], generator=generator, dtype=torch.float64).to(sample.dtype)
    won, clear, repeats = [], [], []
    for axis, (cells, side) in enumerate(zip(grid, space, strict=True)):
        bands = min(BANDS, cells, side)
        if bands < 2:
            continue
        answers = torch.stack(
            [
                (read(sample + noise * _band(number, bands, axis, space, sample)) - still).square().sum(1)
                for number in range(bands)
            ]
        )  # (band, draw, *grid)
        strength = _relative(answers.double().mean(1))
        halves = [_relative(answers[:, part::2].double().mean(1)) for part in (0, 1)]
        own, sure = _own_bands(cells, bands)
        moved = strength.movedim(axis + 1, 1).flatten(2)[:, sure]  # (band, position on the axis, the rest)
        winners = moved.argmax(0)
        won.append((winners == own[sure, None]).double().mean().item())
        clear.append((moved.amax(0) / moved.mean(0)).median().item())
        repeats.append(_correlation(*halves))
    return Finding(_answer(won, clear, repeats), tuple(won), tuple(clear), tuple(repeats))


def _answer(won: list[float], clear: list[float], repeats: list[float]) -> Answer:
    """Every axis must say so for `holds`; one that clearly says another place is enough for `does not hold`."""
    axes = list(zip(won, clear, repeats, strict=True))
    if any(share <= 0.6 and clarity >= 1.25 and repeat >= 0.7 for share, clarity, repeat in axes):
        return "does not hold"
    if axes and all(share >= 0.8 and clarity >= 1.02 and repeat >= 0.5 for share, clarity, repeat in axes):
        return "holds"
    return "cannot tell"


def _relative(answers: Tensor) -> Tensor:
    """Each band's answers over its mean answer: a band that moves everything alike says nothing about place."""
    mean = answers.flatten(1).mean(1).reshape(-1, *[1] * (answers.ndim - 1))
    return torch.where(mean > 0, answers / mean, torch.ones_like(answers))


def _band(number: int, bands: int, axis: int, space: tuple[int, ...], like: Tensor) -> Tensor:
    """Ones in one band of the input and zeros elsewhere."""
    side = space[axis]
    mask = torch.zeros(side, dtype=like.dtype)
    mask[round(number * side / bands) : round((number + 1) * side / bands)] = 1
    return mask.reshape([-1 if each == axis else 1 for each in range(len(space))])


def _own_bands(cells: int, bands: int) -> tuple[Tensor, Tensor]:
    """The band that each position is said to lie in, and which positions lie well inside of theirs."""
    centres = (torch.arange(cells) + 0.5) / cells * bands
    own = centres.long()
    edge = centres.round()
    inner = (centres - edge).abs() >= MARGIN
    return own, inner | (edge == 0) | (edge == bands)


def _correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's, between the answers of two halves; 0 where either is constant."""
    pair = torch.stack([one.flatten(), other.flatten()])
    pair = pair - pair.mean(1, keepdim=True)
    norms = pair.norm(dim=1)
    return float((pair[0] @ pair[1]) / norms.prod()) if bool((norms > 0).all()) else 0.0


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
