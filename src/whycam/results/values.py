"""What an explanation holds beside its maps: frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from jaxtyping import Float
from torch import Tensor

from whycam.kit.status import Status
from whycam.kit.words import plural
from whycam.targets import NOTHING


@dataclass(frozen=True)
class Prediction:
    """What the model says of one sample: its top class, that class's label text if known, and its probability.

    Where the output is not finite there is no top class: the index is -1 and the probability NaN.
    """

    index: int
    label: str | None
    probability: float

    @property
    def name(self) -> str:
        """The label text, or `class 281`."""
        if self.index < 0:
            return NOTHING
        return self.label if self.label is not None else f"class {self.index}"

    def __str__(self) -> str:
        return self.name if self.index < 0 else f"{self.name} ({self.probability:.1%})"


@dataclass(frozen=True)
class Layer:
    """Where a map was made.

    Attributes:
        name: the module's dotted name, with `#k` for its k-th call and `:input` for what it is given; several names
            joined by ` + ` where maps were fused; `input` for methods that work at the input.
        shape: the shape it returned. `grid`: its spatial sizes. `stride`: input pixels per location.
        layout: how its axes are read. `why`: how it was chosen, and what is ambiguous about it.
        location: how it is known where in the input each position lies: `"by construction"` (convolutions keep the
            raster), `"verified"` (a local change of the input changed the feature there), `"undetermined"` (the change
            spread too far to tell), `"as given"` (by `layout=`).
    """

    name: str
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    stride: tuple[float, ...]
    layout: str
    why: str
    location: str = "by construction"

    @property
    def short(self) -> str:
        """The name; of several layers that were fused the first, and how many more there are."""
        first, *others = self.name.split(" + ")
        return f"{first} and {len(others)} more" if len(others) > 1 else self.name

    def __str__(self) -> str:
        return f"{self.short} ({'x'.join(map(str, self.grid))}, {self.layout})"


@dataclass(frozen=True)
class Cost:
    """What a pass cost, shared by everything made from it: forwards, backwards, and seconds on the clock.

    `choosing` of the forwards went into choosing the layer; what they found is kept for the next call. `parts` are runs
    of the part of the network above a layer. Each is a run of the whole batch.
    """

    forwards: int
    backwards: int
    seconds: float
    choosing: int = 0
    parts: int = 0

    def __str__(self) -> str:
        forwards, backwards = plural(self.forwards, "forward"), plural(self.backwards, "backward")
        aside = f" ({self.choosing} to choose the layer)" if self.choosing else ""
        parts = f", {self.parts:,} runs of the part above the layer" if self.parts else ""
        return f"{forwards}{aside}, {backwards}{parts}, {self.seconds:.2f} s"

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True)
class Sample:
    """What an explanation says of one sample, without the batch axis.

    Attributes:
        map: raw, `(*spatial)`. `score`: the target's. `output`: the model's answer.
        prediction: the top class, if the answer holds classes. `target`: what is explained, empty for no class.
    """

    map: Float[Tensor, "*spatial"]
    score: float
    prediction: Prediction | None
    target: str
    status: Status
    output: Float[Tensor, "..."]
    values: Mapping[str, float]
