"""What the methods of one request read, measured: one loop for `explain`, `compare` and the estimate of their cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from whycam.engine.attention import Attentions, attend
from whycam.engine.inputs import Batch
from whycam.engine.layer_plan import Passes, Plan, correct, plan
from whycam.engine.request import Request
from whycam.errors import WhycamError
from whycam.kit import fusions
from whycam.kit.quantities import OF_ATTENTION
from whycam.kit.registry import Method
from whycam.network.input_axes import shape_of
from whycam.network.layer_refs import LayerRef
from whycam.network.layers.features import features, known_otherwise
from whycam.network.layers.positions import Located, Location, locate
from whycam.network.layouts import Layout, Tokens, is_plain, readings
from whycam.network.pytree import first_tensor
from whycam.network.recording.record import Recording, Resolve, record

#: What a pass whose graph is cut behind each block tells as well as another.
ATTENTION_OR_STILL = OF_ATTENTION | {"activations", "scores", "inputs"}
#: Quantities for which the network is resumed from the layer.
FROM_THE_LAYER = frozenset({"score_from", "score_dimmed", "prompts", "curvature"})


@dataclass(frozen=True)
class Ground:
    """Where the maps of a request are made, what was measured there, and the passes spent on settling this."""

    plans: dict[str, list[Plan]]
    measured: "Measured"
    choosing: Passes


def ground(module: nn.Module, batch: Batch, request: Request, resolvers: Sequence[Resolve]) -> Ground:
    """Choose layers where none are named, record, and record elsewhere if a chosen layer turns out to have no gradient.

    Raises:
        WhycamError: a layer that does not exist or cannot be explained, a target that does not fit the output.
    """
    methods = request.methods
    plans, choosing = plan(module, batch, methods, request.layers, resolvers)
    automatic = False in [each.choice is None for several in plans.values() for each in several]
    extra = fusion_needs(methods, plans, request.fusion)
    attentions, spent = attend(module, batch, methods, request.options, plans, resolvers)
    choosing = choosing.plus(*spent) if attentions is not None else choosing

    def run(*, must_depend: bool) -> Measured:
        return measure(
            module,
            batch,
            methods,
            plans,
            resolvers,
            request.layout,
            must_depend=must_depend,
            extra=extra,
            attentions=attentions,
        )

    measured = run(must_depend=not automatic)
    if automatic:
        corrected, spent = correct(module, batch, methods, plans, measured.plain, resolvers)
        choosing = choosing.plus(*spent)
        if corrected != plans or measured.disconnected:
            choosing = choosing.plus(*measured.passes)
            plans = corrected
            measured = run(must_depend=True)
    return Ground(plans, measured, choosing.plus(measured.looking))


@dataclass(frozen=True)
class Measured:
    """The recordings that the methods read: the plain one, and the one with guided ReLUs where asked.

    `locations` says how it is known where the positions of a layer lie, by the tap that was asked for; `refusals` why a
    layer has no map, `redrawing` which layers a dense answer is made of place by place, and `looking` how many forwards
    it took to find these out.
    """

    plain: Recording | None
    guided: Recording | None
    guided_refusal: str | None
    locations: Mapping[LayerRef, Location]
    refusals: Mapping[LayerRef, str]
    looking: int = 0
    redrawing: frozenset[LayerRef] = frozenset()
    attentions: Attentions | None = None
    layered: Recording | None = None

    @property
    def passes(self) -> Passes:
        """What the recordings took."""
        passes = Passes()
        for run in (self.plain, self.guided, self.layered if self.layered is not self.plain else None):
            passes = passes if run is None else passes.plus(run.forwards, run.backwards)
        return passes

    @property
    def disconnected(self) -> bool:
        """Whether gradients were measured and no score depends on any layer."""
        rows = [each.gradients for each in self.plain.layers.values()] if self.plain is not None else []
        return any(rows) and all(gradient is None for row in rows for gradient in row)

    @property
    def any(self) -> Recording:
        """One of them: both hold the same output, targets and scores."""
        found = self.plain if self.plain is not None else self.guided
        assert found is not None  # every method needs one of the two
        return found


def measure(
    module: nn.Module,
    batch: Batch,
    methods: Sequence[Method],
    plans: Mapping[str, Sequence[Plan]],
    resolvers: Sequence[Resolve],
    layout: Layout | None,
    *,
    must_depend: bool = True,
    extra: frozenset[str] = frozenset(),
    attentions: Attentions | None = None,
) -> Measured:
    """Record what the methods need, and `extra`, at the layers of their plans."""
    needs = extra.union(*[method.needs for method in methods])
    every = [plan for several in plans.values() for plan in several]
    taps = list(dict.fromkeys([tap for plan in every for tap in plan.taps]))
    choices = [plan.choice for plan in every if plan.choice is not None]
    layouts = {each.tap: each.layout for each in choices} if layout is None else dict.fromkeys(taps, layout)
    locations: dict[LayerRef, Location] = {each.tap: each.location for each in choices}
    for each in every:
        if each.layout is not None and layout is None:
            layouts |= dict.fromkeys(each.taps, each.layout)
            locations |= dict.fromkeys(each.taps, "by construction")
    refusals: dict[LayerRef, str] = {}
    plain = guided = refusal = layered = None
    looking = 0
    if needs - {"guided_gradients"}:

        def run(layouts: Mapping[LayerRef, Layout]) -> Recording:
            return record(
                module,
                batch.inputs,
                taps,
                resolvers,
                gradients="gradients" in needs,
                input_gradients="input_gradients" in needs,
                layouts=layouts,
                must_depend=must_depend,
                views=batch.views,
                resume=bool(needs & FROM_THE_LAYER),
                folding=attentions.folding() if attentions is not None else None,
            )

        if attentions is not None and attentions.layered and attentions.cuts:
            layered = attentions.record_layered(module, batch.inputs, taps, resolvers, layouts)
        alone = attentions is not None and not attentions.folds and not needs - ATTENTION_OR_STILL
        plain = layered if alone and layered is not None else run(layouts)
        if layout is not None:
            locations = dict.fromkeys(plain.layers, "as given")
        else:
            found, looking = _look(module, batch, plain, known=locations)
            refusals = {tap: _misplaced(tap, plain) for tap, each in found.items() if each.layout is None}
            locations |= {tap: each.location for tap, each in found.items()}
            moved = {
                tap: each.layout
                for tap, each in found.items()
                if each.layout is not None and each.layout != plain.layers[tap].layout
            }
            if moved:
                first, plain = plain, run({**layouts, **moved})
                looking += first.forwards
    if "guided_gradients" in needs:
        try:
            guided = record(module, batch.inputs, [], resolvers, input_gradients=True, guided=True)
        except WhycamError as error:
            if plain is None:
                raise
            refusal = str(error)
            looking += 1
    redrawing: frozenset[LayerRef] = frozenset()
    settling = getattr(resolvers[0], "settling", None)  # all are asked of the whole output, or none
    if plain is not None and settling is not None and settling.dense:
        seen, forwards = features(module, batch.inputs)
        looking += forwards
        names = {tap.module: {each.redraws for each in seen if tap.module in each.names} for tap in plain.layers}
        redrawing = frozenset(
            e.tap for tap, e in plain.layers.items() if names[tap.module] == {True} and tap.side == "output"
        )
    return Measured(plain, guided, refusal, locations, refusals, looking, redrawing, attentions, layered)


def _look(
    module: nn.Module, batch: Batch, recording: Recording, known: Mapping[LayerRef, Location]
) -> tuple[dict[LayerRef, Located], int]:
    """Where the positions lie of layers that were named and are not plainly channels first; the forwards spent."""
    first = first_tensor(batch.inputs)
    doubtful, others = {}, {}
    for tap, layer in recording.layers.items():
        picture = layer.picture if layer.picture is not None else first
        if tap in known or layer.refusal:
            continue
        shape = shape_of(module, first) if picture is first else tuple(picture.shape)
        if is_plain(layer.layout, layer.shape, shape) and not known_otherwise(module, batch.inputs):
            continue
        if picture is not first:  # which alone is changed to see where its positions lie
            others[tap] = Located(layer.layout, "undetermined")
            continue
        doubtful[tap] = [layer.layout]
    if not doubtful:
        return others, 0
    seen, forwards = features(module, batch.inputs)
    by_name = {name: feature for feature in seen for name in feature.names}
    for tap in doubtful:
        feature = by_name.get(tap.module)
        if feature is not None and tap.side == "output" and feature.shape[1:] == recording.layers[tap].shape[1:]:
            doubtful[tap] = list(feature.readings)
        else:
            doubtful[tap] = [*readings(recording.layers[tap].shape, shape_of(module, first))] or doubtful[tap]
    found, spent = locate(module, batch.inputs, doubtful)
    return {**found, **others}, forwards + spent


def _misplaced(tap: LayerRef, recording: Recording) -> str:
    layout = recording.layers[tap].layout
    if isinstance(layout, Tokens) and layout.known == "guessed":
        return (
            f"which of the {recording.layers[tap].shape[1]} tokens of layer {str(tap)!r} are patches, and of which "
            "grid, could not be told: no reading of them is confirmed by a change of the input. Choose another layer "
            "(`whycam layers`), or say how to read this one with layout=, for example Tokens((14, 14), prefix=1)."
        )
    return (
        f"the positions of layer {str(tap)!r} do not lie as in the input: a change of one half of the input shows "
        "where the other half was expected, so its map would be drawn in the wrong places. Choose another layer "
        "(`whycam layers`), or say how to read this one with layout=."
    )


def fusion_needs(
    methods: Sequence[Method], plans: Mapping[str, Sequence[Plan]], fuse: fusions.Fusion | None
) -> frozenset[str]:
    """What the fusions of the plans need beside the maps."""
    found = [
        fusions.needs(fuse if fuse is not None else fusions.find(method.fusion))
        for method in methods
        if [plan for plan in plans[method.name] if plan.fused and (len(plan.taps) > 1 or plan.taps[0].call == "all")]
    ]
    return frozenset().union(*found)
