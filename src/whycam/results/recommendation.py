"""What an evaluation comes down to, in plain language: which method, how surely, and what not to believe."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from whycam.kit.metric import Metric
from whycam.kit.statistics import FEWEST, Interval
from whycam.kit.words import plural
from whycam.results.evaluation_values import EvaluationValues
from whycam.results.standing import BARRED, CONTROL, Place, called, spelled

#: Maps that are so much alike before and after, by rank correlation, do not hang on what was changed; below `CHANGES`
#: they clearly do. On the built-in network, randomized from the top down, Grad-CAM's and HiResCAM's correlate by 0.0,
#: LayerCAM's and Grad-CAM++'s by 0.7, Eigen-CAM's by 0.74, guided backprop's by 0.8; for another class -0.2, 0.9, 1, 1.
STAYS, CHANGES = 0.75, 0.5
#: Of methods that cannot be told apart, one that takes less than this share of the other's time is preferred.
CHEAPER = 0.5
#: How many are named before "and 4 more".
_NAMED = 4


@dataclass(frozen=True)
class Recommendation:
    """The method to use, why, and how sure that is. Printed, it is the text and its warnings.

    Attributes:
        method, layer: what to use; empty where nothing was measured. `target`, `metric`: for what, and by which metric.
        sure: whether it is better than every other method and every control, as far as these images can tell.
        value: the metric of it. `runner_up`: the next best, and `difference` by how much it is better than that,
            whichever way is better for the metric.
        equal: what cannot be told apart from the best.
        text: the reasons. `warnings`: what is not to be believed of this evaluation, a sentence or two each.
        others: what is recommended for the other targets.
    """

    method: str
    layer: str
    target: str
    metric: str
    sure: bool
    text: str
    warnings: tuple[str, ...] = ()
    value: Interval | None = None
    runner_up: Place | None = None
    difference: Interval | None = None
    equal: tuple[Place, ...] = ()
    others: tuple["Recommendation", ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        parts, said = [], set[str]()
        for each in (self, *self.others):
            head = f"Target {each.target}: " if self.others else ""
            parts.append("\n".join([head + each.text, *(f"- {own}" for own in each.warnings if own not in said)]))
            said.update(each.warnings)
        return "\n\n".join(parts)


def primary(metrics: Mapping[str, Metric]) -> str:
    """The metric that decides: insertion, or else the first of faithfulness, or else the first."""
    faithful = [name for name, metric in metrics.items() if metric.family == "faithfulness"]
    return "insertion" if "insertion" in metrics else next(iter([*faithful, *metrics]), "")


def recommend(found: EvaluationValues) -> Recommendation:
    """What `Evaluation.recommendation` is."""
    metric = primary(found.metrics)
    made = [_Advice(found, target, metric).given() for target in found.targets]
    if not made:
        reasons = f": {_grouped(found.failures)}" if found.failures else ""
        return Recommendation("", "", "", metric, False, f"Nothing was measured{reasons}.")
    return replace(made[0], others=tuple(made[1:]))


class _Advice:
    """What is recommended for one target."""

    def __init__(self, found: EvaluationValues, target: str, metric: str) -> None:
        self.found, self.target, self.name = found, target, metric
        self.metric, self.title = found.metrics[metric], called(found.metrics[metric])
        self.methods = found.placed(target, metric)
        self.controls = found.placed(target, metric, controls=True)
        self.standing = found.judge.standing(self.methods, metric)

    def given(self) -> Recommendation:
        """The advice, its reasons, and what is not to be believed."""
        if not self.standing.order:
            text = f"No method has a value of {self.title}, so none can be recommended."
            return Recommendation("", "", self.target, self.name, False, text, tuple(self._warnings(None)))
        interval = self.found.judge.bootstrap.interval
        best = self.standing.order[0]
        few = interval((best, self.name)).count < FEWEST
        chosen = best if few else self._cheapest()
        value = interval((chosen, self.name))
        others = [place for place in self.standing.order if place != chosen]
        apart = {other: self._advantage(chosen, other) for other in others}
        against = {control: self._advantage(chosen, control) for control in self.controls}
        unbeaten = {control: each for control, each in against.items() if not each.is_positive}
        if few:
            lines = [self._too_few(chosen, value)]
        elif unbeaten:
            lines = [self._no_better(chosen, value, unbeaten)]
        else:
            lines = [self._best(chosen, value), *self._beside(chosen, apart), *self._of_controls()]
        lines += self._sanity(chosen)
        return Recommendation(
            chosen.method, chosen.layer, self.target, self.name,
            sure=not unbeaten and all(each.is_positive for each in apart.values()) and not few and self._hangs(chosen),
            text=" ".join(lines),
            warnings=tuple(self._warnings(chosen, few=few)),
            value=value,
            runner_up=others[0] if others else None,
            difference=apart[others[0]] if others else None,
            equal=tuple(place for place in self.standing.order if place in self.standing.equal),
        )  # fmt: skip

    # Choosing ---------------------------------------------------------------------------------------------------------

    def _advantage(self, one: Place, other: Place, metric: str | None = None) -> Interval:
        return self.found.judge.advantage(one, other, metric or self.name)

    def _beaten(self, place: Place) -> tuple[Place, ...]:
        return self.found.judge.beaten(place, self.name, self.controls)

    def _cheapest(self) -> Place:
        """Of those that cannot be told apart from the best: who beats the controls, hangs on the network and has maps
        that are ok, then who is quicker, and of those that take about as long the better. The best where none beats the
        controls.
        """
        equal = [place for place in self.standing.order if place in self.standing.equal]
        better = list(filter(self._beats_all, equal)) or equal[:1]
        sound = list(filter(self._hangs, better)) or better
        sound = list(filter(self._mostly_ok, sound)) or sound
        least = min(map(self._seconds, sound))
        return next(place for place in sound if self._seconds(place) * CHEAPER <= least)

    def _beats_all(self, place: Place) -> bool:
        return len(self._beaten(place)) == len(self.controls)

    def _mostly_ok(self, place: Place) -> bool:
        kinds = self.found.statuses[place]
        return 2 * kinds["ok"] >= kinds.total()

    def _seconds(self, place: Place) -> float:
        return self.found.seconds.get(place[:2], math.inf)

    def _likeness(self, place: Place, metric: str) -> float:
        """How much alike a place's maps stay; NaN where that was not looked at."""
        account = self.found.judge.bootstrap.accounts.get((place, metric))
        return account.compute() if account is not None else math.nan

    def _hangs(self, place: Place) -> bool:
        """Whether its maps hang on the network, as far as is known."""
        return not self._likeness(place, "model_randomization") >= STAYS

    # Sentences --------------------------------------------------------------------------------------------------------

    def _spelled(self, value: float) -> str:
        return spelled(self.metric, value)

    def _counted(self, found: Interval) -> str:
        return plural(found.count, "mosaic" if self.metric.mosaics else "image")

    def _ends(self, found: Interval, metric: Metric | None = None) -> str:
        """A difference with its interval."""
        ends = [spelled(metric or self.metric, each, sign=True) for each in (found.value, found.low, found.high)]
        return f"{ends[0]}, 95% interval {ends[1]} to {ends[2]}"

    def _too_few(self, chosen: Place, value: Interval) -> str:
        which = "the least" if self.metric.better == "lower" else "the highest"
        return (
            f"Which method is best cannot be told from {self._counted(value)}: it takes {FEWEST} at least, and dozens "
            f"for small differences. So far {chosen} has {which} {self.title}, "
            f"{self._spelled(value.value)}."
        )

    def _no_better(self, chosen: Place, value: Interval, unbeaten: Mapping[Place, Interval]) -> str:
        worst = min(unbeaten, key=lambda each: unbeaten[each].value)
        theirs = self._spelled(self.found.judge.bootstrap.interval((worst, self.name)).value)
        found = unbeaten[worst]
        doubt = found.value > 0
        first = "Whether these maps can be trusted cannot be told" if doubt else "Trust none of these maps"
        how = "not surely better than" if doubt else "worse than" if found.is_negative else "no better than"
        more = " More images may tell." if doubt else ""
        return (
            f"{first}: by {self.title} the best of them, {chosen} with {self._spelled(value.value)}, is {how} "
            f"{worst.method} with {theirs}, which knows nothing of the network (by {self._ends(found)}; "
            f"{self._counted(found)}).{more}"
        )

    def _best(self, chosen: Place, value: Interval) -> str:
        low, high = self._spelled(value.low), self._spelled(value.high)
        return (
            f"Use {chosen}: its {self.title} is {self._spelled(value.value)} (95% interval {low} to {high}) over "
            f"{self._counted(value)}; {self.metric.better} is better."
        )

    def _beside(self, chosen: Place, apart: Mapping[Place, Interval]) -> Iterator[str]:
        """Which others it is better than, and which it cannot be told apart from."""
        if not apart:
            return
        same = [other for other, found in apart.items() if not found.is_positive]
        if not same:
            nearest, found = next(iter(apart.items()))
            yield f"It is better than all others (than {nearest}, the next, by {self._ends(found)})."
            return
        yield f"It cannot be told apart from {_listed(same)} (from the first by {self._ends(apart[same[0]])})."
        first = self.standing.order[0]
        for sound, what in (
            (self._beats_all, "is not surely better than every control"),
            (self._hangs, "its maps stay when the network is randomized"),
            (self._mostly_ok, "most of its maps are not ok"),
        ):
            if sound(chosen) and not sound(first):
                yield f"{first} has a better value, but {what}."
                return
        if chosen != first:
            times = self._seconds(first) / self._seconds(chosen)
            yield (
                f"It is the quicker one: {first} takes {times:.1f} times as long."
                if math.isfinite(times)
                else f"{first} was not made here, so what it costs is not known."
            )

    def _of_controls(self) -> Iterator[str]:
        if self.controls:
            yield f"It beats every control ({_listed([each.method.removeprefix(CONTROL) for each in self.controls])})."
        else:
            yield "No controls were measured, so it is not known whether a map that knows nothing does as well."

    def _sanity(self, chosen: Place) -> Iterator[str]:
        """Whether its maps hang on the network and on the class."""
        for name, changed in _CHANGED.items():
            alike = self._likeness(chosen, name)
            if not math.isnan(alike):
                means = f"; {_MEANS[name]}" if alike >= STAYS else ""
                yield f"When {changed} its maps {_verdict(alike)} (correlation {alike:.2f}{means})."

    # Warnings ---------------------------------------------------------------------------------------------------------

    def _warnings(self, chosen: Place | None, *, few: bool = False) -> Iterator[str]:
        if not few:  # of which nothing is sure
            yield from self._otherwise(chosen)
            yield from self._failing()
        yield from self._alike()
        yield from self._not_ok()
        yield from self._without_values()
        if chosen is not None and chosen.layer not in ("-", "input"):
            yield (
                f"The map of one layer, as by {chosen.method}, shows where that layer found evidence. It cannot show a "
                "cause that lies far from the object, nor that something is missing: for these ask occlusion, RISE or "
                "path= (docs/evaluation.md)."
            )

    def _otherwise(self, chosen: Place | None) -> Iterator[str]:
        """Other metrics of what maps show, by which another one is better."""
        for name, metric in self.found.metrics.items():
            if chosen is None or name == self.name or metric.family not in BARRED:
                continue
            order = self.found.judge.standing(self.found.placed(self.target, name), name).order
            if order and chosen in order and (found := self._advantage(order[0], chosen, name)).is_positive:
                yield f"By {called(metric)} {order[0]} is better (by {self._ends(found, metric)})."

    def _failing(self) -> Iterator[str]:
        """Who does not beat which controls."""
        failing = {}
        for place in self.methods:
            beaten = self._beaten(place)
            if missed := [each.method.removeprefix(CONTROL) for each in self.controls if each not in beaten]:
                failing[str(place)] = ", ".join(missed)
        if failing:
            yield f"By {self.title} these are not surely better than a control: {_grouped(failing)}."

    def _alike(self) -> Iterator[str]:
        """Whose maps stay as they are, beside the controls' own."""
        for name, changed in _CHANGED.items():
            alike = {
                place: value for place in self.found.placed(self.target, name)
                if (value := self._likeness(place, name)) >= CHANGES
            }  # fmt: skip
            if not alike:
                continue
            said = _grouped(
                {str(place): f"{_verdict(value)}, correlation {value:.2f}" for place, value in alike.items()}
            )
            own = [self._likeness(place, name) for place in self.found.placed(self.target, name, controls=True)]
            beside = f" Controls: {', '.join(sorted({f'{each:.2f}' for each in own}))}." if own else ""
            yield f"When {changed} not all maps change: {said}; {_MEANS[name]}.{beside}"

    def _not_ok(self) -> Iterator[str]:
        """Which maps have another status than ok, how often."""
        said = {}
        for place, kinds in self.found.statuses.items():
            if place.target == self.target and (bad := {kind: n for kind, n in kinds.items() if kind != "ok"}):
                said[str(place)] = ", ".join(f"{kind} on {n} of {kinds.total()}" for kind, n in bad.items())
        if said:
            yield f"Maps that are not ok: {_grouped(said)}."

    def _without_values(self) -> Iterator[str]:
        """Where the metric has no value, and whom that left out."""
        counted = {place: self.found.judge.bootstrap.interval((place, self.name)) for place in self.methods}
        said = {str(place): f"on {each.undefined} of {each.count + each.undefined}"
                for place, each in counted.items() if each.undefined}  # fmt: skip
        if said:
            left = f" Left out for that: {_listed(self.standing.left_out)}." if self.standing.left_out else ""
            yield f"Without a value of {self.title}: {_grouped(said)}.{left}"


#: What was changed, by the metric that looks at it; and what it means where maps stay.
_CHANGED = {
    "model_randomization": "the network is randomized",
    "class_randomization": "another class is asked about",
}
_MEANS = {
    "model_randomization": "what stays shows the picture, not what the network learned",
    "class_randomization": "what stays cannot say why it is this class and no other",
}


def _verdict(alike: float) -> str:
    return "stay as they are" if alike >= STAYS else "change little" if alike >= CHANGES else "change"


def _listed(things: Sequence[Any]) -> str:
    """`a, b and c`; of many the first, and how many more."""
    said = [str(each) for each in things[:_NAMED]]
    if len(things) > _NAMED:
        return f"{', '.join(said)} and {len(things) - _NAMED} more"
    return " and ".join([", ".join(said[:-1]), said[-1]]) if len(said) > 1 else said[0]


def _grouped(said: Mapping[str, str]) -> str:
    """`fem, rise (why); cam (another)`, each reason once."""
    names: dict[str, list[str]] = {}
    for name, what in said.items():
        names.setdefault(what, []).append(name)
    return "; ".join(f"{', '.join(each)} ({what.rstrip('.')})" for what, each in names.items())
