"""What a map may be taken for: every map carries a status, and a map that shows nothing says why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor

Kind: TypeAlias = Literal[
    "ok",
    "nothing to explain",
    "non-finite",
    "saturated probability",
    "zero gradient",
    "no positive evidence",
    "flat map",
    "unverified grid",
    "redraws the mask",
    "signed activations",
    "pixel detail",
    "score not positive",
    "incomplete",
    "uniform weights",
    "not converged",
]

#: A probability so near 1 that what is left of its gradient is of the size of rounding errors.
SATURATED = 1 - 1e-4


@dataclass(frozen=True)
class Status:
    """What a map may be taken for, in one word and in one sentence.

    Examples:
        >>> str(whycam.Status("flat map", "every location has the same value.")), whycam.Status().ok
        ('flat map: every location has the same value.', True)
    """

    kind: Kind = "ok"
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is nothing to say against the map."""
        return self.kind == "ok"

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind


@dataclass(frozen=True)
class Evidence:
    """What is known about one sample's map, beyond its values.

    Attributes:
        score: the target's score. `is_probability`: whether it is bounded by 1.
        gradient_is_zero: whether no location of the layer has gradient; `None` where no gradient was measured.
        gradient_elsewhere: whether gradient reached the layer's prefix tokens all the same.
        signed: whether the layer's activations go below zero.
        first_non_finite: where NaN or infinity first appeared.
        unverified: the grid that the positions are drawn on, where nothing but their number speaks for it.
        redraws: whether the answer is made of the layer place by place alone.
        own: what the method itself has to say of the map.
    """

    score: float
    is_probability: bool = False
    gradient_is_zero: bool | None = None
    gradient_elsewhere: bool = False
    disconnected: bool = False
    signed: bool = False
    first_non_finite: str | None = None
    unverified: str = ""
    redraws: bool = False
    own: Status | None = None


def judge(
    map_: Float[Tensor, "*spatial"],
    evidence: Evidence,
    *,
    title: str,
    assumes_non_negative: bool,
    caution: str = "",
) -> Status:
    """The status of one raw map; the most serious finding wins."""
    return judge_all(map_[None], [evidence], title=title, assumes_non_negative=assumes_non_negative, caution=caution)[0]


def judge_all(
    maps: Float[Tensor, "batch *spatial"],
    evidence: Sequence[Evidence],
    *,
    title: str,
    assumes_non_negative: bool,
    caution: str = "",
) -> list[Status]:
    """`judge` of each map, with all values read off the device at once."""
    flat = maps.flatten(1)
    rows = zip(flat.isfinite().all(1).tolist(), flat.amax(1).tolist(), flat.amin(1).tolist(), strict=True)
    return [
        _judge(finite, high, low, known, title, assumes_non_negative, caution)
        for (finite, high, low), known in zip(rows, evidence, strict=True)
    ]


def _judge(
    finite: bool, high: float, low: float, evidence: Evidence, title: str, assumes_non_negative: bool, caution: str
) -> Status:
    if not finite or not math.isfinite(evidence.score):
        where = evidence.first_non_finite
        cause = (
            f"NaN or infinity first appears in {where}" if where else "the forward pass is finite, the gradient is not"
        )
        what = "the score is NaN or infinite" if finite else "the map holds NaN or infinity"
        return Status("non-finite", f"{what}; {cause}.")
    if evidence.is_probability and evidence.score > SATURATED:
        return Status(
            "saturated probability",
            f"the probability explained is {evidence.score:.6f}, so its gradient has all but vanished; "
            "explain the logit or the log-probability.",
        )
    if evidence.gradient_is_zero:
        return Status("zero gradient", _why_zero(evidence))
    if high <= 0:
        return Status(
            "no positive evidence",
            "no location of this layer speaks for the target" + (", all is against it." if low < 0 else "."),
        )
    if high == low:
        return Status("flat map", "every location has the same value.")
    if evidence.own is not None and not evidence.own.ok:
        return evidence.own
    if evidence.unverified:
        return Status(
            "unverified grid",
            f"the layer's positions were put on a grid of {evidence.unverified} by their number alone, and no change "
            "of the input showed where they lie; say how to read the layer with layout=, or choose an earlier one.",
        )
    if evidence.redraws:
        return Status(
            "redraws the mask",
            "only layers of one cell stand between this layer and the answer, so nothing beside the region has a part "
            "in its score there: the map lies where the region lies, whatever the reasons. Choose an earlier layer, or "
            "leave layer out.",
        )
    if assumes_non_negative and evidence.signed:
        return Status(
            "signed activations",
            f"{title} assumes activations of at least zero and this layer's go below; its map can mislead here. "
            "Record the layer after its activation function.",
        )
    return Status("pixel detail", caution) if caution else Status()


def worst(fused: Status, parts: Sequence[tuple[str, Status]]) -> Status:
    """The status of a fused map: its own, or else the first part's that is not ok, with the layer's name."""
    if not fused.ok:
        return fused
    for layer, status in parts:
        if not status.ok:
            return Status(status.kind, f"at {layer}: {status.message}")
    return fused


def _why_zero(evidence: Evidence) -> str:
    if evidence.disconnected:
        return "the score does not depend on this layer."
    if evidence.gradient_elsewhere:
        return (
            "the score reads this layer's class token alone, so its locations have no gradient; choose an earlier "
            "layer, such as the norm before the last attention."
        )
    return (
        "the score does not change with any location of this layer for this input; likely every unit behind it is "
        "switched off here (a dead ReLU, a saturated gate)."
    )
