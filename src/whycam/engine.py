"""`explain` and `compare`: choices in, one recording, Explanations out."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from whycam import fusion as fusions
from whycam.batches import Batch, make_batch
from whycam.errors import WhycamError
from whycam.explanation import Comparison, Cost, Explanation, Layer, Prediction
from whycam.models.load import load
from whycam.models.vision_model import PreprocessLike, VisionModel
from whycam.network.choice import Choice, choose, correct, zero_everywhere
from whycam.network.diagnosis import first_non_finite
from whycam.network.eager import unwrapped
from whycam.network.head import head_weights
from whycam.network.layouts import Layout
from whycam.network.recording import Bind, LayerRecord, Recording, record
from whycam.network.taps import Tap, find_all, find_taps
from whycam.registry import Function, Method, find
from whycam.status import Evidence, Status, judge, worst
from whycam.targets import Bound, TargetSpec, bind, class_logits, is_one_unit, key, log_probability

ModelLike: TypeAlias = nn.Module | VisionModel | str
MethodLike: TypeAlias = str | Function
LayerLike: TypeAlias = Any  #: a dotted name, a module, a glob, a list of these (fused), or None


def explain(
    model: ModelLike,
    inputs: Any,
    method: MethodLike = "grad_cam",
    *,
    target: TargetSpec = None,
    layer: LayerLike = None,
    fusion: str | fusions.Fusion | None = None,
    layout: Layout | None = None,
    preprocess: PreprocessLike | None = None,
    labels: Sequence[str] | None = None,
    **options: Any,
) -> Explanation:
    """Say which locations of the inputs made the model answer as it did.

    Args:
        model: a module, a `VisionModel`, or a spec such as `"builtin"` or `"package.module:callable"`. It is left
            exactly as it is, training mode and gradients included.
        inputs: a ready batch `(N, C, *spatial)`, a tuple or dict of tensors, or photos: paths, PIL images, uint8
            arrays, one or a list.
        method: a name (`whycam.list_methods()`), or any function whose parameters before `*` are quantities.
        target: `None` for each sample's top class; a class index, label text, target object (`whycam.targets`) or
            function `output -> (N,)` for the whole batch; or a sequence with one for each sample.
        layer: `None` to have it chosen (the result says which, and why); a dotted name, a module, or a glob
            (`"layer4"`, `"relu#0"` for its first call, `"avgpool:input"`); a list or a glob for several is fused.
        fusion: how several layers' maps become one: `"mean"` (the default), `"maximum"`, `"tanh"`, `"product"`, or a
            function.
        layout: how to read the layer's output where that should not be inferred (`whycam.layouts`).
        preprocess: photo -> input, for a module that is asked about photos.
        labels: the classes' texts by index.
        options: the method's own.

    Returns:
        The explanation: raw float32 maps at the layer's size and a status for each sample.

    Raises:
        WhycamError: something that the caller can put right, with what was expected, what came, and what to do.
        PhotoError: a photo that cannot be read.
    """
    chosen = find(method)
    if target is not None and not chosen.class_specific:
        raise WhycamError(
            f"{chosen.title} explains no class: its map would be the same for every target. Leave target out, or use a "
            "method that reads the score, such as grad_cam."
        )
    if layer is not None and not chosen.has_layer:
        raise WhycamError(f"{chosen.title} works at the input and reads no layer. Leave layer out.")
    chosen.check_options(options)
    several = layer if isinstance(layer, (list, tuple)) else [layer]
    made = _compare(
        model,
        inputs,
        [chosen],
        [_Place(tuple(several), fused=layer is not None)],
        [target],
        fusion,
        {chosen.name: options},
        layout,
        preprocess,
        labels,
    )
    return next(iter(made.values()))


def compare(
    model: ModelLike,
    inputs: Any,
    methods: Sequence[MethodLike] = ("grad_cam",),
    layers: Sequence[LayerLike] | None = None,
    targets: Sequence[TargetSpec] | None = None,
    *,
    fusion: str | fusions.Fusion | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    layout: Layout | None = None,
    preprocess: PreprocessLike | None = None,
    labels: Sequence[str] | None = None,
) -> Comparison:
    """Explain with several methods, at several layers, for several targets, in one shared pass.

    However many there are, the network runs once forwards, and once backwards for each target down to the earliest
    layer. (Guided backprop needs one more forward and a backward of its own for each target.)

    Args:
        model, inputs, layout, preprocess, labels: as for `explain`.
        methods: names or functions.
        layers: each a layer as for `explain`; a glob is taken apart into its layers, a list is fused with `fusion`.
            `None` chooses, for each method.
        targets: each a target as for `explain`. `None` is each sample's top class.
        options: for each method by name, its options.

    Returns:
        A mapping keyed (method, layer, target). Combinations that cannot be are in its `failures`, with the reason.

    Raises:
        WhycamError: a name that does not exist, or nothing at all could be explained.
        PhotoError: a photo that cannot be read.
    """
    for name, value in (("methods", methods), ("layers", layers)):
        if isinstance(value, (str, nn.Module)):
            raise WhycamError(f"{name} is a list, such as {name}=[{value if isinstance(value, str) else 'module'!r}].")
    if isinstance(targets, (str, int)):
        raise WhycamError(f"targets is a list, such as targets=[{targets!r}].")
    chosen = list({each.name: each for each in map(find, methods)}.values())
    if not chosen or (layers is not None and not list(layers)) or (targets is not None and not list(targets)):
        raise WhycamError("methods, layers and targets each need at least one entry; leave one out for its default.")
    own = {each.name for each in chosen}  # a function of the caller's is in no table
    by_name = {name if name in own else find(name).name: dict(values) for name, values in (options or {}).items()}
    for name, values in by_name.items():
        matching = [each for each in chosen if each.name == name]
        if not matching:
            raise WhycamError(f"options came for {name!r}, which is not among the methods.")
        matching[0].check_options(values)
    places = [
        _Place(tuple(each) if isinstance(each, (list, tuple)) else (each,), fused=isinstance(each, (list, tuple)))
        for each in (layers if layers is not None else [None])
    ]
    asked = list(targets) if targets is not None else [None]
    return _compare(model, inputs, chosen, places, asked, fusion, by_name, layout, preprocess, labels)


@dataclass(frozen=True)
class _Place:
    """What a caller gave as one layer: one or several specs, and whether several become one map."""

    specs: tuple[Any, ...]
    fused: bool


@dataclass(frozen=True)
class _Plan:
    """Where one method's maps are made: the taps of one map, and the reason if nobody named them."""

    taps: tuple[Tap, ...]
    fused: bool
    choice: Choice | None = None


def _compare(
    model: ModelLike,
    inputs: Any,
    methods: Sequence[Method],
    places: Sequence[_Place],
    targets: Sequence[TargetSpec],
    fusion: str | fusions.Fusion | None,
    options: Mapping[str, Mapping[str, Any]],
    layout: Layout | None,
    preprocess: PreprocessLike | None,
    labels: Sequence[str] | None,
) -> Comparison:
    started = time.perf_counter()
    fuse = fusions.find(fusion if fusion is not None else "mean")
    vision = as_vision_model(model, preprocess, labels)
    batch = make_batch(vision, inputs)
    module = unwrapped(vision.module)
    binds: list[Bind] = [partial(bind, spec, labels=vision.labels) for spec in targets]
    plans, forwards = _plan(module, batch, methods, places)
    automatic = any(plan.choice is not None for each in plans.values() for plan in each)
    measured = _measure(module, batch, methods, plans, binds, layout, must_depend=not automatic)
    if automatic:
        corrected, spent = _correct(module, batch, methods, plans, measured, binds)
        if corrected != plans or measured.disconnected:
            spent = (spent[0] + measured.forwards, spent[1] + measured.backwards)
            plans, measured = corrected, _measure(module, batch, methods, corrected, binds, layout)
        measured = measured.plus(*spent)
    maker = _Maker(vision, module, batch, measured, fuse, options)
    for method in methods:
        for plan in plans[method.name]:
            for number, spec in enumerate(targets if method.class_specific else [None]):
                maker.make(method, plan, number, key(spec))
    if maker.bad_samples_unexplained():
        forwards += 1
        maker.explain_non_finite(first_non_finite(module, batch.inputs))
    cost = Cost(measured.forwards + forwards, measured.backwards, time.perf_counter() - started)
    if not maker.explanations:
        raise WhycamError(next(iter(maker.failures.values())))
    finished = {name: replace(each, cost=cost) for name, each in maker.explanations.items()}
    return Comparison(finished, maker.failures, cost)


def as_vision_model(
    model: ModelLike, preprocess: PreprocessLike | None = None, labels: Sequence[str] | None = None
) -> VisionModel:
    """Whatever a caller may pass as `model`, with what the caller says of its preprocessing and labels."""
    if isinstance(model, str):
        model = load(model)
    if isinstance(model, nn.Module):
        model = VisionModel(model, name=type(unwrapped(model)).__name__)
    if not isinstance(model, VisionModel):
        raise WhycamError(
            f"model must be a torch.nn.Module, a VisionModel or a spec such as 'builtin', not {type(model).__name__}."
        )
    if preprocess is not None:
        model = replace(model, preprocess=preprocess)
    if labels is not None:
        model = replace(model, labels=tuple(labels))
    return model


def _plan(
    module: nn.Module, batch: Batch, methods: Sequence[Method], places: Sequence[_Place]
) -> tuple[dict[str, list[_Plan]], int]:
    """For each method, where its maps are made; and the forwards spent on choosing."""
    plans: dict[str, list[_Plan]] = {}
    forwards = 0
    for method in methods:
        plans[method.name] = []
        if not method.has_layer:
            plans[method.name].append(_Plan((), fused=False))
            continue
        for place in places:
            if place.specs == (None,):
                choice, spent = choose(module, batch.inputs, side=method.side)
                forwards += spent
                plans[method.name].append(_Plan((choice.tap,), fused=False, choice=choice))
            elif not place.specs:
                raise WhycamError(
                    "layer is an empty list; name at least one layer, or leave it out to have one chosen."
                )
            elif place.fused:
                plans[method.name].append(_Plan(tuple(find_all(module, place.specs)), fused=True))
            else:
                plans[method.name] += [_Plan((tap,), fused=False) for tap in find_taps(module, place.specs[0])]
    return plans, forwards


@dataclass(frozen=True)
class _Measured:
    """The recordings that the methods read: the plain one, and the one with guided ReLUs where asked."""

    plain: Recording | None
    guided: Recording | None
    guided_refusal: str | None
    forwards: int
    backwards: int

    @property
    def disconnected(self) -> bool:
        """Whether gradients were measured and no score depends on any layer."""
        rows = [each.gradients for each in self.plain.layers.values()] if self.plain is not None else []
        return any(rows) and all(gradient is None for row in rows for gradient in row)

    def plus(self, forwards: int, backwards: int) -> "_Measured":
        """The same, with passes that were spent on the way to it."""
        return replace(self, forwards=self.forwards + forwards, backwards=self.backwards + backwards)

    @property
    def any(self) -> Recording:
        found = self.plain if self.plain is not None else self.guided
        assert found is not None  # every method needs one of the two
        return found


def _measure(
    module: nn.Module,
    batch: Batch,
    methods: Sequence[Method],
    plans: Mapping[str, Sequence[_Plan]],
    binds: Sequence[Bind],
    layout: Layout | None,
    *,
    must_depend: bool = True,
) -> _Measured:
    needs = frozenset().union(*(method.needs for method in methods))
    taps = list(dict.fromkeys(tap for each in plans.values() for plan in each for tap in plan.taps))
    plain = guided = refusal = None
    if needs - {"guided_gradients"}:
        plain = record(
            module,
            batch.inputs,
            taps,
            binds,
            gradients="gradients" in needs,
            input_gradients="input_gradients" in needs,
            layouts=dict.fromkeys(taps, layout) if layout is not None else None,
            must_depend=must_depend,
        )
    if "guided_gradients" in needs:
        try:
            guided = record(module, batch.inputs, [], binds, input_gradients=True, guided=True)
        except WhycamError as error:
            if plain is None:
                raise
            refusal = str(error)
    runs = [run for run in (plain, guided) if run is not None]
    return _Measured(plain, guided, refusal, sum(run.forwards for run in runs), sum(run.backwards for run in runs))


def _correct(
    module: nn.Module,
    batch: Batch,
    methods: Sequence[Method],
    plans: Mapping[str, Sequence[_Plan]],
    measured: _Measured,
    binds: Sequence[Bind],
) -> tuple[dict[str, list[_Plan]], tuple[int, int]]:
    """The plans with another layer where the chosen one has no gradient anywhere, and the passes spent on it."""
    found: dict[Choice, Choice] = {}
    forwards = backwards = 0
    for method in methods:
        for plan in plans[method.name]:
            if plan.choice is None or plan.choice in found or "gradients" not in method.needs or measured.plain is None:
                continue
            layer = measured.plain.layers[plan.choice.tap]
            sound = bool(torch.isfinite(layer.activations).all())
            if sound and all(map(zero_everywhere, layer.gradients)):
                better, *spent = correct(
                    module,
                    batch.inputs,
                    _first(binds[0]),
                    lasting=any(layer.outside) or all(gradient is None for gradient in layer.gradients),
                )
                found[plan.choice] = better if better is not None else plan.choice
                forwards, backwards = forwards + spent[0], backwards + spent[1]
    moved = {
        name: [
            replace(plan, taps=(found[plan.choice].tap,), choice=found[plan.choice]) if plan.choice in found else plan
            for plan in each
        ]
        for name, each in plans.items()
    }
    return moved, (forwards, backwards)


def _first(bind: Bind) -> Bind:
    """The same target for the first sample alone; the largest output where it is one for this very batch."""

    def one(output: Tensor) -> Bound:
        try:
            bound = bind(output)
            bound(output)
        except Exception:  # a caller's own function may fail in any way for a batch it was not written for
            return Bound(lambda output: output.flatten(1).amax(1), ("the largest output",))
        return bound

    return one


@contextmanager
def _plainly(device: torch.device) -> Iterator[None]:
    """A block of plain arithmetic, whatever the caller works under: no inference mode, gradients or autocast."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


class _Maker:
    """Makes the explanations of one comparison from what was measured."""

    def __init__(
        self,
        vision: VisionModel,
        module: nn.Module,
        batch: Batch,
        measured: _Measured,
        fuse: fusions.Fusion,
        options: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.vision, self.module, self.batch, self.measured = vision, module, batch, measured
        self.fuse, self.options = fuse, options
        self.explanations: dict[tuple[str, str, Any], Explanation] = {}
        self.failures: dict[tuple[str, str, Any], str] = {}
        self.facts: dict[tuple[Any, ...], list[bool]] = {}
        self.output_is_probability = looks_like_probability(measured.any.output)
        self.predictions = predictions(measured.any.output, vision.labels, self.output_is_probability)
        self.notes = self._notes()

    def make(self, method: Method, plan: _Plan, number: int, target: Any) -> None:
        try:
            name, explanation = self._explanation(method, plan, number)
        except WhycamError as error:
            self.failures[method.name, " + ".join(map(str, plan.taps)) or "input", target] = str(error)
            return
        self.explanations[method.name, name, target] = explanation

    def _explanation(self, method: Method, plan: _Plan, number: int) -> tuple[str, Explanation]:
        recording = self.measured.any
        options = {**{o.name: o.default for o in method.options.values()}, **self.options.get(method.name, {})}
        records = [each for tap in plan.taps for each in self._records(tap)]
        maps, statuses = [], []
        places: list[LayerRecord | None] = [*records] or [None]
        for record_ in places:
            made = self._maps(method, record_, number, options)
            maps.append(made)
            statuses.append(self._judge(method, record_, number, made))
        layer = self._layer(records, plan)
        if len(maps) == 1:
            fused, status = maps[0], statuses[0]
        else:
            with _plainly(self.batch.scene.inputs.device):
                fused = self.fuse(maps).float()
            own = self._judge(method, None, number, fused)
            names = [str(each.tap) for each in records]
            status = [
                worst(mine, [(name, each[i]) for name, each in zip(names, statuses, strict=True)])
                for i, mine in enumerate(own)
            ]
        target = recording.targets[number]
        return layer.name, Explanation(
            maps=fused,
            scores=recording.scores[number],
            predictions=self.predictions,
            target=target.texts if method.class_specific else (),
            method=method.name,
            title=method.title,
            options=options,
            layer=layer,
            status=tuple(status),
            cost=Cost(0, 0, 0.0),
            notes=self.notes,
            model=self.vision.name,
            scene=self.batch.scene,
        )

    def _records(self, tap: Tap) -> list[LayerRecord]:
        assert self.measured.plain is not None  # a method with a layer needs the plain recording
        layers = self.measured.plain.layers
        if tap.call == "all":
            calls = (replace(tap, call=number) for number in itertools.count())
            return [layers[call] for call in itertools.takewhile(layers.__contains__, calls)]
        return [layers[tap]]

    def _maps(self, method: Method, layer: LayerRecord | None, number: int, options: Mapping[str, Any]) -> Tensor:
        samples = len(self.measured.any.output)
        if layer is not None and len(layer.activations) != samples:
            raise WhycamError(
                f"layer {str(layer.tap)!r} returned {len(layer.activations)} samples where the model answers for "
                f"{samples}; choose a layer that is given the whole batch at once."
            )
        with _plainly(self.batch.scene.inputs.device):
            quantities = {name: self._quantity(name, layer, number) for name in method.needs}
            made = method.function(**quantities, **options)
            made = made.float() if isinstance(made, Tensor) else made
        if not isinstance(made, Tensor) or made.ndim < 2 or len(made) != samples:
            came = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
            raise WhycamError(
                f"{method.name} must return maps of shape (batch, *spatial), batch {samples}; it returned {came}."
            )
        return made

    def _quantity(self, name: str, layer: LayerRecord | None, number: int) -> Tensor:
        plain, guided = self.measured.plain, self.measured.guided
        if name == "guided_gradients":
            if guided is None:
                raise WhycamError(self.measured.guided_refusal or "guided gradients were not measured")
            return guided.input_gradients[number]
        if name == "inputs":
            return self.batch.scene.inputs.detach()
        assert plain is not None  # every other quantity comes from the plain recording
        if name == "scores":
            return plain.scores[number]
        if name == "input_gradients":
            return plain.input_gradients[number]
        assert layer is not None  # the rest belong to a layer
        if name == "activations":
            return layer.activations
        if name == "gradients":
            gradient = layer.gradients[number]
            return gradient if gradient is not None else torch.zeros_like(layer.activations)
        assert name == "head_weights", name
        return head_weights(self.module, plain, layer, plain.targets[number])

    def _judge(self, method: Method, layer: LayerRecord | None, number: int, maps: Tensor) -> list[Status]:
        recording = self.measured.any
        bound = recording.targets[number]
        gradient = layer.gradients[number] if layer is not None and layer.gradients else None
        measured = layer is not None and "gradients" in method.needs
        scores = recording.scores[number].tolist()
        still = self._still(layer, number) if measured and layer is not None and gradient is not None else None
        signed = self._signed(layer) if layer is not None and method.assumes_non_negative else None
        statuses = []
        for i, map_ in enumerate(maps):
            evidence = Evidence(
                score=scores[i] if method.class_specific else 0.0,
                is_probability=method.class_specific and (bound.is_probability or self._answers_probability(bound)),
                gradient_is_zero=(still is None or still[i]) if measured else None,
                gradient_elsewhere=layer is not None and bool(layer.outside) and layer.outside[number],
                disconnected=measured and gradient is None,
                signed=signed is not None and signed[i],
            )
            statuses.append(judge(map_, evidence, title=method.title, assumes_non_negative=method.assumes_non_negative))
        return statuses

    def _still(self, layer: LayerRecord, number: int) -> list[bool]:
        """For each sample, whether no location has gradient. Found once for all methods, and without a bool tensor."""
        gradient = layer.gradients[number]
        assert gradient is not None  # asked for where there is one
        return self._once(("still", layer.tap, number), lambda: gradient.flatten(1).abs().amax(1) == 0)

    def _signed(self, layer: LayerRecord) -> list[bool]:
        """For each sample, whether the layer's activations go below zero."""
        return self._once(("signed", layer.tap), lambda: layer.activations.flatten(1).amin(1) < 0)

    def _once(self, key: tuple[Any, ...], make: Callable[[], Tensor]) -> list[bool]:
        if key not in self.facts:
            self.facts[key] = make().tolist()
        return self.facts[key]

    def _answers_probability(self, bound: Bound) -> bool:
        return self.output_is_probability and bound.class_index is not None

    def _layer(self, records: Sequence[LayerRecord], plan: _Plan) -> Layer:
        size = tuple(self.batch.scene.size)
        if not records:
            shape = tuple(self.batch.scene.inputs.shape)
            return Layer("input", shape, size, (1.0,) * len(size), "channels first", "the method works at the input")
        finest = max(records, key=lambda each: each.activations[0, 0].numel())
        grid = tuple(finest.activations.shape[2:])
        stride = tuple(s / g for s, g in zip(size, grid, strict=True)) if len(size) == len(grid) else ()
        why = plan.choice.why if plan.choice is not None else "as asked"
        if len(records) > 1:
            why = f"{len(records)} layers fused by {getattr(self.fuse, '__name__', 'a function')}"
        for each in records:
            if each.calls > 1:
                why += (
                    f"; {each.tap.module!r} ran {each.calls} times and this is call #{each.tap.call} (choose with '#')"
                )
        return Layer(" + ".join(str(each.tap) for each in records), finest.shape, grid, stride, str(finest.layout), why)

    def _notes(self) -> tuple[str, ...]:
        notes = []
        recording = self.measured.any
        if recording.output_name:
            notes.append(f"explains the model's output{recording.output_name}")
        if self.output_is_probability:
            notes.append(
                "the model's output already is a probability, whose gradient vanishes where the model is sure; explain "
                "its logits where you can"
            )
        if is_one_unit(recording.output):
            notes.append("the model answers with one unit: class 1 is the unit, class 0 is its negative")
        return tuple(notes)

    def bad_samples_unexplained(self) -> bool:
        return any(status.kind == "non-finite" for each in self.explanations.values() for status in each.status)

    def explain_non_finite(self, causes: Sequence[str | None]) -> None:
        for name, each in self.explanations.items():
            status = tuple(
                judge(
                    map_, Evidence(float("nan"), first_non_finite=cause), title=each.title, assumes_non_negative=False
                )
                if mine.kind == "non-finite"
                else mine
                for map_, mine, cause in zip(each.maps, each.status, causes, strict=True)
            )
            self.explanations[name] = replace(each, status=status)


def looks_like_probability(output: Tensor) -> bool:
    """Whether an output already is a softmax: rows of at least two numbers that are non-negative and sum to one."""
    if output.ndim != 2 or output.shape[1] < 2:
        return False
    return bool((output >= 0).all() and ((output.sum(1) - 1).abs() < 1e-3).all())


def predictions(output: Tensor, labels: Sequence[str] | None, is_probability: bool) -> tuple[Prediction, ...]:
    """The top class of each sample, where the output holds classes."""
    if output.ndim > 2:
        return ()
    top = class_logits(output).argmax(1)
    values = output.gather(1, top[:, None]).squeeze(1) if is_probability else log_probability(output, top).exp()
    return tuple(
        Prediction(int(i), labels[int(i)] if labels is not None and int(i) < len(labels) else None, float(p))
        for i, p in zip(top, values, strict=True)
    )
