"""What an explanation holds, apart from how it is drawn: frozen values."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from whycam.errors import WhycamError
from whycam.kit.arrays import Enlarge, Normalize, normalize, resize
from whycam.kit.declared import plain
from whycam.kit.status import Status
from whycam.kit.words import plural
from whycam.network.variants.scoring import RunStats
from whycam.pictures.input_context import InputContext
from whycam.targets import NOTHING, key
from whycam.targets.resolved import Shown

One = TypeVar("One", bound="ExplanationValues")
One_co = TypeVar("One_co", bound="ExplanationValues", covariant=True)

#: The most samples that a short text names.
_SHOWN = 5


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


#: The note of maps that keep what speaks against the target, below zero.
SIGNED = "signed: the positive part, the method's last step, was left out"


@dataclass(frozen=True, repr=False)
class ExplanationValues:
    """What an `Explanation` holds; see there."""

    maps: Float[Tensor, "batch *spatial"]
    scores: Float[Tensor, " batch"]
    predictions: tuple[Prediction, ...]
    target: tuple[str, ...]
    method: str
    title: str
    options: Mapping[str, Any]
    layer: Layer
    status: tuple[Status, ...]
    cost: Cost
    outputs: Float[Tensor, "batch ..."]
    parts: Float[Tensor, "batch part *spatial"] | None = None
    apart: str = ""
    channels: Float[Tensor, "batch channel *spatial"] | None = None
    colors: Float[Tensor, "batch color *space"] | None = None
    values: Mapping[str, Float[Tensor, " batch"]] = field(default_factory=dict)
    tile_scores: Float[Tensor, "batch *tiles"] | None = None
    notes: tuple[str, ...] = ()
    shown: tuple[Shown, ...] = ()
    model: str = ""
    context: InputContext | None = field(default=None, repr=False)
    work: tuple[RunStats, ...] = field(default=(), repr=False)
    provenance: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        texts = self.target or tuple("no class" for _ in self.status)
        shown = [f"{text}: {status.kind}" for text, status in zip(texts, self.status, strict=True)]
        listed = ", ".join(shown[:_SHOWN]) + (f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
        return f"Explanation({self.title} at {self.layer} of {plural(len(self), 'sample')}; {listed}; {self.cost})"

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self: One, index: int | slice) -> One:
        """One sample's explanation, or several samples', sharing memory with this one."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"sample {index} of {len(self)}")
            index %= len(self)
            index = slice(index, index + 1)
        return replace(
            self,
            maps=self.maps[index],
            scores=self.scores[index],
            predictions=self.predictions[index],
            target=self.target[index],
            status=self.status[index],
            shown=self.shown[index],
            outputs=self.outputs[index],
            parts=self.parts[index] if self.parts is not None else None,
            channels=self.channels[index] if self.channels is not None else None,
            colors=self.colors[index] if self.colors is not None else None,
            values={name: value[index] for name, value in self.values.items()},
            tile_scores=self.tile_scores[index] if self.tile_scores is not None else None,
            context=self.context[index] if self.context is not None else None,
        )

    def __iter__(self: One) -> Iterator[One]:
        return (self[i] for i in range(len(self)))

    @property
    def ok(self) -> bool:
        """Whether every sample's status is ok."""
        return all(status.ok for status in self.status)

    @property
    def first(self) -> Sample:
        """The first sample's values without the batch axis, for the one photo that one has asked about."""
        return Sample(
            map=self.maps[0],
            score=float(self.scores[0]),
            prediction=self.predictions[0] if self.predictions else None,
            target=self.target[0] if self.target else "",
            status=self.status[0],
            output=self.outputs[0],
            values={name: float(each[0]) for name, each in self.values.items()},
        )

    def heatmaps(
        self, size: Sequence[int] | None = None, normalize: Normalize = "max", enlarge: Enlarge = "bilinear"
    ) -> Float[Tensor, "batch ..."]:
        """The maps resized (between pixel centers) and then scaled, each by itself.

        Args:
            size: spatial size; the input's by default, or the maps' own where these have other axes.
            normalize: `"max"` (negative values to 0, then divided by the maximum, so [0, 1]), `"minmax"`, `"signed"`
                (divided by the largest magnitude, [-1, 1]), or `"none"`. A map that shows nothing stays flat.
            enlarge: `"bilinear"`, `"nearest"` (each location as a block), or `"cubic"` (of two axes; it overshoots).
        """
        if size is None:
            size = self.context.size if self.context is not None else ()
            if len(size) != self.maps.ndim - 1:  # a layer with axes of its own, such as a spectrogram's
                size = self.maps.shape[1:]
        if len(size) != self.maps.ndim - 1:
            raise WhycamError(f"size has {len(size)} numbers for maps with {self.maps.ndim - 1} spatial axes.")
        if self.context is None or self.layer.name == "input":
            return _normalize(resize(self.maps, size, enlarge), normalize)
        return _normalize(self.context.enlarged(self.maps, size, enlarge), normalize)


_normalize = normalize


class ComparisonValues(Mapping[tuple[str, str, Any], One_co], Generic[One_co]):
    """Explanations by (method, layer, target), all from one shared pass.

    Methods may be spelled forgivingly. Trailing parts may be left out while that leaves one explanation:
    `c["grad_cam"]`. Methods that explain no class are found under any target, and methods without a layer under any.

    Attributes:
        cost: what the shared pass cost in all.
        failures: for combinations that cannot be, such as CAM on a network without pooling, the reason.
    """

    def __init__(
        self,
        explanations: Mapping[tuple[str, str, Any], One_co],
        failures: Mapping[tuple[str, str, Any], str],
        cost: Cost,
    ) -> None:
        self._explanations = dict(explanations)
        self.failures: Mapping[tuple[str, str, Any], str] = dict(failures)
        self.cost = cost

    def __getitem__(self, wanted: Any) -> One_co:
        parts = wanted if isinstance(wanted, tuple) else (wanted,)
        found = [each for each, made in self._explanations.items() if _fits(each, parts, made)]
        if len(found) == 1:
            return self._explanations[found[0]]
        if found:
            raise KeyError(f"{wanted!r} stands for {len(found)} explanations: {', '.join(map(str, found))}")
        for each, reason in self.failures.items():
            if _fits(each, parts, None):
                raise WhycamError(reason)
        raise KeyError(f"{wanted!r}; there are {', '.join(map(str, self._explanations))}")

    def __iter__(self) -> Iterator[tuple[str, str, Any]]:
        return iter(self._explanations)

    @property
    def first(self) -> One_co:
        """The first explanation; the one there is, where one was asked for."""
        return next(iter(self._explanations.values()))

    def __len__(self) -> int:
        return len(self._explanations)

    def __repr__(self) -> str:
        return f"Comparison({', '.join(map(str, self))}; {self.cost})"


def _uncalled(layer: str) -> str:
    """A layer's name without the numbers of its calls: what the caller may have asked for."""
    return re.sub(r"#\d+", "", layer)


def _fits(have: tuple[str, str, Any], wanted: tuple[Any, ...], made: ExplanationValues | None) -> bool:
    """Whether a key is meant by what was asked for, which may leave out its trailing parts."""
    method, layer, target = have
    spelling = wanted[0] if isinstance(wanted[0], str) else getattr(wanted[0], "__name__", "")
    if plain(spelling) not in {plain(method), plain(made.title if made is not None else method)}:
        return False
    place = wanted[1] if len(wanted) > 1 else None
    if isinstance(place, (list, tuple)):
        place = " + ".join(map(str, place))  # as layers that were fused are named
    if place is not None and layer != "input" and str(place) not in (layer, _uncalled(layer)):
        return False
    explains_no_class = made is not None and not made.target
    return len(wanted) < 3 or explains_no_class or key(wanted[2]) == target
