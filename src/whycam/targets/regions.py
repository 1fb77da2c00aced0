"""Targets for outputs with a place for each score: a region of a segmentation, a peak of a heat map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from whycam.errors import TargetError
from whycam.kit.arrays import wide
from whycam.kit.status import Status
from whycam.targets.outputs import channel, dense
from whycam.targets.reading import class_index, name_of
from whycam.targets.resolved import Shown
from whycam.targets.structured import OutputContext, OutputTarget, Settled, nothing, numbers

Where = Literal["predicted", "everywhere", "mask", "box", "point", "component"]
#: Ways to name pixels, and the argument that each needs.
_NEEDS = {"mask": "mask", "box": "box", "point": "point", "component": "point"}


@dataclass(frozen=True, eq=False)
class Region(OutputTarget):
    """A class's score over a region: why these pixels are called that (Seg-Grad-CAM, arXiv:2002.11434, is the sum).

    The region is settled on the recorded pass and stays; a mask recomputed on edited inputs would make the score jump.
    A mask is taken to the output's resolution by area, so that a thin region keeps its share there.

    Args:
        of: the class, as index or label text. Of an output of one channel, 1 is the channel and 0 its other side.
        where: `"predicted"`: where the class is the top one; `"everywhere"`; `"mask"`, `"box"`, `"point"`, or
            `"component"`: the connected part of the predicted region that holds the point. Left out, it follows from
            what is given: a point stands for its component.
        mask: `(*space)` or `(batch, *space)` of any size, over the whole input.
        box: left, top, right, bottom; `point`: x, y; in pixels of the photo, or of the input where a batch came.
        reduce: the mean of the class's scores over the region, which compares between images, or their sum.

    Examples:
        >>> whycam.targets.Region(1, point=(3, 4)).where
        'component'
    """

    usual_method = "hires_cam"  # adds up to the score, whatever the sign; pooled weights say nothing of one region
    dense = True
    of: int | str
    where: Where | None = None
    mask: Any = None
    box: Sequence[float] | None = None
    point: Sequence[float] | None = None
    reduce: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        given = [name for name in ("mask", "box", "point") if getattr(self, name) is not None]
        if len(given) > 1:
            raise TargetError(f"a region is given by one of mask, box and point; {' and '.join(given)} came.")
        implied = {"point": "component"}.get(given[0], given[0]) if given else "predicted"
        where = self.where or implied
        if where not in ("predicted", "everywhere", *_NEEDS):
            raise TargetError(f"where is one of predicted, everywhere, {', '.join(_NEEDS)}, not {where!r}.")
        if [_NEEDS[where]] != given if where in _NEEDS else given:
            needs = f"{_NEEDS[where]}=" if where in _NEEDS else "no mask, box or point"
            raise TargetError(f"where={where!r} takes {needs}; {' and '.join(given) or 'nothing'} came.")
        if self.reduce not in ("mean", "sum"):
            raise TargetError(f"reduce is 'mean' or 'sum', not {self.reduce!r}.")
        for name, count in (("box", 4), ("point", 2)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, str) or len(value) != count):
                raise TargetError(f"{name}= is {count} numbers, not {value!r}.")
        object.__setattr__(self, "where", where)

    @classmethod
    def from_text(cls, text: str) -> "Region":
        """`road`, `12`, or with a point of it, `road@120,80`."""
        name, at, place = text.rpartition("@") if "@" in text else (text, "", "")
        of = int(name) if name.strip().isdigit() else name.strip()
        return cls(of, point=numbers(place, 2) if at else None)

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The region in each image, as weights from 0 to 1 at the output's resolution."""
        found = dense(output, context.inputs.ndim - 2)
        index = class_index(self.of, max(2, found.scores.shape[1]), context.labels)
        seen = wide(found.scores.detach())  # sums over many pixels are too large for half precision
        weights = torch.stack([self._weights(i, seen, index, context) for i in range(len(seen))])
        sizes = weights.flatten(1).sum(1)
        per = sizes.clamp(min=torch.finfo(sizes.dtype).tiny) if self.reduce == "mean" else torch.ones_like(sizes)

        def total(scores: Tensor) -> Tensor:
            return (channel(scores, index) * weights.to(scores.device)).flatten(1).sum(1) / per.to(scores.device)

        again = found.again

        def read(other: Any) -> Tensor:
            return total(again(other))

        name = name_of(index, context.labels)
        status = [
            Status() if size > 0 else Status("nothing to explain", self._empty(seen[i], name, context))
            for i, size in enumerate(sizes.tolist())
        ]
        scores = total(found.scores)
        there = torch.tensor([each.ok for each in status], device=scores.device)
        if not bool(there.all()):
            scores = scores.where(there, nothing(output, len(status)))
        what = {"predicted": name, "everywhere": f"{name}, everywhere"}.get(
            str(self.where), f"{name} in the {self.where}"
        )
        shares = [f"{what} ({float(each):.1%} of the picture)" for each in weights.flatten(1).mean(1)]
        points = [None if self.point is None else context.to_input(i, *self.point) for i in range(len(seen))]
        shown = tuple(
            Shown(text, mask=each > 0, point=point) for text, each, point in zip(shares, weights, points, strict=True)
        )
        note = found.about
        if tuple(weights.shape[1:]) != tuple(context.inputs.shape[2:]):
            note += f"; at a resolution of {'x'.join(map(str, weights.shape[1:]))}"
        return [Settled(scores, read, tuple(shares), None, tuple(status), shown, self, note)]

    def _weights(self, sample: int, seen: Tensor, index: int, context: OutputContext) -> Tensor:
        grid = tuple(seen.shape[2:])
        if self.where == "mask":
            mask = torch.as_tensor(np.array(self.mask) if not isinstance(self.mask, Tensor) else self.mask)
            each = mask.ndim == len(grid) + 1 and len(mask) == len(seen)
            if mask.ndim != len(grid) and not each:
                raise TargetError(
                    f"the mask has shape {tuple(mask.shape)}; {len(grid)} axes of space were expected, for the whole "
                    f"batch or for each of its {len(seen)} samples."
                )
            if not bool(((mask >= 0) & (mask <= 1)).all()):
                raise TargetError("the mask holds other values than 0 to 1, its share of each place; pass mask > 0.")
            return area((mask[sample] if each else mask).to(seen), grid)
        if self.where == "everywhere":
            return seen.new_ones(grid)
        if len(grid) != 2 and self.where != "predicted":
            raise TargetError(f"a {self.where} names pixels, and the output has {len(grid)} axes of space; pass mask=.")
        if self.where == "box":
            assert self.box is not None  # checked where it was made
            corners = [*context.to_input(sample, *self.box[:2]), *context.to_input(sample, *self.box[2:])]
            return _rectangle(corners, context.size, grid).to(seen)
        top = _top(seen[sample]) == index
        if self.where == "predicted":
            return top.to(seen)
        assert self.point is not None  # as above
        at = _cell(context.to_input(sample, *self.point), context.size, grid)
        if self.where == "point":
            single = seen.new_zeros(grid)
            single[at] = 1
            return single
        return _component(top, at).to(seen)

    def _empty(self, seen: Tensor, name: str, context: OutputContext) -> str:
        """What is predicted in place of the class that is not there."""
        shares = torch.bincount(_top(seen).flatten()).double() / seen[0].numel()
        best = shares.argsort(descending=True)[:3].tolist()
        said = ", ".join(f"{name_of(i, context.labels)} ({float(shares[i]):.0%})" for i in best if shares[i] > 0)
        where = {"component": " at that point", "mask": ": the mask is empty", "box": ": the box is outside"}
        return f"{name} is not predicted{where.get(str(self.where), ' anywhere')}; predicted are {said}."


@dataclass(frozen=True)
class Keypoint(OutputTarget):
    """One keypoint of a network that answers with a heat map for each: why it lies where it does.

    The score is the heat map's value at its peak, which is settled on the recorded pass.

    Examples:
        >>> whycam.targets.Keypoint(3)
        Keypoint(of=3)
    """

    usual_method = "hires_cam"
    dense = True
    of: int

    @classmethod
    def from_text(cls, text: str) -> "Keypoint":
        """Its number."""
        return cls(int(numbers(text, 1)[0]))

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The peak in each image."""
        found = dense(output, context.inputs.ndim - 2)
        class_index(self.of, found.scores.shape[1], None)
        peaks = found.scores[:, self.of].detach().flatten(1).argmax(1)
        number, again = self.of, found.again

        def at_peak(scores: Tensor) -> Tensor:
            return scores[:, number].flatten(1).gather(1, peaks[:, None])[:, 0]

        def read(other: Any) -> Tensor:
            return at_peak(again(other))

        grid, space = found.scores.shape[2:], context.inputs.shape[2:]
        cells = torch.stack(torch.unravel_index(peaks, grid), 1).tolist()
        points = [
            tuple((at + 0.5) * of / cut for at, of, cut in zip(cell, space, grid, strict=True))[::-1] for cell in cells
        ]  # x first
        texts = tuple(f"keypoint {number} at ({', '.join(f'{each:.0f}' for each in point)})" for point in points)
        shown = tuple(
            Shown(text, point=(point[0], point[1]) if len(point) == 2 else None)
            for text, point in zip(texts, points, strict=True)
        )
        return [Settled(at_peak(found.scores), read, texts, None, (), shown, self, found.about)]


def area(mask: Tensor, grid: Sequence[int]) -> Tensor:
    """A mask brought to a grid by area: the share of each cell that it covers."""
    size = tuple(grid)
    if any(to > of for of, to in zip(mask.shape, size, strict=True)):  # a cell lies within one of the mask's own
        whole = [-(-to // of) * of for of, to in zip(mask.shape, size, strict=True)]
        mask = F.interpolate(mask[None, None].double(), whole, mode="nearest-exact")[0, 0].to(mask)
    pooled: Tensor = F.interpolate(mask[None, None].double(), size, mode="area")[0, 0]
    return pooled.to(mask)


def _top(scores: Tensor) -> Tensor:
    """The class of each place; `scores` `(class, *space)`."""
    return scores.argmax(0) if len(scores) > 1 else (scores[0] > 0).long()


def _cell(point: tuple[float, float], size: tuple[int, int], grid: tuple[int, ...]) -> tuple[int, int]:
    (x, y), (height, width), (rows, columns) = point, size, grid
    if not (0 <= x < width and 0 <= y < height):
        raise TargetError(f"the point ({x:g}, {y:g}) lies outside of the input, {width} x {height} pixels.")
    return int(y * rows / height), int(x * columns / width)


def _rectangle(corners: Sequence[float], size: tuple[int, int], grid: tuple[int, ...]) -> Tensor:
    """The share of each cell of a grid that a box covers."""

    def covered(low: float, high: float, length: int, cells: int) -> Tensor:
        edges = torch.arange(cells + 1, dtype=torch.float64) * length / cells
        return (edges[1:].clamp(max=high) - edges[:-1].clamp(min=low)).clamp(min=0) * cells / length

    left, top, right, bottom = corners
    return covered(top, bottom, size[0], grid[0])[:, None] * covered(left, right, size[1], grid[1])


def _component(region: Tensor, at: tuple[int, int]) -> Tensor:
    """The part of a region that hangs together with a place, by its four neighbors."""
    grown = torch.zeros_like(region)
    grown[at] = region[at]
    while True:
        near = F.max_pool2d(grown[None, None].double(), (3, 1), 1, (1, 0)) + F.max_pool2d(
            grown[None, None].double(), (1, 3), 1, (0, 1)
        )
        wider = (near[0, 0] > 0) & region
        if torch.equal(wider, grown):
            return grown
        grown = wider
