"""Pictures larger than a network takes: recorded tile by tile for one score, or explained tile by tile for many."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from whycam.engine.inputs import Batch
from whycam.engine.layer_plan import plan
from whycam.engine.measure import Ground, Measured
from whycam.engine.request import Request
from whycam.engine.tiling import Tiles
from whycam.errors import InputError, LayerRefused, TargetError, WhycamError
from whycam.kit.status import Status
from whycam.network.hooks import call
from whycam.network.layouts import ChannelsFirst
from whycam.network.origin import Answer
from whycam.network.outputs import OutputSelector, Scores
from whycam.network.preserve_state import as_found
from whycam.network.recording.record import LayerRecord, Recording, Resolve, record
from whycam.network.unwrap import eager
from whycam.pictures.input_context import InputContext
from whycam.results.explanation import Comparison, Explanation
from whycam.results.values import Cost
from whycam.targets import ResolvedTarget
from whycam.targets.boxes import Box, Boxes, BoxSide
from whycam.targets.outputs import dense
from whycam.targets.structured import OutputContext, OutputTarget, Settled, Settling, resolved

#: What a map is made of that can be put together from tiles.
_STITCHED = frozenset({"activations", "gradients", "scores"})


class _Span(NamedTuple):
    """A tile along one axis: its own pixels, and those it is shown with."""

    start: int
    stop: int
    low: int
    high: int


def whole_or_each(tiles: Tiles, request: Request, resolvers: Sequence[Resolve]) -> str:
    """Whether one score reads the whole picture or every tile has one."""
    specific = any(each.class_specific for each in request.methods)
    regions = all(isinstance(each, OutputSelector) and each.dense for each in resolvers)
    if tiles.score == "whole" and not regions:
        raise TargetError(
            "one score of the whole picture needs a target that reads an answer with a place for each score, such as "
            "Region; with Tiles(score='each') every tile has its own."
        )
    if any(isinstance(each, (Box, Boxes, BoxSide)) for each in request.targets):
        raise TargetError(
            "a detector finds other boxes in every tile, of which none is that of the whole picture; explain the tile "
            "that the box is in, without tiles=."
        )
    rule = tiles.score or ("whole" if regions else "each")
    if rule == "each" and specific and None in request.targets:
        raise TargetError("each tile has a top class of its own; say with target= which class is meant in all of them.")
    return rule


# --- one score of the whole picture


def stitched(module: nn.Module, batch: Batch, request: Request, resolvers: Sequence[Resolve]) -> Ground:
    """What the methods of a request read, put together from tiles.

    Raises:
        WhycamError: a method that reads more than a layer, a layer whose cells do not keep to the picture's, or a
            network whose every place sees all of the picture, without a `halo`.
    """
    tiles = request.tiles
    assert tiles is not None  # else nothing is cut
    for method in request.methods:
        if more := sorted(method.needs - _STITCHED):
            raise WhycamError(
                f"{method.title} reads {more[0]}, which is not put together from tiles; use a method that reads a "
                "layer alone, such as grad_cam."
            )
    picture = batch.context.inputs
    space = picture.shape[2:]
    sides = tiles.sides(space)
    small = picture[_at(slice(0, side) for side in sides)]
    plans, choosing = plan(module, batch.with_picture(small), request.methods, request.layers, resolvers)
    taps = list(dict.fromkeys(tap for several in plans.values() for each in several for tap in each.taps))

    def crop(spans: Sequence[_Span]) -> Tensor:
        return picture[_at(slice(each.low, each.high) for each in spans)]

    # a first tile says how the layers and the answer keep to the pixels
    first = record(module, small, taps, [_weighted(None)], must_depend=False)
    with torch.no_grad():
        answer = _answer(module, small)
    steps = {tap: _steps(str(tap), sides, each.activations) for tap, each in first.layers.items()}
    answer_steps = _steps("the answer", sides, answer)
    stride = [math.lcm(*each) for each in zip(*steps.values(), answer_steps, strict=True)]
    sides = [-(-side // step) * step for side, step in zip(sides, stride, strict=True)]
    halo, forwards = tiles.halo, 2
    if halo is None:
        reach = _reach(module, picture, [4 * side for side in sides], answer_steps)
        forwards, halo = forwards + 1, 2 * reach
    cuts = [_cut(length, side, step, halo) for length, side, step in zip(space, sides, stride, strict=True)]
    every = [list(spans) for spans in itertools.product(*cuts)]

    counts = [len(each) for each in cuts]
    scores = _Whole(space, answer_steps, counts)
    with torch.no_grad():
        for spans in every:
            scores.put(spans, _answer(module, crop(spans)))
    forwards += len(every)
    leaf = scores.joined().requires_grad_()
    context = OutputContext(module, picture, None, {}, batch.context.geometries)
    with torch.enable_grad():
        settlings = [each.settling for each in resolvers if isinstance(each, OutputSelector) and each.settling]
        settled = [one for each in settlings for one in each.target.settle(leaf, replace(context, labels=each.labels))]
        functions, targets, columns = resolved(settled)
        weights = [
            torch.autograd.grad(one.scores.sum(), leaf, retain_graph=True, allow_unused=True)[0] for one in settled
        ]
        output = columns(leaf).detach()

    wholes = {tap: _Whole(space, each, counts) for tap, each in steps.items()}
    gradients = {(tap, k): _Whole(space, steps[tap], counts) for tap in taps for k in range(len(settled))}
    for spans in every:
        asked = [_weighted(None if each is None else each[_at(scores.cells(spans))]) for each in weights]
        made = record(module, crop(spans), taps, asked, must_depend=False, layouts=dict.fromkeys(taps, ChannelsFirst()))
        for tap, layer in made.layers.items():
            wholes[tap].put(spans, layer.activations)
            for k, gradient in enumerate(layer.gradients):
                gradients[tap, k].put(spans, torch.zeros_like(layer.activations) if gradient is None else gradient)
    forwards += len(every)
    layers = {
        tap: LayerRecord(
            tap,
            1,
            tuple(activations.shape),
            ChannelsFirst(),
            activations,
            tuple(gradients[tap, k].joined() for k in range(len(settled))),
            (False,) * len(settled),
        )
        for tap, activations in ((tap, each.joined()) for tap, each in wholes.items())
    }
    recording = Recording(
        layers,
        output,
        Answer("", Scores(functions)),
        tuple(targets),
        tuple(one.scores.detach() for one in settled),
        forwards=forwards,
        backwards=len(every) * len(settled),
    )
    said = f"put together from {len(every)} tiles of {'x'.join(map(str, sides))} with {halo} pixels around each"
    plans = {name: [replace(each, why=f"{each.reason}; {said}") for each in several] for name, several in plans.items()}
    return Ground(plans, Measured(recording, None, None, dict.fromkeys(taps, "by construction"), {}), choosing)


def _at(place: Iterable[slice]) -> tuple[Any, ...]:
    """Those places along the axes of space."""
    return (..., *place)


class _Whole:
    """A tensor over all of the picture, put together from tiles that come in order."""

    def __init__(self, space: Sequence[int], steps: Sequence[int], counts: Sequence[int]) -> None:
        self.space, self.steps, self.counts = space, steps, counts
        self.pieces: list[Tensor] = []

    def cells(self, spans: Sequence[_Span]) -> list[slice]:
        """Where all that a tile is shown lies."""
        return [
            slice(each.low // step, None if each.high == length else each.high // step)
            for each, length, step in zip(spans, self.space, self.steps, strict=True)
        ]

    def put(self, spans: Sequence[_Span], values: Tensor) -> None:
        """What a tile gave; its own part is kept."""
        own = [
            slice((each.start - each.low) // step, None if each.stop == length else (each.stop - each.low) // step)
            for each, length, step in zip(spans, self.space, self.steps, strict=True)
        ]
        self.pieces.append(values[_at(own)].detach().clone())

    def joined(self) -> Tensor:
        """All of it."""
        parts = self.pieces
        for axis in reversed(range(len(self.counts))):
            count = self.counts[axis]
            parts = [torch.cat(parts[k : k + count], 2 + axis) for k in range(0, len(parts), count)]
        return parts[0]


@dataclass(frozen=True, eq=False)
class _Weighted(OutputTarget):
    """The answer's places, each by what the whole picture's score changes with it; `None`: all alike."""

    weights: Tensor | None

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """Their sum, in each sample."""
        found = dense(output, context.inputs.ndim - 2).scores
        total = (found if self.weights is None else found * self.weights).flatten(1).sum(1)
        return [Settled(total, lambda other: other, ("the whole picture",) * len(found))]


def _weighted(weights: Tensor | None) -> OutputSelector:
    def none(output: Tensor, **_: Any) -> ResolvedTarget:
        raise AssertionError  # it is settled on the whole output

    return OutputSelector(none, settling=Settling(_Weighted(weights)))


def _answer(module: nn.Module, inputs: Tensor) -> Tensor:
    with as_found(module), eager(module):
        return dense(call(module, inputs.clone()), inputs.ndim - 2).scores


def _steps(what: str, sides: Sequence[int], values: Tensor) -> list[int]:
    """How many pixels one cell is along each axis."""
    grid = values.shape[2:]
    if len(grid) != len(sides) or any(side % cells for side, cells in zip(sides, grid, strict=True)):
        raise LayerRefused(
            f"{what} has {'x'.join(map(str, grid))} cells for a tile of {'x'.join(map(str, sides))} pixels: tiles need "
            "a whole number of pixels for each cell. Choose a size that the network's stride divides, and a network "
            "that pads."
        )
    return [side // cells for side, cells in zip(sides, grid, strict=True)]


def _cut(length: int, side: int, stride: int, halo: int) -> list[_Span]:
    """The tiles along one axis, whose places are multiples of the stride."""
    around = -(-halo // stride) * stride
    return [
        _Span(start, min(start + side, length), max(0, start - around), min(length, start + side + around))
        for start in range(0, length, side)
    ]


def _reach(module: nn.Module, picture: Tensor, sides: Sequence[int], steps: Sequence[int]) -> int:
    """How many pixels away an answer may still depend on a pixel, at most: as far as one NaN spreads.

    Raises:
        WhycamError: all of a part of the picture sees each pixel.
    """
    space = [min(side, length) for side, length in zip(sides, picture.shape[2:], strict=True)]
    probe = picture[_at(slice(0, side) for side in space)][:1].detach().clone()
    middle = [side // 2 for side in space]
    probe[_at(slice(at, at + 1) for at in middle)] = torch.nan
    with torch.no_grad():
        reached = _answer(module, probe).isnan()[0].any(0)
    if bool(reached.all()):
        raise InputError(
            f"every place of the answer depends on every pixel, at least within {'x'.join(map(str, space))} pixels, so "
            "tiles give another answer than the whole picture. Say with Tiles(size, halo=) how far to look all the "
            "same, or ask for each tile's own score."
        )
    found = 0
    for axis, (at, step) in enumerate(zip(middle, steps, strict=True)):
        cells = reached.movedim(axis, 0).reshape(reached.shape[axis], -1).any(1).nonzero()[:, 0]
        if len(cells):
            found = max(found, at - int(cells.min()) * step, (int(cells.max()) + 1) * step - at)
    return found


# --- a score of each tile


def each_tile(run: Callable[[Batch], Comparison], batch: Batch, tiles: Tiles) -> Comparison:
    """Every tile explained by itself, overlapping maps averaged.

    Raises:
        WhycamError: what one of the tiles raises.
    """
    picture = batch.context.inputs
    space = picture.shape[2:]
    sides = tiles.sides(space)
    starts = [
        sorted({*range(0, length - side + 1, max(1, round(side * (1 - tiles.overlap)))), length - side})
        for length, side in zip(space, sides, strict=True)
    ]
    sums: dict[Any, Tensor] = {}
    made: dict[Any, list[Explanation]] = {}
    covered = picture.new_zeros(space)
    cost = Cost(0, 0, 0.0)
    failures: dict[Any, str] = {}
    for corner in itertools.product(*starts):
        place = tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))
        tile = picture[_at(place)]
        found = run(replace(batch.with_picture(tile), context=InputContext(tile, space=batch.context.space)))
        covered[_at(place)] += 1
        cost, failures = cost + found.cost, {**failures, **found.failures}
        for key, one in found.items():
            if key not in sums:
                sums[key] = picture.new_zeros((len(picture), *space))
            sums[key][_at(place)] += one.heatmaps(normalize="none").to(picture)
            made.setdefault(key, []).append(one)
    counts = [len(each) for each in starts]
    return Comparison(
        {key: _joined(several, sums[key] / covered, batch.context, counts, cost) for key, several in made.items()},
        failures,
        cost,
    )


def _joined(
    several: Sequence[Explanation], maps: Tensor, context: InputContext, counts: Sequence[int], cost: Cost
) -> Explanation:
    one = several[0]
    scores = torch.stack([each.scores for each in several], 1)
    kinds = [[each.status[sample] for each in several] for sample in range(len(maps))]
    said = [f"the mean of {len(several)} tiles, each explained for its own score ({_range(scores)})"]
    amiss = sum(not all(each.ok for each in status) for status in zip(*kinds, strict=True))
    if amiss:
        said.append(f"{amiss} of them are not ok, such as {next(s for row in kinds for s in row if not s.ok)}")
    size = tuple(maps.shape[1:])
    return replace(
        one,
        maps=maps.float(),
        scores=scores.mean(1),
        tile_scores=scores.reshape(len(scores), *counts),
        status=tuple(Status() if any(each.ok for each in row) else row[0] for row in kinds),
        layer=replace(one.layer, grid=size, stride=(1.0,) * len(size)),
        notes=(*one.notes, *said),
        context=context,
        predictions=(),
        cost=cost,
    )


def _range(scores: Tensor) -> str:
    return f"{float(scores.min()):.3g} to {float(scores.max()):.3g}"
