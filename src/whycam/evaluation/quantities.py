"""What metrics ask for, of one batch, one target and one set of maps."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from whycam.engine.input_order import turned
from whycam.engine.inputs import black
from whycam.errors import InputError, WhycamError
from whycam.evaluation.explained import Explained, Key
from whycam.evaluation.randomized import randomized, shifted
from whycam.kit.arrays import Variants, generator, lazily, precise
from whycam.kit.metric import EXPLAINING, Measurement, Metric
from whycam.network.variants.scoring import Scorer
from whycam.targets import ResolvedTarget

#: (picture, module, classes), each left out where it is as in the batch -> maps `(batch, *space)`, float64.
Again = Callable[..., Tensor]


class Asking:
    """One batch and one of its targets, as metrics ask of it.

    Attributes:
        notes: what a reader should know of how the metrics were asked.
    """

    def __init__(
        self,
        explained: Explained,
        number: int,
        masks: Bool[Tensor, "batch *space"] | None = None,
        boxes: list[Tensor] | None = None,
    ) -> None:
        self.explained, self.number, self.masks, self.boxes = explained, number, masks, boxes
        self.notes: dict[str, None] = {}
        self.inputs = explained.maker.supply.quantity("inputs", None, number, "a metric")
        space = explained.batch.context.space
        self.space = space if space != tuple(range(2, self.inputs.ndim)) else None
        if self.space is not None:
            self.inputs = turned("inputs", self.inputs, self.space)
        self._scored: dict[Any, Tensor] = {}

    @property
    def bound(self) -> ResolvedTarget:
        """The target."""
        return self.explained.maker.recording.targets[self.number]

    def measure(self, metric: Metric, maps: "Maps", options: Mapping[str, Any]) -> Measurement:
        """One metric of one set of maps.

        Raises:
            WhycamError: something that the metric reads is not there.
        """
        quantities = {name: self._quantity(name, metric, maps) for name in sorted(metric.takes | {"maps"})}
        return metric.measure(quantities, self._with_black(metric, options))

    def _with_black(self, metric: Metric, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options, with a tensor for `baseline="black"`."""
        if metric.with_defaults(options).get("baseline") != "black":
            return dict(options)
        try:
            return {**options, "baseline": black(self.explained.session.vision, self.explained.batch.context)}
        except InputError:
            if "baseline" in options:
                raise
            self.notes["what is hidden is 0 in the model's inputs, not black, as that is not known"] = None
            return {**options, "baseline": "zero"}

    def _quantity(self, name: str, metric: Metric, maps: "Maps") -> Any:
        if name == "maps":
            return self._of_what_is_there(maps.values)
        if name == "inputs":
            return self.inputs
        if name == "masks":
            if self.masks is None:
                raise WhycamError(f"{metric.title} asks where the target is; pass masks=, or boxes=.")
            return self.masks.to(maps.values.device)
        if name == "boxes":
            if self.boxes is None:
                raise WhycamError(f"{metric.title} asks for boxes around the target; pass boxes=.")
            return self.boxes
        if name == "classes":
            index = self.bound.class_index
            return index if index is not None else torch.full((len(self.explained),), -1)
        if name in EXPLAINING and maps.again is None:
            raise WhycamError(
                f"{metric.title} asks the maps' method again, and maps alone came; pass explain=, a function of "
                "(module, inputs, classes)."
            )
        if name == "explain":
            return lambda variants: self._explained(metric, maps, variants)
        if name == "explain_class":
            return lambda classes: self._cached(("class", *classes.tolist()), maps, lambda: {"classes": classes})
        if name == "explain_shifted":
            module = self.explained.session.module
            return lambda constant: self._cached(
                ("shift", constant),
                maps,
                lambda: {"picture": self.inputs + constant, "module": shifted(module, constant)},
            )
        if name == "explain_randomized":
            return partial(self._randomized, maps)
        if name == "another_class":
            return partial(self._another_class, metric)
        return self._scores(name, metric)

    def _of_what_is_there(self, values: Tensor) -> Tensor:
        """The maps; NaN, so that no metric has a value, of a sample in which there is nothing to explain."""
        if all(each.ok for each in self.bound.status):
            return values
        found = torch.tensor([each.ok for each in self.bound.status], device=values.device)
        return values.where(found.reshape(-1, *[1] * (values.ndim - 1)), values.new_tensor(torch.nan))

    # Scores -----------------------------------------------------------------------------------------------------------

    def _scores(self, name: str, metric: Metric) -> Any:
        probability = metric.domain == "probability" and self.bound.probability is not None
        if metric.domain == "probability" and not probability:
            self.notes[f"{metric.title} reads the target's own score, which has no probability"] = None
        function = self.bound.as_probability() if probability else self.bound
        made: Scorer = self.explained.maker.supply.quantity("score", None, self.number, metric.title)
        if name == "scores" and made.plain is None:
            return precise(function(self.explained.maker.recording.output).detach())
        judged = self._judged(function) if name == "answers" else function
        scorer = Scorer(judged, lambda: judged, made.runners, made.plain, made.work, metric.title, own=True)
        asked: Any = scorer if self.space is None else turned("score", scorer, self.space)
        if name == "answers":
            both = self._remembered(asked, (name, probability))
            return lambda variants: both(variants).unbind(-1)
        score = self._remembered(asked, ("score", probability))
        if name == "scores":  # by the fast copy too: what it is off by belongs to all that it scores
            return score(lazily(lambda _: self.inputs, [("inputs",)], shared=True))[0]
        return score

    def _judged(self, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The score, and whether the target is the top class, `(batch, 2)`."""
        index = self.bound.class_index

        def judged(output: Tensor) -> Tensor:
            scores = function(output)
            if index is None or not self.explained.maker.recording.answer.classes:
                return torch.stack([scores, torch.full_like(scores, torch.nan)], -1)
            logits = self.explained.maker.reading.logits(output)
            return torch.stack([scores, (logits.argmax(1) == index.to(logits.device)).to(scores)], -1)

        return judged

    def _remembered(
        self, score: Callable[[Iterable[Tensor]], Tensor], asked: Any
    ) -> Callable[[Iterable[Tensor]], Tensor]:
        """The same in float64, which scores variants that metrics or methods share once."""

        def remembered(variants: Iterable[Tensor]) -> Tensor:
            if not isinstance(variants, Variants) or not variants.shared:
                return precise(score(variants))
            known = self._scored
            if new := [each for each in variants.over if (asked, each) not in known]:
                rows = precise(score(lazily(variants.make, new)))
                known.update(zip([(asked, each) for each in new], rows, strict=True))
            return torch.stack([known[asked, each] for each in variants.over])

        return remembered

    # Maps again -------------------------------------------------------------------------------------------------------

    def _explained(self, metric: Metric, maps: "Maps", variants: Iterable[Tensor]) -> Tensor:
        if isinstance(variants, Variants) and variants.shared:
            make = variants.make

            def one(each: Any) -> Tensor:
                return self._cached((metric.name, each), maps, lambda: {"picture": make(each)})

            return torch.stack([one(each) for each in variants.over])
        return torch.stack([maps.again(picture=each) for each in variants])  # type: ignore[misc]

    def _cached(self, key: Any, maps: "Maps", changed: Callable[[], dict[str, Any]]) -> Tensor:
        """Maps of the changed batch, which are made once for all methods."""
        if maps.key is None:
            return maps.again(**changed())  # type: ignore[misc]
        known = self.explained.changed
        if key not in known:
            known[key] = self.explained.again(**changed())
        return _of(known[key], maps.key)

    def _randomized(self, maps: "Maps", stages: int, seed: int) -> Iterator[tuple[str, Tensor]]:
        """The maps by each copy of the network, of which one at a time is there."""
        module, inputs, known = self.explained.session.module, self.explained.batch.inputs, self.explained.stages
        if maps.key is not None and (stages, seed) in known:
            yield from ((layer, _of(made, maps.key)) for layer, made in known[stages, seed])
            return
        kept = []
        for stage in randomized(module, inputs, stages, seed):
            if stage.drawn:
                self.notes["parameters that no initializer sets are drawn with the mean and deviation that they had, "
                           f"such as {stage.drawn[0]}"] = None  # fmt: skip
            if maps.key is None:
                yield stage.layer, maps.again(module=stage.module)  # type: ignore[misc]
                continue
            kept.append((stage.layer, self.explained.again(module=stage.module)))
            yield stage.layer, _of(kept[-1][1], maps.key)
        if maps.key is not None:
            known[stages, seed] = kept

    def _another_class(self, metric: Metric, seed: int | None) -> Tensor:
        """For each sample another class: the likeliest of the others, or as many places on as is drawn."""
        index, answer = self.bound.class_index, self.explained.maker.recording.answer
        if index is None or not answer.classes:
            raise WhycamError(f"{metric.title} asks for another class, and what is explained is none.")
        logits = self.explained.maker.reading.logits(self.explained.maker.recording.output)
        index, number = index.to(logits.device), logits.shape[1]
        if number < 2:
            raise WhycamError(f"{metric.title} asks for another class, and the network has one.")
        if seed is not None:
            return (index + int(torch.randint(1, number, (1,), generator=generator(seed)))) % number
        return logits.scatter(1, index[:, None], -torch.inf).argmax(1)


def _of(made: Mapping[Key, Tensor], key: Key) -> Tensor:
    if key not in made:
        raise WhycamError(f"{key[0]} at {key[1]} made no map of the changed batch.")
    return made[key]


@dataclass
class Maps:
    """One set of maps, and how their method would be asked again.

    Attributes:
        values: at the input's size, raw, float64. `key`: whose they are among the batch's own explanations.
        again: the method on a changed batch, where it can be asked.
    """

    values: Float[Tensor, "batch *space"]
    key: Key | None = None
    again: Again | None = None


def own_maps(explained: Explained, key: Key) -> Maps:
    """A method's maps of the batch."""
    return Maps(explained.maps(key), key, lambda **changed: _of(explained.again(key, **changed), key))


def foreign_maps(explained: Explained, number: int, function: Callable[..., Any], made: Any = None) -> Maps:
    """Maps of any function `explain(module, inputs, classes)`, as Quantus calls them; `made`: where they are known."""
    index = explained.maker.recording.targets[number].class_index

    def again(
        *, picture: Tensor | None = None, module: nn.Module | None = None, classes: Tensor | None = None
    ) -> Tensor:
        inputs = explained.batch.context.inputs if picture is None else picture
        found = function(module if module is not None else explained.session.module, inputs,
                         classes if classes is not None else index)  # fmt: skip
        return enlarged(found, explained)

    return Maps(again() if made is None else enlarged(made, explained), None, again)


def enlarged(maps: Any, explained: Explained) -> Tensor:
    """Maps of another library `(batch, *spatial)`, or with an axis of one channel, at the input's size, float64."""
    found = torch.as_tensor(maps).detach().double()
    size = explained.batch.context.size
    if found.ndim == len(size) + 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != len(size) + 1 or len(found) != len(explained):
        raise WhycamError(
            f"maps have shape (batch, *spatial), {len(explained)} of {len(size)} axes here; {tuple(found.shape)} came."
        )
    return explained.batch.context.enlarged(found.to(explained.batch.context.inputs.device), size)
