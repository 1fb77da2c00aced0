"""One network, and what is asked of it: inputs in, one recording, explanations out."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from whycam.engine.attention import follows_tokens
from whycam.engine.inputs import Batch, make_batch, with_first
from whycam.engine.layer_plan import Passes
from whycam.engine.maps import MapBuilder, plainly
from whycam.engine.measure import Ground, Measured, fusion_needs, ground, measure
from whycam.engine.request import Request
from whycam.engine.tiles import each_tile, stitched, whole_or_each
from whycam.errors import WhycamError
from whycam.kit.registry import find
from whycam.models.vision_model import VisionModel
from whycam.network.cache import forget
from whycam.network.diagnosis.non_finite import first_non_finite
from whycam.network.hooks import call
from whycam.network.model_tree import ModelTree, working_with
from whycam.network.outputs import OutputSelector
from whycam.network.preserve_state import as_found
from whycam.network.recording.record import Resolve
from whycam.network.two_towers import logit_scale, text_vectors
from whycam.network.unwrap import eager, refuse_lazy, refuse_scripted, unwrapped
from whycam.results.explanation import Comparison
from whycam.results.values import Cost
from whycam.targets import ResolvedTarget, TargetSpec, key, resolve
from whycam.targets.boxes import Box
from whycam.targets.outputs import embedding, is_detector
from whycam.targets.structured import Asking, OutputTarget, Settling, for_each_sample

#: The method for classes of a network whose tokens attend to each other from block to block, and why.
OF_TRANSFORMERS = "generic_attention"
EVIDENCE = "peaked on known causes more often than Grad-CAM in two small trained transformers (docs/benchmarks.md)"


class Session:
    """A network with its preprocessing and labels, ready to be asked.

    Attributes:
        vision: the network as it was given, with its preprocessing and labels.
        module: the plain module inside, which is run.
    """

    def __init__(self, vision: VisionModel) -> None:
        self.vision = vision
        self.module = unwrapped(vision.module)
        self._tree = ModelTree(self.module)

    def __reduce__(self) -> tuple[type["Session"], tuple[VisionModel]]:
        """What is known about the network is found out anew where it is unpickled."""
        return Session, (self.vision,)

    def batch(self, inputs: Any, request: Request | None = None) -> Batch:
        """The inputs as the network takes them."""
        refuse_scripted(self.module)
        refuse_lazy(self.module)
        if request is not None and request.picture is not None:
            inputs = with_first(self.module, inputs, request.picture)
        return make_batch(self.vision, inputs, request.views if request is not None else None)

    def tree(self) -> AbstractContextManager[None]:
        """A block in which nobody walks the network's modules anew. A network that changed is walked once more."""
        if not self._tree.unchanged():
            self._tree = ModelTree(self.module)
        return working_with(self._tree)

    def refresh(self) -> None:
        """Forget what is known about the network, and walk its modules anew."""
        self._tree = ModelTree(self.module)
        forget(self.module)

    def resolvers(self, request: Request, batch: Batch) -> list[Resolve]:
        """For each target of a request, what settles it on the network's output."""
        labels = self.vision.labels
        if True not in [method.class_specific for method in request.methods]:
            return [OutputSelector(partial(_any, labels=labels), request.output, len(labels or ()), optional=True)]
        return [
            OutputSelector(
                partial(resolve, target, labels=labels),
                request.output,
                len(labels or ()),
                target if callable(target) else None,
                settling=self._settling(target, batch),
            )
            for target in request.targets
        ]

    @cached_property
    def _finds_boxes(self) -> bool:
        return is_detector(self.module)

    def usual_method(self, target: TargetSpec) -> str:
        """The method where none is named and the network has none of its own (`with_usual`)."""
        first = target[0] if isinstance(target, (list, tuple)) and target else target
        kind = Box if first is None and self._finds_boxes else first
        return str(getattr(kind, "usual_method", "grad_cam"))

    def with_usual(self, batch: Batch, request: Request) -> tuple[Request, Passes, str]:
        """The request with the method that is usual for the network, the passes that it took to know, and a note."""
        if not request.open or (self._finds_boxes and None in request.targets):
            return request, Passes(), ""
        tokens, forwards = follows_tokens(self.module, batch.inputs)
        if not tokens:
            return request, Passes(forwards), ""
        method = find(OF_TRANSFORMERS)
        said = f"no method was named, and tokens attend to each other in all blocks: {method.title}, which {EVIDENCE}"
        return replace(request, methods=(method,), options={}), Passes(forwards), said

    def _settling(self, target: TargetSpec, batch: Batch) -> Settling | None:
        """A target of the whole output, with what it has to know of the inputs; `None` for any other."""
        if target is None and self._finds_boxes:
            target = Box(0)
        if isinstance(target, (list, tuple)) and target and all(isinstance(each, OutputTarget) for each in target):
            target = for_each_sample(target)
        if not isinstance(target, OutputTarget):
            return None
        asking = Asking(
            self._embed, self._embed_texts, logit_scale(self.module), lambda: self.vision.tokenizer(), batch.inputs
        )
        return Settling(target.prepared(asking), self.vision.labels, batch.context.geometries)

    def _embed(self, inputs: Any) -> Tensor:
        """The network's vectors of other inputs, such as a reference photo."""
        batch = self.batch(inputs)
        with as_found(self.module), eager(self.module):
            return embedding(call(self.module, batch.inputs)).detach()

    def _embed_texts(self, texts: Sequence[Any], tokenizer: Any) -> Tensor:
        """The vectors of texts by the network's own tower."""
        with as_found(self.module), eager(self.module):
            return text_vectors(self.module, texts, tokenizer)

    def ground(self, batch: Batch, request: Request) -> Ground:
        """What the methods of a request read, measured."""
        resolvers = self.resolvers(request, batch)
        return (ground if request.tiles is None else stitched)(self.module, batch, request, resolvers)

    def run(self, batch: Batch, request: Request) -> Comparison:
        """Every combination that is asked for, from one recording.

        Raises:
            WhycamError: nothing at all could be explained.
        """
        started = time.perf_counter()
        request, looked, said = self.with_usual(batch, request)
        tiles = request.tiles
        if tiles is not None and whole_or_each(tiles, request, self.resolvers(request, batch)) == "each":
            return each_tile(lambda tile: self.run(tile, replace(request, tiles=None)), batch, tiles)
        found = self.ground(batch, request)
        plans, measured = found.plans, found.measured
        choosing = found.choosing.plus(*looked) if looked.forwards else found.choosing
        passes = measured.passes.plus(*choosing)
        maker = MapBuilder(self.vision, self.module, batch, measured, request)
        if said or request.said:
            maker.notes = (*filter(None, (said, request.said)), *maker.notes)
        if request.smooth.usual or request.smooth.own or request.smooth.path:
            passes = self._augment(maker, batch, request, found, passes)
        keys = target_keys(request, measured)
        with plainly(batch.context.inputs.device):
            for method in request.methods:
                for each in plans[method.name]:
                    for number, name in enumerate(keys if method.class_specific else [None]):
                        if maker.drafts:  # between maps
                            request.run.progress.tick()
                        maker.make(method, each, number, name)
        if maker.bad_samples_unexplained():
            passes = passes.plus(1)
            maker.explain_non_finite(first_non_finite(self.module, batch.inputs))
        for spent in maker.spent:
            passes = passes.plus(spent.forwards, spent.backwards)
        if not maker.drafts:
            raise next(iter(maker.failures.values()))
        parts = sum([spent.parts for spent in maker.spent])
        cost = Cost(*passes, time.perf_counter() - started, choosing.forwards, parts)
        failures = {name: str(error) for name, error in maker.failures.items()}
        return Comparison(maker.explanations(cost), failures, cost)

    def _augment(self, maker: MapBuilder, batch: Batch, request: Request, found: Ground, passes: Passes) -> Passes:
        """Measure the augmented inputs too, for the same targets; the passes with those that it took."""
        known = found.measured.any
        same = settled(found.measured)
        extra = fusion_needs(request.methods, found.plans, request.fusion)
        space = batch.context.space or range(2, batch.context.inputs.ndim)
        probe = torch.arange(4.0 ** len(space)).reshape(1, *[4] * len(space))
        placed, left_out = any(each.placed for each in known.targets), []
        for augmentation in request.smooth.augmentations(space):
            request.run.progress.tick()
            picture = augmentation.transform(batch.context.inputs)
            if torch.equal(picture, batch.context.inputs):
                continue  # which is measured
            if placed and not torch.equal(augmentation.inverse(probe), probe):
                left_out.append(augmentation.name)
                continue
            changed = batch.with_picture(picture)
            again = measure(
                self.module,
                changed,
                request.methods,
                found.plans,
                same,
                request.layout,
                must_depend=False,
                extra=extra,
                attentions=found.measured.attentions,
            )
            passes = passes.plus(*again.passes)
            maker.augment(augmentation, changed, again)
        if left_out:
            what = "left out, since what is explained has a place that would not move along"
            maker.notes = (*maker.notes, f"augmentations {what}: {'; '.join(left_out)}")
        return passes


def target_keys(request: Request, measured: Measured) -> list[Any]:
    """What each target of a recording is called in a `Comparison`."""
    resolved = measured.any.targets  # more than were asked for where one stands for several
    specs = request.targets if len(resolved) == len(request.targets) else [None] * len(resolved)
    return [
        key(spec) if each.key is None or not (spec is None or getattr(spec, "several", False)) else each.key
        for each, spec in zip(resolved, specs, strict=True)
    ]  # by what the caller holds: a target that asked the network first is a copy


def settled(measured: Measured) -> list[OutputSelector]:
    """What asks the same targets of another pass, whatever it answers."""
    known = measured.any
    return [OutputSelector(_always(each), known.answer.part) for each in known.targets]


def _always(target: ResolvedTarget) -> Callable[..., ResolvedTarget]:
    return lambda *_, **__: target


def _any(output: Tensor, labels: Sequence[str] | None, *, probability: bool = False) -> ResolvedTarget:
    """Each sample's top class where the output has classes, for methods that explain none; else no score."""
    try:
        return replace(resolve(None, output, labels, probability=probability), by_output=False)
    except WhycamError:
        return ResolvedTarget(lambda output: output.new_full((len(output),), torch.nan), ("",) * len(output))
