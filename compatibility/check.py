"""What whycam makes of one model of the zoo, with nothing but the model and a batch, and whether that is right."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import whycam
from compatibility.entry import Entry, Size
from compatibility.location import BANDS, Finding, Reading, locate, reader

METHODS = ("grad_cam", "layer_cam", "eigen_cam")
#: Statuses with which a map shows nothing of the model, whatever its weights.
EMPTY = ("non-finite", "zero gradient", "flat map")
#: Seconds that the slow check of places may take for one model and size, about.
PATIENCE = 2.0


@dataclass(frozen=True)
class Row:
    """One model at one size of input.

    Attributes:
        grid: of the map; `right`: the grids that are right by the model's own account.
        location: how whycam knows where the positions lie; `oracle`: what the slow check says of it.
        statuses: of each method, the kinds that came, joined.
        faults: what is wrong, in sentences. A row without any is right.
    """

    library: str
    family: str
    name: str
    size: Size
    layer: str = ""
    why: str = ""
    layout: str = ""
    grid: Size = ()
    right: tuple[Size, ...] = ()
    location: str = ""
    oracle: str = ""
    evidence: str = ""
    statuses: dict[str, str] = field(default_factory=dict)
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    faults: tuple[str, ...] = ()
    remark: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def __str__(self) -> str:
        where = f"{self.layer} {_x(self.grid)} {self.layout}; {self.location}, oracle {self.evidence}"
        statuses = ", ".join(f"{method} {kinds}" for method, kinds in self.statuses.items())
        passes = f"{self.forwards}+{self.backwards} {self.seconds:.1f} s"
        faults = "".join(f"\n    FAULT {fault}" for fault in self.faults)
        return f"{self.library}:{self.name} {_x(self.size)}: {where}; {statuses}; {passes}{faults}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Row":
        """The row that `to_dict` made the values of, with lists where JSON has no tuples."""
        tupled = {key: _tupled(value) for key, value in values.items()}
        return cls(**tupled)


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def check(entry: Entry, *, patience: float = PATIENCE) -> Iterator[Row]:
    """A row for each size. Whatever is raised becomes the row's fault.

    `patience`: seconds, about, for the slow check of places; with 0 it is left out.
    """
    model: nn.Module | None = None
    for size in entry.sizes:
        started = time.perf_counter()
        found: dict[str, Any] = {}
        faults: list[str] = []
        try:
            if model is None or not entry.any_size:
                model = None  # before the next one is built
                model = entry.build(size)
            _check(model, entry, size, patience, found, faults)
        except Exception as error:  # a row says so; the run goes on
            faults.append(f"{type(error).__name__}: {error}")
        found.setdefault("seconds", time.perf_counter() - started)
        yield Row(entry.library, entry.family, entry.name, size, **found, faults=tuple(faults), remark=entry.remark)


def _check(
    model: nn.Module, entry: Entry, size: Size, patience: float, found: dict[str, Any], faults: list[str]
) -> None:
    from nets import differences, state

    inputs = entry.inputs(size)
    found["right"] = tuple(sorted(entry.grids(model, inputs)))
    before = state(model)
    try:
        made = whycam.compare(model, inputs, METHODS)
    finally:
        changed = differences(before, state(model))
        del before
        if changed:
            faults.append(f"the model is not as it was found: {changed[:5]}")
    faults += [f"{key[0]}: {reason}" for key, reason in made.failures.items()]
    explained = {each.method: each for each in made.values()}
    found["statuses"] = {method: _kinds(each) for method, each in explained.items()}
    found.update(forwards=made.cost.forwards, backwards=made.cost.backwards, seconds=made.cost.seconds)
    for method, each in explained.items():
        faults += [f"{method}: {sentence}" for sentence in _faults_of(each, found["right"])]
    if "grad_cam" not in explained:
        return
    layer = explained["grad_cam"].layer
    found.update(layer=layer.name, why=layer.why, layout=layer.layout, grid=tuple(layer.grid), location=layer.location)
    if patience:
        finding = _place(model, layer, inputs, patience, faults)
        found.update(oracle=finding.answer, evidence=str(finding))
        if finding.answer == "does not hold":
            faults.append(f"location is {layer.location!r}, but {finding}")


def _kinds(explanation: whycam.Explanation) -> str:
    return ", ".join(dict.fromkeys(status.kind for status in explanation.status))


def _faults_of(explanation: whycam.Explanation, right: tuple[Size, ...]) -> Iterator[str]:
    """What is wrong with one method's maps, whatever the weights."""
    layer = explanation.layer
    if not bool(explanation.maps.isfinite().all()):
        yield "the map holds NaN or infinity"
    if tuple(explanation.maps.shape[1:]) != tuple(layer.grid):
        yield f"the map's grid {tuple(explanation.maps.shape[1:])} is not the layer's {layer.grid}"
    if tuple(layer.grid) not in right:
        yield f"at {layer.name} the grid is {_x(layer.grid)}; right is {' or '.join(map(_x, right))}"
    for status in dict.fromkeys(each for each in explanation.status if each.kind in EMPTY):
        yield f"{status} (at {layer.name})"


def _x(grid: Size) -> str:
    return "x".join(map(str, grid))


def _place(model: nn.Module, layer: Any, inputs: Tensor, patience: float, faults: list[str]) -> Finding:
    """The slow check of places, after seeing that whycam's map is made from what an ordinary hook reads there."""
    read = reader(model, layer.name, layer.shape, layer.layout)
    if read is None:
        return locate(_through_whycam(model, layer.name), inputs[:1], draws=4, size=0.05)
    told = _through_whycam(model, layer.name, mean=True)(inputs)[:, 0]
    with torch.no_grad():
        seen = read(inputs).mean(1).float()
    if seen.shape != told.shape or not torch.allclose(seen, told, rtol=1e-3, atol=1e-4 * float(seen.abs().amax())):
        faults.append(f"the activations at {layer.name} are not what a hook reads there as {layer.layout}")
    bands = BANDS * sum(side > 1 for side in layer.grid)
    single = _seconds(model, inputs[:1])
    if 3 * 2 * bands * single <= patience:  # double precision takes three times as long, or more
        try:
            draws = int(patience / bands / _seconds(model.double(), inputs[:1].double()))
            if draws >= 2:
                return locate(read, inputs[:1].double(), draws=min(6, draws))
        except RuntimeError:  # single precision is written into its code
            pass
        finally:
            model.float()
    draws = int(patience / bands / single)
    return locate(read, inputs[:1], draws=max(2, min(6, draws)), size=0.02)


def _seconds(model: nn.Module, inputs: Tensor) -> float:
    """How long one forward takes."""
    started = time.perf_counter()
    with torch.no_grad():
        model(inputs)
    return time.perf_counter() - started


def _through_whycam(model: nn.Module, layer: str, *, mean: bool = False) -> Reading:
    """The layer's activations as whycam lays them out: their mean, or their sum with random signs."""

    def reading(activations: Tensor) -> Tensor:
        if mean:
            return activations.mean(1)
        generator = torch.Generator().manual_seed(0)
        signs = torch.randn(activations.shape[1], generator=generator).to(activations)
        return torch.einsum("nc...,c->n...", activations, signs)

    return lambda inputs: whycam.explain(model, inputs, reading, layer=layer).maps[:, None]
