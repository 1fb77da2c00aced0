"""Explanations from what was measured: each method is called on its quantities, and its maps are judged."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from whycam.engine.input_order import turned
from whycam.engine.inputs import Batch, black
from whycam.engine.layer_plan import Plan
from whycam.engine.measure import Measured
from whycam.engine.provider import QuantityProvider
from whycam.engine.request import Request
from whycam.engine.smoothing import Augmentation
from whycam.errors import InputError, LayerRefused, Misplaced, WhycamError
from whycam.kit import fusions
from whycam.kit.arrays import Making, making
from whycam.kit.quantities import LAYER_QUANTITIES, Result
from whycam.kit.registry import Method
from whycam.kit.status import Evidence, Status, judge, judge_all, worst
from whycam.models.vision_model import VisionModel
from whycam.network.layer_refs import LayerRef
from whycam.network.layouts import Tokens
from whycam.network.recording.record import LayerRecord
from whycam.network.unwrap import parallel
from whycam.network.variants.scoring import RunStats
from whycam.pictures.input_context import InputContext
from whycam.results.explanation import Explanation
from whycam.results.values import SIGNED, Cost, Layer, Prediction
from whycam.targets import ClassReading, fitting, is_one_unit

#: A method's maps; what each channel adds to them where that was asked for; each color's map of methods at the input.
Made: TypeAlias = tuple[Result, Tensor | None, Tensor | None]


def _turned(made: Result, augmentation: Augmentation) -> Result:
    """Maps of a changed batch, as they lie in the batch itself."""
    parts = augmentation.inverse(made.parts) if made.parts is not None else None
    return replace(made, maps=augmentation.inverse(made.maps), parts=parts)


def plainly(device: torch.device) -> AbstractContextManager[None]:
    """A block of plain arithmetic, whatever the caller works under: no inference mode, gradients or autocast."""
    if torch.is_inference_mode_enabled() or torch.is_autocast_enabled(device.type):
        return _leaving(device)
    return torch.set_grad_enabled(False)


@contextmanager
def _leaving(device: torch.device) -> Iterator[None]:
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False), torch.no_grad():
        yield


class MapBuilder:
    """Makes the explanations of one comparison from what was measured."""

    def __init__(
        self,
        vision: VisionModel,
        module: nn.Module,
        batch: Batch,
        measured: Measured,
        request: Request,
    ) -> None:
        self.vision, self.module, self.batch, self.measured, self.request = vision, module, batch, measured, request
        self.augmented: list[tuple[Augmentation, MapBuilder]] = []
        #: What becomes of each combination, but for what the whole pass cost, which is known last.
        self.drafts: dict[tuple[str, str, Any], dict[str, Any]] = {}
        self.failures: dict[tuple[str, str, Any], WhycamError] = {}
        self.facts: dict[tuple[Any, ...], list[bool]] = {}
        self.recording = measured.any
        answer = self.recording.answer
        self.reading = ClassReading(answer.probability)
        self.predictions = predictions(self.recording.output, vision.labels, self.reading) if answer.classes else ()
        self.notes = self._notes()
        self.supply = QuantityProvider(module, batch, measured, request.run)
        self.spent: list[RunStats] = []

    def augment(self, augmentation: Augmentation, batch: Batch, measured: Measured) -> None:
        """Average every map with those made of a changed batch."""
        plain = replace(self.request, smoothing=None, path=None, signed=False, per_channel=False)
        self.augmented.append((augmentation, MapBuilder(self.vision, self.module, batch, measured, plain)))

    def make(self, method: Method, plan: Plan, number: int, target: Any) -> None:
        """Add the explanation of one combination, or the reason why there is none; one for each call of `NAME#*`."""
        if not plan.fused and any(tap.call == "all" for tap in plan.taps):
            for tap in (each for spread in plan.taps for each in self._calls(spread)):
                self.make(method, replace(plan, taps=(tap,)), number, target)
            return
        try:
            draft = self._draft(method, plan, number)
        except WhycamError as error:
            self.failures[method.name, " + ".join(map(str, plan.taps)) or "input", target] = error
            return
        self.drafts[method.name, draft["layer"].name, target] = draft

    def explanations(self, cost: Cost) -> dict[tuple[str, str, Any], Explanation]:
        """The finished explanations, of a pass that cost this."""
        return {name: Explanation(**draft, cost=cost) for name, draft in self.drafts.items()}

    def _draft(self, method: Method, plan: Plan, number: int) -> dict[str, Any]:
        if plan.refusal:
            raise LayerRefused(plan.refusal)
        taps = [each for spread in plan.taps for each in self._calls(spread)]
        for tap in taps:
            if tap in self.measured.refusals:
                raise Misplaced(self.measured.refusals[tap])
        recording = self.recording
        options = method.with_defaults(self.request.options.get(method.name, {}))
        layers = self.measured.plain.layers if self.measured.plain is not None else {}
        records = [each for tap in taps for each in (layers[tap].scales if layers else ())]
        results, statuses = [], []
        places: list[LayerRecord | None] = [*records] or [None]
        if self.request.per_channel and len(places) > 1:
            raise WhycamError(
                f"per_channel=True keeps what the channels of one layer add, and {len(places)} layers are fused here; "
                "name one layer, or leave per_channel out."
            )
        options, values, hidden = self._hidden(method, options)
        self.supply.work = []
        try:
            for record_ in places:
                made, channels, colors = self._smoothed(method, record_, number, values)
                results.append(made)
                statuses.append(self._judge(method, record_, number, made, scale=plan.layout is not None))
        finally:
            work = tuple(self.supply.work)
            self.spent += work
        maps = [each.maps for each in results]
        context = self._context(records)
        why, joined = plan.reason, None
        if len(maps) == 1:
            fused, status = maps[0], statuses[0]
        else:
            scales = _scales(records)
            fuse = self.request.fusion or fusions.find("sum" if scales else plan.fusion or method.fusion)
            joined = fusions.name_of(fuse)
            calls = "calls, one for each scale (choose with '#')," if len(taps) > 1 else "scales in one axis of tokens"
            what = calls if scales else "layers"
            why = plan.why or f"{len(records)} {what} fused by {joined}"
            fused = fuse(maps, **self._for_fusion(fuse, records, number, method.title)).float()
            own = self._judge(method, None, number, Result(fused))
            names = [str(each.tap) for each in records]
            # a level that has no part in a score adds 0 to a sum, and spoils nothing
            adds_up = fuse is fusions.find("sum")
            status = [
                worst(
                    mine,
                    [
                        (name, each[i])
                        for name, each in zip(names, statuses, strict=True)
                        if not (adds_up and each[i].kind in ("zero gradient", "no positive evidence", "flat map"))
                    ],
                )
                for i, mine in enumerate(own)
            ]
            kinds = [{each.kind for each in every} for every in statuses]
            silent = [name for name, each in zip(names, kinds, strict=True) if each == {"zero gradient"}]
            if adds_up and silent:
                hidden = (*hidden, f"no part of the score comes through {', '.join(silent)}")
        layer = self._layer(records, taps, context, why)
        padded = context.on_padding(fused) if records and fused.ndim == 3 else None
        padding = {} if padded is None else {"share on padding": padded}
        target = recording.targets[number]
        return {
            "maps": fused,
            "scores": recording.scores[number],
            "predictions": self.predictions,
            "target": target.texts if method.class_specific else (),
            "method": method.name,
            "title": method.title,
            "options": options,
            "layer": layer,
            "status": tuple(status),
            "shown": target.shown if method.class_specific else (),
            "notes": (
                *self.notes,
                *([target.note] if target.note and method.class_specific else []),
                *_doubts(layer),
                *self._left(method),
                *(self._beyond(method, records) if self.measured.attentions is not None else ()),
                *self._smoothing_note(),
                *hidden,
                *told(work),
            ),
            "model": self.vision.name,
            "context": context,
            "work": work,
            "parts": results[0].parts if len(results) == 1 else None,
            "apart": results[0].apart if len(results) == 1 else "",
            "colors": colors if len(results) == 1 else None,
            "channels": channels if len(results) == 1 else None,
            "outputs": recording.output,
            "values": {**(results[0].values if len(results) == 1 else {}), **padding},
            "provenance": {"beside": beside} if (beside := self.request.beside(joined)) else {},
        }

    def _hidden(
        self, method: Method, options: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
        """The options, the same with a tensor for `baseline="black"`, and a note where that default cannot be had."""
        baseline = options.get("baseline")
        if not isinstance(baseline, str) or baseline != "black":
            return options, options, ()
        try:
            return options, {**options, "baseline": black(self.vision, self.batch.context)}, ()
        except InputError as error:
            if "baseline" in self.request.options.get(method.name, {}):
                raise
            zero = {**options, "baseline": "zero"}
            return zero, zero, (f"hidden pixels are 0 in the model's inputs, not black: {error}",)

    def _smoothing_note(self) -> tuple[str, ...]:
        notes = []
        if self.request.smooth.component:
            notes.append(
                "smoothed: the first principal component of the weighted channels stands in place of their sum"
            )
        if self.request.path:
            notes.append(f"the mean over {self.request.path} points of the path from the input's mean color to it")
        elif self.augmented:
            notes.append(f"smoothed: the mean over {len(self.augmented) + 1} augmentations of the inputs")
        if self.request.signed:
            notes.append(SIGNED)
        return tuple(notes)

    def _context(self, records: Sequence[LayerRecord]) -> InputContext:
        """What the layers look at: of several pictures the one that is theirs."""
        own = self.batch.context.inputs
        pictures = [own if each.picture is None else each.picture for each in records]
        if not [picture for picture in pictures if picture is not own]:
            return self.batch.context
        if any(picture is not pictures[0] for picture in pictures) and not _equal(pictures):
            raise WhycamError(
                "maps of different pictures cannot be fused: "
                + "; ".join(f"{each.tap}: {each.about}" for each in records)
                + ". Name one call, such as 'NAME#0', or use whycam.compare with layers=['NAME#*'] for a map of each."
            )
        return InputContext(pictures[0])

    def _calls(self, tap: LayerRef) -> list[LayerRef]:
        """The calls that a tap stands for: several of `NAME#*`, and of a layer that ran once for each scale."""
        layers = self.measured.plain.layers if self.measured.plain is not None else {}
        if tap.call != "all" and (tap in layers or tap.at(0) not in layers):
            return [tap]
        every = (tap.at(number) for number in itertools.count())
        return list(itertools.takewhile(layers.__contains__, every))

    def _for_fusion(
        self, fuse: fusions.Fusion, records: Sequence[LayerRecord], number: int, title: str
    ) -> dict[str, list[Tensor]]:
        """What a fusion asks for beside the maps, layer by layer."""
        return {
            name: [self.supply.quantity(name, each, number, title) for each in records] for name in fusions.needs(fuse)
        }

    def _smoothed(self, method: Method, layer: LayerRecord | None, number: int, options: Mapping[str, Any]) -> Made:
        """The method's maps, made and smoothed as the caller asked."""
        request, smooth = self.request, self.request.smooth
        settings = Making(smooth.component, request.signed, request.per_channel)
        if not (smooth.component or request.signed or request.per_channel or "guided_gradients" in method.needs):
            made = self._maps(method, layer, number, options)
            colors = products = None
            every = [made, *self._augmented(method, layer, number, options)]
        else:
            with making(settings):
                made = self._maps(method, layer, number, options)
                colors, products = settings.colors, settings.products
                every = [made, *self._augmented(method, layer, number, options)]
        if smooth.component and not settings.summed:
            raise WhycamError(
                f"{method.title} sums no channels, so there is no principal component of them to smooth by; leave "
                "smoothing out, or use 'augmentations'."
            )
        if request.signed and not settings.unrectified:
            raise WhycamError(
                f"{method.title} takes no positive part as its last step, so signed=True changes nothing; leave it out."
            )
        if request.per_channel and products is None:
            raise WhycamError(
                f"{method.title} does not add channels up, so there is nothing to say of each; leave per_channel out."
            )
        if len(every) == 1:
            return made, products, colors
        parts = [each.parts for each in every if each.parts is not None]
        maps = torch.stack([each.maps for each in every]).mean(0)
        return replace(made, maps=maps, parts=torch.stack(parts).mean(0) if parts else None), None, None

    def _augmented(
        self, method: Method, layer: LayerRecord | None, number: int, options: Mapping[str, Any]
    ) -> Iterator[Result]:
        """The maps of the augmented inputs, turned back."""
        if self.augmented and (method.couples or self.request.per_channel):
            raise WhycamError(
                "per_channel=True and augmentations exclude each other; leave one out."
                if self.request.per_channel
                else f"what {method.title} finds in one batch has no counterpart in another, so its maps cannot be "
                "averaged over augmentations; leave smoothing out."
            )
        for augmentation, other in self.augmented:
            other.supply.work = self.supply.work
            record = None if layer is None else other.record_like(self, layer)
            yield _turned(other._maps(method, record, number, options), augmentation)

    def record_like(self, other: "MapBuilder", layer: LayerRecord) -> LayerRecord:
        """What this maker's batch did where another maker's did `layer`."""
        assert self.measured.plain is not None  # a method with a layer needs the plain recording
        assert other.measured.plain is not None
        tap = next(tap for tap, each in other.measured.plain.layers.items() if each.tap == layer.tap)
        mine = self.measured.plain.layers[tap].scales
        return next((each for each in mine if each.layout == layer.layout), mine[0])

    def _maps(self, method: Method, layer: LayerRecord | None, number: int, options: Mapping[str, Any]) -> Result:
        samples = self.recording.output.shape[0]
        if layer is not None and layer.refusal:
            raise LayerRefused(layer.refusal)
        target = self.recording.targets[number] if self.recording.targets else None
        if method.moves and target is not None and target.placed:
            raise WhycamError(
                f"{method.title} runs parts or other sizes of the input, where {target.texts[0]} would lie elsewhere; "
                "use another method, such as hires_cam or score_cam."
            )
        at_input = sorted(method.needs - LAYER_QUANTITIES - {"scores"})
        elsewhere = layer is not None and layer.picture is not None and layer.picture is not self.batch.context.inputs
        if at_input and layer is not None and elsewhere:
            raise WhycamError(
                f"{method.title} reads {at_input[0]} of the first input, and layer {str(layer.tap)!r} looks at "
                f"another ({layer.about}); use a method that reads the layer alone, such as grad_cam."
            )
        space = self.batch.context.space
        quantities = {name: self.supply.quantity(name, layer, number, method.title) for name in method.takes}
        if space is not None and space != tuple(range(2, self.batch.context.inputs.ndim)):
            quantities = {name: turned(name, value, space) for name, value in quantities.items()}
        found = method.function(**quantities, **options)
        maps: Any = found.maps if isinstance(found, Result) else found
        axes = 1 + len(self.batch.context.size) if layer is None else layer.activations.ndim - 1
        if not isinstance(maps, Tensor) or maps.ndim != axes or maps.shape[0] != samples:
            came = f"shape {tuple(maps.shape)}" if isinstance(maps, Tensor) else type(maps).__name__
            raise WhycamError(
                f"{method.name} must return maps of shape (batch, *spatial), batch {samples}; it returned {came}."
            )
        return replace(found, maps=maps.float()) if isinstance(found, Result) else Result(maps.float())

    def _judge(
        self, method: Method, layer: LayerRecord | None, number: int, made: Result, *, scale: bool = False
    ) -> list[Status]:
        """The status of each map. A `scale` that a detector reads ends in a convolution, signed by construction."""
        recording = self.recording
        bound = recording.targets[number]
        gradient = layer.gradients[number] if layer is not None and layer.gradients else None
        measured = layer is not None and "gradients" in method.needs
        scores = recording.scores[number].tolist()
        still = self._still(layer, number) if measured and layer is not None and gradient is not None else None
        signed = self._signed(layer) if layer is not None and method.assumes_non_negative and not scale else None
        evidence = [
            Evidence(
                score=scores[i] if method.class_specific else 0.0,
                is_probability=method.class_specific and bound.is_probability,
                gradient_is_zero=(still is None or still[i]) if measured else None,
                gradient_elsewhere=layer is not None and bool(layer.outside) and layer.outside[number],
                disconnected=measured and gradient is None,
                unverified=self._unverified(layer),
                redraws=layer is not None and layer.tap in self.measured.redrawing,
                signed=signed is not None and signed[i],
                own=made.status[i] if made.status else None,
            )
            for i in range(len(scores))
        ]
        found = judge_all(
            made.maps,
            evidence,
            title=method.title,
            assumes_non_negative=method.assumes_non_negative,
            caution=method.caution,
        )
        if not (bound.status and method.class_specific):
            return found
        # what keeps a sample from being explained comes before anything that its map shows
        return [theirs if mine.ok else mine for mine, theirs in zip(bound.status, found, strict=True)]

    def _unverified(self, layer: LayerRecord | None) -> str:
        """The grid that a layer's positions are drawn on, where their number alone speaks for it."""
        if layer is None or not isinstance(layer.layout, Tokens) or layer.layout.known == "said":
            return ""
        open_ = self.measured.locations.get(layer.tap) == "undetermined"
        return "x".join(map(str, layer.layout.shape)) if open_ else ""

    def _still(self, layer: LayerRecord, number: int) -> list[bool]:
        """For each sample, whether no location has gradient. Found once for all methods, and without a bool tensor."""
        gradient = layer.gradients[number]
        assert gradient is not None  # asked for where there is one
        return self._once(("still", layer.tap, gradient.shape, number), lambda: gradient.flatten(1).abs().amax(1) == 0)

    def _signed(self, layer: LayerRecord) -> list[bool]:
        """For each sample, whether the layer's activations go below zero."""
        return self._once(
            ("signed", layer.tap, layer.activations.shape), lambda: layer.activations.flatten(1).amin(1) < 0
        )

    def _once(self, key: tuple[Any, ...], make: Callable[[], Tensor]) -> list[bool]:
        if key not in self.facts:
            self.facts[key] = make().tolist()
        return self.facts[key]

    def _layer(
        self, records: Sequence[LayerRecord], taps: Sequence[LayerRef], context: InputContext, why: str
    ) -> Layer:
        size = context.size
        if not records:
            shape = tuple(context.inputs.shape)
            return Layer("input", shape, size, (1.0,) * len(size), "channels first", "the method works at the input")
        finest = records[0] if len(records) == 1 else max(records, key=lambda each: each.activations[0, 0].numel())
        grid = tuple(finest.activations.shape[2:])
        stride = tuple([s / g for s, g in zip(size, grid, strict=True)]) if len(size) == len(grid) else ()
        known = [self.measured.locations.get(tap, "by construction") for tap in taps]
        scales = records[1:] != [] and _scales(records)
        return Layer(
            str(taps[0].at("last")) if scales else " + ".join([str(each.tap) for each in records]),
            finest.shape,
            grid,
            stride,
            str(finest.layout),
            "; ".join([why, *[each.about for each in records if each.about and not scales]]),
            "undetermined" if "undetermined" in known else known[0],
        )

    def _beyond(self, method: Method, records: Sequence[LayerRecord]) -> tuple[str, ...]:
        attentions = self.measured.attentions
        assert attentions is not None  # asked for where there are some
        if "reading" not in method.takes:
            return ()
        return tuple(filter(None, dict.fromkeys(map(attentions.beyond, records))))

    def _left(self, method: Method) -> tuple[str, ...]:
        """What guided ReLUs leave as it is, and what has no rule of relevance."""
        plain = self.measured.plain
        if "attention_relevance" in method.needs and plain is not None and plain.left:
            return (_unruled(plain.left),)
        guided = self.measured.guided if "guided_gradients" in method.needs else None
        if guided is None or not guided.left:
            return ()
        return (f"ReLUs are guided; {', '.join(guided.left)} pass gradients as they are",)

    def _notes(self) -> tuple[str, ...]:
        notes = []
        output, answer = self.recording.output, self.recording.answer
        if answer.name:
            notes.append(f"explains the model's output{answer.name}")
        if answer.probability:
            notes.append(
                "the model's output already is a probability, whose gradient vanishes where the model is sure; explain "
                "its logits where you can"
            )
        if answer.embedding:
            notes.append(f"the output is an embedding ({answer.embedding}), so there are no predictions")
        if answer.classes and is_one_unit(output):
            other = "its negative (for a number that it estimates, pass target=1)"
            other = "1 less it" if answer.probability else other
            notes.append(f"the model answers with one unit: class 1 is the unit, class 0 is {other}")
        if wrapper := parallel(self.vision.module):
            notes.append(f"the module inside {wrapper} was run, on one device")
        if self.batch.context.photos is not None:
            notes += filter(None, (self.vision.preprocess_note, self.batch.context.note))
        return tuple(notes)

    def bad_samples_unexplained(self) -> bool:
        """Whether some map is not finite, for which the cause has not been looked for."""
        return "non-finite" in [status.kind for each in self.drafts.values() for status in each["status"]]

    def explain_non_finite(self, causes: Sequence[str | None]) -> None:
        """Say in the statuses where NaN or infinity first appeared, sample by sample."""
        for draft in self.drafts.values():
            draft["status"] = tuple(
                judge(
                    map_,
                    Evidence(float("nan"), first_non_finite=cause),
                    title=draft["title"],
                    assumes_non_negative=False,
                )
                if mine.kind == "non-finite"
                else mine
                for map_, mine, cause in zip(draft["maps"], draft["status"], causes, strict=True)
            )


def _scales(records: Sequence[LayerRecord]) -> bool:
    """Whether these are the calls of one layer at several scales."""
    grids = {tuple(each.activations.shape[2:]) for each in records}
    return len({each.tap.module for each in records}) == 1 and len(records) == len(grids)


def _equal(pictures: Sequence[Tensor]) -> bool:
    """Whether several views are of the same numbers: two slices of one tensor are no one object."""
    return all(torch.equal(picture, pictures[0]) for picture in pictures)


def _doubts(layer: Layer) -> tuple[str, ...]:
    if layer.location != "undetermined":
        return ()
    return (
        f"where in the input the positions of {layer.name} lie could not be told (a change anywhere moves all of them "
        "alike, or the network does not take the five variants at once); they are drawn row by row",
    )


def _unruled(names: Sequence[str]) -> str:
    return f"no rule of relevance is known for {', '.join(names)}: gradients pass there as they are"


def told(work: Sequence[RunStats]) -> tuple[str, ...]:
    """What a reader should know of how variants were run."""
    notes = []
    for each in work:
        if each.fallback:
            notes.append(f"whole forwards were run, because the part above the layer cannot be: {each.fallback}")
        if each.alone:
            notes.append(f"each variant was run by itself: {each.alone}")
        if each.left:
            notes.append(_unruled(each.left))
        if each.halved:
            notes.append(f"memory ran out, so the rows run at once were halved {each.halved} times, to {each.rows}")
        if each.copy and each.deviation is None:
            notes.append(f"scored by a private copy of the network with {each.copy}")
        elif each.deviation is not None:
            deviation = each.deviation
            share = f", {deviation / each.spread:.1%} of how far all scores lie apart" if each.spread else ""
            notes.append(
                f"scored by a private copy of the network ({each.copy}), whose scores differ from the network's "
                f"by at most {deviation:.2g}{share}, over a sample of variants"
            )
    return tuple(dict.fromkeys(notes))


def predictions(output: Tensor, labels: Sequence[str] | None, reading: ClassReading) -> tuple[Prediction, ...]:
    """The top class of each sample."""
    logits = reading.logits(output)
    labels = fitting(labels, logits.shape[1])
    top = logits.argmax(1)
    values = reading.probability_of(output, top)
    return tuple(
        Prediction(i, labels[i] if labels is not None else None, p) if finite else Prediction(-1, None, float("nan"))
        for i, p, finite in zip(top.tolist(), values.tolist(), logits.isfinite().all(1).tolist(), strict=True)
    )
