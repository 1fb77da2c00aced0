"""`explain` and `compare`: choices in, one recording, Explanations out."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, get_args

import torch
from torch import nn

from whycam import fusions
from whycam.engine.inputs import ViewLike, make_batch
from whycam.engine.layer_plan import LayerRequest, correct, measure, plan
from whycam.engine.maps import MapBuilder, Smoothing, check_smoothing, fusion_needs
from whycam.engine.smoothing import augmentations
from whycam.errors import WhycamError
from whycam.kit.progress import Progress
from whycam.kit.registry import Function, Method, find
from whycam.kit.registry import methods as list_registered
from whycam.models.load import adopted, load
from whycam.models.objects import from_module
from whycam.models.vision_model import PreprocessLike, VisionModel, as_labels
from whycam.network.diagnosis.non_finite import first_non_finite
from whycam.network.layer_refs import is_pattern
from whycam.network.layouts import Layout
from whycam.network.outputs import OutputPath, OutputSelector
from whycam.network.recording.record import Resolve
from whycam.network.unwrap import refuse_lazy, refuse_scripted, unwrapped, what_instead
from whycam.network.variants.scoring import Precision, RunConfig
from whycam.results.explanation import Comparison, Cost, Explanation
from whycam.targets import ResolvedTarget, TargetSpec, key, resolve

ModelLike: TypeAlias = Any  #: a module, a model of another framework, a `VisionModel`, or a spec
MethodLike: TypeAlias = str | Function
Labels: TypeAlias = Sequence[str] | Mapping[int, str]
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
    output: OutputPath | None = None,
    views: Sequence[ViewLike] | None = None,
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
    smoothing: Smoothing | None = None,
    precision: Precision | None = None,
    compile: bool = False,
    budget: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Explanation:
    """Say which locations of the inputs made the model answer as it did.

    Args:
        model: a module, a Keras model, a `VisionModel`, or a spec such as `"builtin"`, `"timm:resnet50"` or
            `"package.module:callable"` (see `whycam.load`). It is left exactly as it is, training mode and gradients
            included.
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
        output: which part of the model's output holds the answer, where the result's notes name the wrong one: a path
            such as `"aux.logits"` or `"[1]"`, or a function output -> `(N, ...)`. What it gives is what `target` reads.
        views: for a network that looks at several pictures, the one that each call of the layer belongs to, in the
            order of the calls: positions or names of inputs (`[1, 0]`, `["left", "right"]`), or tensors
            `(N, C, *spatial)` such as `inputs.unbind(1)`. Left out it is measured, and the result says which it is.
        preprocess: photo -> input, for a module that is asked about photos: a `Preprocess`, any function, or an image
            processor of transformers' or a transform of torchvision's or timm's, which are read as a `Preprocess`.
        labels: the classes' texts by index, as a sequence or a mapping such as `id2label`.
        smoothing: `"augmentations"` averages the maps of the inputs mirrored or not, at 0.9, 1 and 1.1 times their
            strength, each asked about the same target (six times the cost); `"component"` projects a method's weighted
            channels on their first principal component in place of summing them. (pytorch-grad-cam's `aug_smooth` and
            `eigen_smooth`.)
        precision: for methods that run the network many times: let a private copy of it score the variants, made fast
            (normalizations folded, channels last) and in that precision: `"float32"`, `"bfloat16"` or `"float16"`. The
            result's notes say what was used and how far its scores are from the network's own. Left out, the network
            itself runs as it is.
        compile: also compile that copy (`torch.compile`), which takes from seconds to a minute and pays for thousands
            of variants.
        budget: bytes that the variants under way may take; half of the free memory by default.
        progress: say how long work takes, on standard error; by default on terminals and in notebooks.
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
    for name in options.keys() & {"methods", "layers", "targets"}:
        raise WhycamError(f"explain has no {name}=; did you mean {name[:-1]}=? For several use whycam.compare.")
    chosen.check_options(options)
    if fusion is not None:
        fusion = fusions.find(fusion)
        if not isinstance(layer, (list, tuple)) and not (isinstance(layer, str) and is_pattern(layer)):
            raise WhycamError("fusion= joins the maps of several layers, and one came; pass layer= a list or a glob.")
    several = layer if isinstance(layer, (list, tuple)) else [layer]
    made = _compare(
        model,
        inputs,
        [chosen],
        [LayerRequest(tuple(several), fused=layer is not None)],
        [target],
        fusion,
        {chosen.name: options},
        layout,
        output,
        views,
        preprocess,
        labels,
        smoothing,
        _execution(precision, compile, budget, progress),
    )
    return next(iter(made.values()))


def compare(
    model: ModelLike,
    inputs: Any,
    methods: Sequence[MethodLike] | str = ("grad_cam",),
    layers: Sequence[LayerLike] | None = None,
    targets: Sequence[TargetSpec] | None = None,
    *,
    fusion: str | fusions.Fusion | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    layout: Layout | None = None,
    output: OutputPath | None = None,
    views: Sequence[ViewLike] | None = None,
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
    smoothing: Smoothing | None = None,
    precision: Precision | None = None,
    compile: bool = False,
    budget: int | None = None,
    progress: bool | None = None,
) -> Comparison:
    """Explain with several methods, at several layers, for several targets, in one shared pass.

    However many there are, the network runs once forwards, and once backwards for each target down to the earliest
    layer. (Guided backprop needs one more forward and a backward of its own for each target.)

    Args:
        model, inputs, layout, output, views, preprocess, labels: as for `explain`.
        methods: names or functions; `"all"` for every method there is.
        layers: each a layer as for `explain`; a glob is taken apart into its layers, a list is fused with `fusion`.
            `None` chooses, for each method.
        targets: each a target as for `explain`. `None` is each sample's top class.
        options: for each method by name, its options.
        smoothing, precision, compile, budget, progress: as for `explain`.

    Returns:
        A mapping keyed (method, layer, target). Combinations that cannot be are in its `failures`, with the reason.

    Raises:
        WhycamError: a name that does not exist, or nothing at all could be explained.
        PhotoError: a photo that cannot be read.
    """
    chosen = chosen_methods(methods)
    if isinstance(layers, (str, nn.Module)):
        raise WhycamError(f"layers is a list, such as layers=[{layers if isinstance(layers, str) else 'module'!r}].")
    if isinstance(targets, (str, int)):
        raise WhycamError(f"targets is a list, such as targets=[{targets!r}].")
    if not chosen or (layers is not None and not list(layers)) or (targets is not None and not list(targets)):
        raise WhycamError("methods, layers and targets each need at least one entry; leave one out for its default.")
    by_name = options_by_name(options or {}, chosen)
    places = [
        LayerRequest(tuple(each) if isinstance(each, (list, tuple)) else (each,), fused=isinstance(each, (list, tuple)))
        for each in (layers if layers is not None else [None])
    ]
    asked = list(targets) if targets is not None else [None]
    execution = _execution(precision, compile, budget, progress)
    return _compare(
        model,
        inputs,
        chosen,
        places,
        asked,
        fusion,
        by_name,
        layout,
        output,
        views,
        preprocess,
        labels,
        smoothing,
        execution,
    )


def chosen_methods(methods: Sequence[MethodLike] | str) -> list[Method]:
    """The methods that a list of names and functions stands for, each once; `"all"` is every method there is.

    Raises:
        WhycamError: a name that does not exist, or one name alone.
    """
    if isinstance(methods, str):
        if methods != "all":
            raise WhycamError(f"methods is a list, such as methods=[{methods!r}].")
        return list(list_registered().values())
    return list({each.name: each for each in map(find, methods)}.values())


def options_by_name(options: Mapping[str, Mapping[str, Any]], chosen: Sequence[Method]) -> dict[str, dict[str, Any]]:
    """The options of each method by its own name, however it was spelled.

    Raises:
        WhycamError: options of a method that was not asked for, or that it does not have.
    """
    own = {each.name for each in chosen}  # a function of the caller's is in no table
    by_name = {name if name in own else find(name).name: dict(values) for name, values in options.items()}
    for name, values in by_name.items():
        matching = [each for each in chosen if each.name == name]
        if not matching:
            raise WhycamError(f"options came for {name!r}, which is not among the methods.")
        matching[0].check_options(values)
    return by_name


def _execution(precision: Precision | None, compile: bool, budget: int | None, progress: bool | None) -> RunConfig:
    known = get_args(Precision)
    if precision is not None and precision not in known:
        raise WhycamError(f"precision must be one of {', '.join(map(repr, known))}, or left out; not {precision!r}.")
    if compile and precision is None:
        raise WhycamError('compile=True compiles a fast copy of the network; say its precision=, such as "float32".')
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int) or budget < 1):
        raise WhycamError(f"budget is a number of bytes, such as 2 * 2**30, not {budget!r}.")
    return RunConfig(precision, compile, budget, Progress(progress))


def _compare(
    model: ModelLike,
    inputs: Any,
    methods: Sequence[Method],
    places: Sequence[LayerRequest],
    targets: Sequence[TargetSpec],
    fusion: str | fusions.Fusion | None,
    options: Mapping[str, Mapping[str, Any]],
    layout: Layout | None,
    output: OutputPath | None,
    views: Sequence[ViewLike] | None,
    preprocess: PreprocessLike | None,
    labels: Labels | None,
    smoothing: Smoothing | None,
    execution: RunConfig,
) -> Comparison:
    started = time.perf_counter()
    if fusion is not None:
        fusion = fusions.find(fusion)
    check_smoothing(smoothing)
    if execution.precision is not None and not any(method.needs & {"score", "score_from"} for method in methods):
        raise WhycamError(
            f"precision= is for methods that score variants, such as score_cam; {methods[0].title} scores none and "
            "runs the network as it is. Leave precision out."
        )
    vision = as_vision_model(model, preprocess, labels)
    module = unwrapped(vision.module)
    refuse_scripted(module)
    refuse_lazy(module)
    if views is not None and not any(method.has_layer for method in methods):
        raise WhycamError(f"{methods[0].title} works at the (first) input and at no layer. Leave views out.")
    batch = make_batch(vision, inputs, views)
    if preprocess is not None and batch.context.photos is None:
        raise WhycamError("preprocess= is for photos, and a ready batch came; leave it out, or pass the photos.")
    resolvers: list[Resolve] = [
        OutputSelector(partial(resolve, spec, labels=vision.labels), output) for spec in targets
    ]
    plans, choosing = plan(module, batch, methods, places, resolvers)
    automatic = any(each.choice is not None for several in plans.values() for each in several)
    extra = fusion_needs(methods, plans, fusion)
    measured = measure(module, batch, methods, plans, resolvers, layout, must_depend=not automatic, extra=extra)
    if automatic:
        corrected, spent = correct(module, batch, methods, plans, measured, resolvers)
        choosing = choosing.plus(*spent)
        if corrected != plans or measured.disconnected:
            choosing = choosing.plus(*measured.passes)
            plans, measured = corrected, measure(module, batch, methods, corrected, resolvers, layout, extra=extra)
    choosing = choosing.plus(measured.looking)
    passes = measured.passes.plus(*choosing)
    maker = MapBuilder(vision, module, batch, measured, fusion, options, output, execution, smoothing)
    if smoothing == "augmentations":
        settled: list[Resolve] = [OutputSelector(_always(bound), output) for bound in measured.any.targets]
        for augmentation in augmentations(len(batch.context.size)):
            picture = augmentation.transform(batch.context.inputs)
            if torch.equal(picture, batch.context.inputs):
                continue  # which is measured
            changed = batch.with_picture(picture)
            again = measure(module, changed, methods, plans, settled, layout, must_depend=False, extra=extra)
            passes = passes.plus(*again.passes)
            maker.augment(augmentation, changed, again)
    for method in methods:
        for each in plans[method.name]:
            for number, spec in enumerate(targets if method.class_specific else [None]):
                maker.make(method, each, number, key(spec))
    if maker.bad_samples_unexplained():
        passes = passes.plus(1)
        maker.explain_non_finite(first_non_finite(module, batch.inputs))
    passes = passes.plus(sum(each.forwards for each in maker.spent), sum(each.backwards for each in maker.spent))
    parts = sum(each.parts for each in maker.spent)
    cost = Cost(*passes, time.perf_counter() - started, choosing.forwards, parts)
    if not maker.explanations:
        raise WhycamError(next(iter(maker.failures.values())))
    finished = {name: replace(each, cost=cost) for name, each in maker.explanations.items()}
    return Comparison(finished, maker.failures, cost)


def as_vision_model(
    model: ModelLike, preprocess: PreprocessLike | None = None, labels: Labels | None = None
) -> VisionModel:
    """Whatever a caller may pass as `model`, with what the caller says of its preprocessing and labels."""
    vision = load(model) if isinstance(model, str) else model if isinstance(model, VisionModel) else adopted(model)
    if vision is None and isinstance(model, nn.Module):
        inner = unwrapped(model)
        vision = replace(from_module(inner, type(inner).__name__), module=model)
    if vision is None:
        raise WhycamError(
            f"model must be a torch.nn.Module, a Keras model, a VisionModel or a spec such as 'builtin', not "
            f"{type(model).__name__}." + what_instead(model)
        )
    if preprocess is not None:
        vision = replace(vision, preprocess=preprocess, preprocess_note="")
    if labels is not None:
        vision = replace(vision, labels=as_labels(labels))
    return vision


def _always(target: ResolvedTarget) -> Resolve:
    return lambda _: target
