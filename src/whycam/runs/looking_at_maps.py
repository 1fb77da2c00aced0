"""What the maps of a run say together, read once and one shard at a time."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import OptionError
from whycam.kit.arrays import Normalize, normalize, resize
from whycam.kit.overlap import share_inside
from whycam.kit.words import plural
from whycam.pictures.figures import grid
from whycam.results.drawing import raw_panel
from whycam.runs.looking import NAMED, class_of, counted, selected
from whycam.runs.store import Store, unpacked

if TYPE_CHECKING:
    import pyarrow
    from matplotlib.figure import Figure
else:
    pyarrow = Figure = Any  # extras

#: In each row of a figure.
_PANELS = 5


@dataclass(frozen=True)
class MeanMap:
    """The mean of the maps of one class.

    Attributes:
        map: `(*spatial)`, float32.
        count: how many maps it is the mean of.
    """

    map: Float[Tensor, "*spatial"]
    count: int


def mean_maps(
    store: Store, by: str | None, size: Sequence[int] | None, how: Normalize, where: Mapping[str, Any]
) -> dict[str, MeanMap]:
    """What `Run.mean_maps` returns."""
    usual = _usual_grid(store, by, where)
    grid = usual if size is None else tuple(size)
    if len(grid) != len(usual):
        raise OptionError(f"size has {len(grid)} numbers for maps with {len(usual)} spatial axes.")
    sums, numbers = dict[str, Tensor](), Counter[str]()
    for held in _shards(store, _kinds(by), where):
        names = (class_of(held) if by is None else held[by].cast("string")).to_pylist()
        for places, maps in _stacks(held):
            scaled = normalize(resize(maps, grid), how)
            for place, one, finite in zip(places, scaled, maps.flatten(1).isfinite().all(1).tolist(), strict=True):
                if finite and (name := names[place]) is not None:
                    sums[name] = one.double() + sums.get(name, 0)
                    numbers[name] += 1
    return {name: MeanMap((sums[name] / count).float(), count) for name, count in numbers.most_common()}


def at_border(store: Store, ratio: float, where: Mapping[str, Any]) -> "pyarrow.Table":
    """What `Run.at_border` returns."""
    import pyarrow

    found = []
    for held in _shards(store, NAMED, where):
        share, even = np.zeros(len(held)), np.zeros(len(held))
        for places, maps in _stacks(held):
            ring = torch.ones(maps.shape[1:], dtype=torch.bool)
            ring[(slice(1, -1),) * ring.ndim] = False
            share[places] = share_inside(maps, ring.expand_as(maps)).numpy()  # NaN where nothing is positive
            even[places] = float(ring.double().mean())
        sticking = (share * (1 - even) >= ratio * even * (1 - share)) & (even < 1)
        values = {"share": pyarrow.array(share), "even": pyarrow.array(even)}
        table = pyarrow.table({**{name: held[name] for name in ("row", *NAMED)}, **values})
        found.append(table.filter(pyarrow.array(sticking)))
    if not found:
        raise _none(where)
    return pyarrow.concat_tables(found).sort_by([("share", "descending"), ("row", "ascending")])


def mean_figure(means: Mapping[str, MeanMap], number: int) -> Figure:
    """What `Run.mean_figure` returns."""
    panels = [
        replace(raw_panel(mean.map, signed=False), title=name, note=f"the mean of {plural(mean.count, 'map')}")
        for name, mean in [*means.items()][:number]
    ]
    rows = [panels[start : start + _PANELS] for start in range(0, len(panels), _PANELS)]
    return grid(rows, colorbar=True)


def _kinds(by: str | None) -> list[str]:
    """The columns that say of which class a row is."""
    return ["target", "prediction"] if by is None else [by]


def _usual_grid(store: Store, by: str | None, where: Mapping[str, Any]) -> tuple[int, ...]:
    """The size that most of the maps have, which are to be of one method at one layer."""
    import pyarrow
    from pyarrow import compute

    columns = dict.fromkeys([*_kinds(by), "method", "layer", "map_shape", "map_type", *where])
    held = selected(store.table([*columns]), where, mapped=True)
    if not len(held):
        raise _none(where)
    if by is not None and not len(held := held.filter(compute.field(by).is_valid())):
        raise OptionError(f"no row with a map says a {by}; name another column.")
    kinds = held.group_by(["method", "layer"], use_threads=False).aggregate([]).to_pylist()
    if len(kinds) > 1:
        listed = ", ".join(f"{each['method']} at {each['layer']}" for each in kinds)
        raise OptionError(
            f"a mean is of one method's maps at one layer, and there are {listed}. Say method= or layer=."
        )
    shapes = compute.binary_join(held["map_shape"].cast(pyarrow.list_(pyarrow.string())), " ")
    usual = next(iter(counted(shapes)))
    return tuple(map(int, usual.split()))


def _shards(store: Store, columns: Sequence[str], where: Mapping[str, Any]) -> Iterator["pyarrow.Table"]:
    """The rows with a map, shard by shard; of a shard that has none no map is read."""
    from pyarrow import compute

    wanted = [*dict.fromkeys([*columns, *where, "map_shape", "map_type"])]
    first = 0
    for name in store.shards:
        held = store.shard(name, wanted)
        left = selected(held, where, first=first, mapped=True)
        if len(left):
            maps = store.shard(name, ["map"]).take(compute.subtract(left["row"], first))
            yield left.append_column("map", maps["map"])
        first += len(held)


def _stacks(held: "pyarrow.Table") -> Iterator[tuple[list[int], Float[Tensor, "row *spatial"]]]:
    """The maps of each size as one tensor, and which rows they are of."""
    alike = defaultdict[tuple[int, ...], list[tuple[int, Any]]](list)
    for place, row in enumerate(held.select(["map", "map_shape", "map_type"]).to_pylist()):
        alike[tuple(row["map_shape"])].append((place, unpacked(row)))
    for several in alike.values():
        places, maps = zip(*several, strict=True)
        yield [*places], torch.from_numpy(np.stack(maps))


def _none(where: Mapping[str, Any]) -> OptionError:
    said = ", ".join(f"{name} {value}" for name, value in where.items())
    return OptionError(f"no row{f' with {said}' if said else ''} has a map.")
