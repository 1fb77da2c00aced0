"""The table of metrics, read from each function's own signature, and what a metric may ask for.

A metric is a pure function of maps and of what its other parameters before `*` name; those after `*` are its options.
It gives one value for each sample. Whatever it says of a whole set of images follows from these (`Metric.over`), so
sets of any size are measured in batches and shards of any size, with the same result.
"""

import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whycam.errors import MetricNotFound, WhycamError
from whycam.kit.declared import Declared, Table, read_options, signature

#: By parameter name: what it is. `*space` are the axes of the input.
METRIC_QUANTITIES: Mapping[str, str] = {
    "maps": "the maps at the input's size, raw: enlarged and nothing else, (batch, *space), float64",
    "inputs": "what the model was given, (batch, color, *space)",
    "scores": "the target's score on these inputs, (batch,), float64",
    "score": "function: variants of the inputs -> the target's scores, (variant, batch), float64",
    "answers": "function: the same, and whether the target then is the top class, two of (variant, batch)",
    "masks": "where the target is, (batch, *space), bool",
    "boxes": "boxes around it, for each sample (box, 4): left, top, right, bottom in pixels of the input",
    "classes": "the class that is explained, (batch,); -1 where the target is none",
    "explain": "function: variants of the inputs -> their maps, (variant, batch, *space), the target the same",
    "explain_class": "function: classes (batch,) -> maps of these, (batch, *space)",
    "another_class": "function: a seed, or None for the likeliest -> another class than that for each sample, (batch,)",
    "explain_randomized": "function: stages, seed -> as ever more layers are randomized from the top down, (the last "
    "one's name, maps) each",
    "explain_shifted": "function: a constant -> maps of the inputs plus it, by a network that takes it off again",
}

#: What a metric reads of the truth, which no model knows.
TRUTH = frozenset({"masks", "boxes"})
#: What a metric needs of the method, not of its maps alone.
EXPLAINING = frozenset({"explain", "explain_class", "explain_randomized", "explain_shifted"})
#: What a metric needs of the model.
SCORING = frozenset({"scores", "score", "answers"})

Better: TypeAlias = Literal["higher", "lower"]
#: What a metric asks of maps: whether the answer hangs on what they show, whether they show where the target is,
#: whether they stay when nothing changes, how simple they are, and whether they hang on the network and the class.
Family: TypeAlias = Literal["faithfulness", "localization", "robustness", "complexity", "randomization"]
#: What `score` is: the class's probability, the target's own score, or whichever of the two there is.
Domain: TypeAlias = Literal["probability", "score"]
Summary: TypeAlias = Callable[[Tensor, Tensor], float]


@runtime_checkable
class Scores(Protocol):
    """Scores of edited inputs, in the metric's domain."""

    def __call__(self, variants: Iterable[Tensor], /) -> Float[Tensor, "variant batch"]:
        """The scores of each variant `(batch, color, *space)`; variants are drawn one by one and never held whole."""


@runtime_checkable
class Answers(Protocol):
    """Scores of edited inputs, and whether the target is the top class."""

    def __call__(
        self, variants: Iterable[Tensor], /
    ) -> tuple[Float[Tensor, "variant batch"], Float[Tensor, "variant batch"]]:
        """The scores of each variant, and 1 or 0; NaN where the answer holds no classes."""


@runtime_checkable
class Explain(Protocol):
    """The maps' own method, on other inputs."""

    def __call__(self, variants: Iterable[Tensor], /) -> Float[Tensor, "variant batch *space"]:
        """The maps of each variant `(batch, color, *space)`, at the input's size, float64."""


@runtime_checkable
class ExplainClass(Protocol):
    """The maps' own method, for other classes."""

    def __call__(self, classes: Int[Tensor, " batch"], /) -> Float[Tensor, "batch *space"]:
        """The maps of a class for each sample, at the input's size, float64."""


@runtime_checkable
class AnotherClass(Protocol):
    """Classes beside those that are explained."""

    def __call__(self, seed: int | None, /) -> Int[Tensor, " batch"]:
        """One for each sample, drawn, or the likeliest where there is no seed."""


@runtime_checkable
class ExplainRandomized(Protocol):
    """The maps' own method, on networks that are randomized from the top down."""

    def __call__(self, stages: int, seed: int, /) -> Iterator[tuple[str, Float[Tensor, "batch *space"]]]:
        """Stage by stage, at most so many: the last layer that is randomized, and the maps then."""


@runtime_checkable
class ExplainShifted(Protocol):
    """The maps' own method, on pictures plus a constant, and a network that takes it off again."""

    def __call__(self, constant: float, /) -> Float[Tensor, "batch *space"]:
        """The maps, at the input's size, float64."""


@dataclass(frozen=True)
class Measurement:
    """What a metric returns that has more to say than one value for each sample.

    Attributes:
        values: `(batch,)`; NaN where there is nothing to measure.
        curve: numbers of each sample, `(batch, point)`: what a curve is drawn of, or what `Metric.over` reads.
        at: where the points lie, such as the share of pixels removed; empty where they are no curve.
        parts: other numbers of each sample, `(batch,)`, by name.

    Examples:
        >>> whycam.metrics.insertion(torch.rand(2, 4, 4), net, batch, curves=True).curve.shape
        torch.Size([2, 29])
    """

    values: Float[Tensor, " batch"]
    curve: Float[Tensor, "batch point"] | None = None
    at: tuple[float, ...] = ()
    parts: Mapping[str, Float[Tensor, " batch"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric(Declared):
    """A metric: what its function takes, which way is better, and how it sums up a set of images.

    Called, it measures maps of any origin: see `__call__`. `function` is the pure function itself.

    Attributes:
        better: `"higher"` or `"lower"`. `low`, `high`: the range of its values.
        domain: what the score is that it reads.
        over: values and curves of all samples -> the metric of the set; the mean of the values unless said.
        mosaics: measured on mosaics of the photos, where the target is one cell.
    """

    better: Better = "higher"
    low: float = -math.inf
    high: float = math.inf
    domain: Domain = "probability"
    over: Summary | None = field(default=None, repr=False)
    mosaics: bool = False

    @property
    def family(self) -> Family:
        """What it asks of maps, as its function's parameters tell."""
        if self.takes & TRUTH:
            return "localization"
        if self.takes & {"explain_class", "explain_randomized"}:
            return "randomization"
        if self.takes & SCORING:
            return "faithfulness"
        return "robustness" if self.takes & EXPLAINING else "complexity"

    def __call__(
        self,
        maps: Any,
        model: Any = None,
        inputs: Any = None,
        target: Any = None,
        *,
        masks: Any = None,
        boxes: Any = None,
        explain: Callable[..., Any] | None = None,
        output: Any = None,
        preprocess: Any = None,
        labels: Any = None,
        curves: bool = False,
        **options: Any,
    ) -> Any:
        """Measure maps of any library: one value for each sample, `(batch,)`, float64; NaN where there is none.

        Args:
            maps: `(batch, *spatial)` at any size, a tensor or array, or an `Explanation`, whose model then is asked.
            model, inputs, target, output, preprocess, labels: as for `whycam.explain`; needed where the metric reads
                scores. `target` left out is each sample's top class.
            masks: where the target is, `(batch, *space)`, bool. `boxes`: for each sample `(box, 4)`: left, top, right,
                bottom in pixels of the input.
            explain: for metrics of the method itself, `explain(module, inputs, classes) -> maps`, as Quantus has it; an
                `Explanation` brings its own method.
            curves: give a `Measurement` with curves and parts in place of the values.
            options: the metric's own.

        Raises:
            WhycamError: something is missing that the metric reads, or does not fit.
        """
        # the way up to the engine, which a call alone takes: a metric's function never sees a model
        direct = importlib.import_module("whycam.evaluation.direct")
        measured: Measurement = direct.measure(
            self, maps, model, inputs, target, masks=masks, boxes=boxes, explain=explain, options=options,
            common={"output": output}, preprocess=preprocess, labels=labels,
        )  # fmt: skip
        return measured if curves else measured.values

    def measure(self, quantities: Mapping[str, Any], options: Mapping[str, Any]) -> Measurement:
        """The function's answer, checked: one value for each sample, in float64 on the CPU.

        A sample whose map is not finite has no value: NaN, which is counted and never averaged.
        """
        given = {name: value for name, value in quantities.items() if name in self.takes}
        found = self.function(**given, **self.with_defaults(options))
        made = found if isinstance(found, Measurement) else Measurement(found)
        finite = quantities["maps"].flatten(1).isfinite().all(1).cpu()
        if made.values.shape != finite.shape:
            raise WhycamError(
                f"{self.name} must return one value per sample, shape ({len(finite)},), not {tuple(made.values.shape)}."
            )

        def kept(values: Tensor) -> Tensor:
            own = finite.reshape(-1, *[1] * (values.ndim - 1))
            return values.detach().cpu().double().where(own, torch.tensor(torch.nan, dtype=torch.float64))

        return replace(
            made,
            values=kept(made.values),
            curve=None if made.curve is None else kept(made.curve),
            parts={name: kept(each) for name, each in made.parts.items()},
        )

    def summarize(self, values: Float[Tensor, " sample"], curves: Float[Tensor, "sample point"]) -> float:
        """The metric of a set, from the values and curves of its samples."""
        return self.over(values, curves) if self.over is not None else math.fsum(values.tolist()) / len(values)

    def accumulator(self) -> "Accumulator":
        """An empty account of samples that come in batches."""
        return Accumulator(self)


TABLE: Table[Metric] = Table("whycam.metrics", "metric", MetricNotFound)


def metric(
    title: str,
    *,
    paper: str,
    better: Better,
    values: tuple[float, float],
    domain: Domain = "probability",
    over: Summary | None = None,
    mosaics: bool = False,
) -> Callable[[Callable[..., Any]], Metric]:
    """Register a function as a metric, and return the metric: `metric.function` is the function.

    Its parameters before `*` are named in `METRIC_QUANTITIES`, `maps` among them.

    Args:
        paper: `arXiv:ID`, `doi:ID`, or a short text. `better`: which way. `values`: the least and the most it can be.
        domain: what it reads as score: `"probability"` where the target has one (then the score itself for other
            targets, which is said), or `"score"`, the target's own.
        over: values and curves of all samples -> the metric of the set, where that is not the mean of the values.
        mosaics: it is measured on mosaics of the photos; see `grid_pointing_game`.

    Examples:
        >>> @whycam.metric("Bright share", paper="an example", better="higher", values=(0, 1))
        ... def bright_share(maps):
        ...     return (maps > 0).double().flatten(1).mean(1)
        >>> bright_share(torch.tensor([[[0.0, 1.0], [2.0, 0.0]]]))
        tensor([0.5000], dtype=torch.float64)
    """

    def register(function: Callable[..., Any]) -> Metric:
        takes = frozenset(signature(function)[0])
        if unknown := sorted(takes - METRIC_QUANTITIES.keys()):
            raise WhycamError(
                f"{function.__name__} asks for {', '.join(unknown)}; a metric can ask for "
                f"{', '.join(METRIC_QUANTITIES)}. Put options after `*`."
            )
        if "maps" not in takes:
            raise WhycamError(f"{function.__name__} asks for no maps; a metric measures them.")
        made = Metric(
            function.__name__, title, paper, function, takes, read_options(function),
            better, values[0], values[1], domain, over, mosaics,
        )  # fmt: skip
        TABLE.add(made)
        return made

    return register


def metrics() -> dict[str, Metric]:
    """Every registered metric by name, in alphabetical order."""
    return TABLE.all()


def list_metrics() -> list[Metric]:
    """Every metric, each with its name, title, paper, direction and options, in alphabetical order.

    Examples:
        >>> "Deletion" in [each.title for each in whycam.list_metrics()]
        True
    """
    return list(metrics().values())


def find_metric(wanted: "str | Metric") -> Metric:
    """The metric of that name, spelled forgivingly, or itself."""
    if isinstance(wanted, Metric):
        return wanted
    if not isinstance(wanted, str):
        raise MetricNotFound(f"a metric is a name or one of whycam.metrics, not {type(wanted).__name__}.")
    return TABLE.find(wanted)


class Accumulator:
    """What one metric said of many samples: all that has to be kept of a run over any batches and shards.

    Samples are told apart by their names, so that one that is measured twice counts once. `compute` does not depend on
    the order in which they came, to the last bit.

    Examples:
        >>> one, other = whycam.metrics.entropy.accumulator(), whycam.metrics.entropy.accumulator()
        >>> one.update(["a"], whycam.metrics.entropy(torch.rand(1, 4, 4), curves=True))
        >>> other.update(["b"], whycam.metrics.entropy(torch.ones(1, 4, 4), curves=True))
        >>> one.merge(other)
        >>> one.count, one.compute() > 0
        (2, True)
    """

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.values: dict[str, float] = {}
        self.curves: dict[str, Tensor] = {}

    def update(self, samples: Sequence[str], measured: Measurement) -> None:
        """Add what was measured of these samples."""
        for number, name in enumerate(samples):
            self.values[name] = float(measured.values[number])
            if measured.curve is not None:
                self.curves[name] = measured.curve[number]

    def merge(self, other: "Accumulator") -> None:
        """Add what another one holds."""
        self.values |= other.values
        self.curves |= other.curves

    @property
    def named(self) -> tuple[str, ...]:
        """The samples that have a value, in order."""
        return tuple(sorted(name for name, value in self.values.items() if not math.isnan(value)))

    @property
    def count(self) -> int:
        """How many samples have a value."""
        return len(self.named)

    def stacked(self, names: Sequence[str]) -> tuple[Float[Tensor, " sample"], Float[Tensor, "sample point"]]:
        """The values and curves of these samples."""
        values = torch.tensor([self.values[name] for name in names], dtype=torch.float64)
        return values, torch.stack([self.curves[name] for name in names]) if self.curves else values[:, None]

    def compute(self, names: Sequence[str] | None = None) -> float:
        """The metric of these samples, or of all that have a value; NaN of none."""
        names = self.named if names is None else names
        return self.metric.summarize(*self.stacked(names)) if names else math.nan
