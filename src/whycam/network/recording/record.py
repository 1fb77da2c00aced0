"""One pass over a network, kept as plain tensors.

One forward serves every layer and every target; one backward is made per target, from the score to the earliest
recorded layer and no further. The forward runs with gradients off until the first recorded layer, so nothing is kept
for the part of the network below it, and no parameter's gradient is ever computed.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn

from whycam.errors import InputError, NoGradient, WhycamError
from whycam.kit.arrays import wide
from whycam.network.attention.folding import Folded, Folding
from whycam.network.checkpointing import asks_for_a_start, hidden, recomputed
from whycam.network.hooks import Inputs as Inputs
from whycam.network.hooks import call as call
from whycam.network.hooks import watching as watching
from whycam.network.input_axes import shape_of
from whycam.network.layer_refs import LayerRef
from whycam.network.layouts import ChannelsFirst, Layout, Scales, check_fits, infer_layout
from whycam.network.model_tree import tree_of
from whycam.network.preserve_state import as_found
from whycam.network.pytree import detached_copy, first_tensor
from whycam.network.recording.forward import INPUT, Answer, Attempt, Forward, Gradients, Pass
from whycam.network.recording.forward import Resolve as Resolve
from whycam.network.recording.graph_breaks import Trail, follow
from whycam.network.recording.partial_forward import Before
from whycam.network.recording.recurrent import differentiable
from whycam.network.recording.relevance import Relevance
from whycam.network.recording.views import Seen, View, arranged, seen
from whycam.network.token_metadata import token_claim
from whycam.network.unwrap import eager, refuse_scripted, unwrapped
from whycam.targets import ResolvedTarget

#: The records of a pass, the pass and what its blocks returned -> for each target, the gradient of a score at each of
#: these, and how many forwards it took.
Tails: TypeAlias = Callable[
    [Mapping[LayerRef, "LayerRecord"], Attempt, Mapping[int, Tensor]], tuple[Sequence[Mapping[int, Tensor]], int]
]


@dataclass(frozen=True)
class LayerRecord:
    """What one layer did in one pass, in maps layout, float32 at least.

    Attributes:
        tap: the place, with the call that was recorded.
        calls: how often the batch passed through the module.
        shape: the shape that the layer returned, before the layout.
        activations: `(batch, channel, *spatial)`.
        gradients: one for each target, same shape; `None` where the score does not depend on the layer.
        outside: for each target, whether gradient reached the layer's prefix tokens, which no map shows.
        about: what is ambiguous about the pass, in words: which call it is, which of several pictures it looks at.
        picture: the picture it looks at, `(batch, channel, *space)`, where the network is given several.
        refusal: why no map can be made of it, if so.
        number: which of the module's passes this is.
        rows: where the samples lie among the rows of all of the module's calls, where these are no samples.
        before: what had been computed by then, where it was asked for: what the network can be resumed from.
    """

    tap: LayerRef
    calls: int
    shape: tuple[int, ...]
    layout: Layout
    activations: Tensor
    gradients: tuple[Tensor | None, ...] = ()
    outside: tuple[bool, ...] = ()
    about: str = ""
    picture: Tensor | None = None
    refusal: str = ""
    number: int = 0
    rows: Tensor | None = None
    before: Before | None = None

    @property
    def scales(self) -> list["LayerRecord"]:
        """The record of each grid where several lie in one axis of tokens, else the record itself."""
        if not isinstance(self.layout, Scales):
            return [self]
        made = []
        for each in self.layout.parts:
            gradients = [None if gradient is None else each.to_maps(gradient.mT) for gradient in self.gradients]
            activations = each.to_maps(self.activations.mT)
            made.append(replace(self, layout=each, activations=activations, gradients=tuple(gradients)))
        return made


@dataclass(frozen=True)
class Recording:
    """One pass over a network.

    Attributes:
        layers: the records, by the tap that was asked for.
        output: the model's answer, `(batch, ...)`, detached, float32 at least; `answer` is what is known of it.
        targets: the targets as settled on this output; `scores` their values, `(batch,)` each.
        input_gradients: one for each target, where asked; for several inputs, of the first.
        forwards, backwards: passes made.
        left: activations that are no ReLUs and stay as they are, where ReLUs are guided; functions without a rule,
            where relevance of attention was asked for.
        folded: what was made of each block's attention, by fold, for each target.
        projections: weight and bias of the linear layer behind each attention, by its number.
        block_outputs: what the blocks returned that were asked for, by the number of their attention.
    """

    layers: Mapping[LayerRef, LayerRecord]
    output: Tensor
    answer: Answer
    targets: tuple[ResolvedTarget, ...]
    scores: tuple[Tensor, ...]
    input_gradients: tuple[Tensor, ...] = ()
    forwards: int = 1
    backwards: int = 0
    left: tuple[str, ...] = ()
    folded: Mapping[str, tuple[Folded, ...]] = field(default_factory=dict)
    projections: Mapping[int, tuple[Tensor, Tensor | None]] = field(default_factory=dict)
    block_outputs: Mapping[int, Tensor] = field(default_factory=dict)


def record(
    model: nn.Module,
    inputs: Inputs,
    taps: Sequence[LayerRef],
    resolvers: Sequence[Resolve],
    *,
    gradients: bool = True,
    input_gradients: bool = False,
    guided: bool = False,
    layouts: Mapping[LayerRef, Layout] | None = None,
    must_depend: bool = True,
    views: Sequence[View] | None = None,
    resume: bool = False,
    folding: Folding | None = None,
    tails: Tails | None = None,
    relevance: Relevance | None = None,
) -> Recording:
    """Run the network once and keep what the layers did.

    Args:
        taps: places to record; `#*` is expanded to one record per call.
        resolvers: one for each target: the model's answer -> a resolved target. An `OutputSelector` says which part of
            the output.
        gradients: whether to measure the gradient of each target's score at each layer.
        input_gradients: whether to measure it at the (first) input.
        guided: let every ReLU pass positive gradients only (guided backprop).
        layouts: how to read a layer's output, where it should not be inferred.
        must_depend: whether it is an error when no score depends on any recorded layer.
        resume: keep what is needed to run only what comes after each layer (`partial_forward`).
        views: the picture that each pass of the batch through a layer looks at, where that should not be measured.
        folding: what is made of the attentions of the pass.
        tails: where the graph is cut behind each block: gradients from which each block's own backward starts.
        relevance: the rules by which gradients, times values, are relevance; with `input_gradients` at layers, too, for
            what depends on the input is followed from there.

    Raises:
        WhycamError: a layer that did not run or has no spatial axes, a score that depends on no recorded layer, or the
            top class of an output that is known to be an embedding.
    """
    model = unwrapped(model)
    for tap in taps:
        refuse_scripted(tree_of(model).module(tap.module))
    wants = bool(taps) and (gradients or (folding is not None and folding.differentiates))
    run = Forward(
        model,
        taps,
        resolvers,
        want_gradients=wants,
        guided=guided,
        resume=resume,
        folding=folding,
        relevance=relevance,
    )
    around = differentiable(model) if wants or input_gradients else nullcontext()
    with as_found(model), eager(model), around:
        given = detached_copy(inputs)
        leaf = first_tensor(given)
        if input_gradients and not leaf.is_floating_point():
            raise InputError(f"the first input has dtype {leaf.dtype}; gradients need a floating-point input.")
        forwards = 0
        attempt: Attempt | None = None
        # Gradients are off until the first recorded layer turns them on, which some models do not bear: one may turn
        # them off again behind it, write to a view made before it, or compute a part once more in the backward pass.
        # With gradients on from the start a block that turned them off puts them back. The second forward is counted in
        # `forwards`.
        for from_start in (False, True)[input_gradients:]:
            leaf.requires_grad_(from_start and leaf.is_floating_point())
            forwards += 1
            try:
                attempt = run.attempt(given, leaf if input_gradients else None, from_start=from_start)
            except RuntimeError as error:
                if why := recomputed(error):
                    raise WhycamError(why) from error
                if from_start or not asks_for_a_start(error):
                    raise
                continue
            if not attempt.cut:
                break
        assert attempt is not None  # the last attempt either ended or raised
        if attempt.cut and (why := hidden(attempt.scores, run.off)):
            raise NoGradient(why)
        asked = (wants or input_gradients) and must_depend
        if asked and attempt.disconnected and not all(target.idle for target in attempt.targets):
            raise NoGradient(_disconnected(run, given))
        rows = arranged(run, attempt)
        looks, looking = seen(model, inputs, attempt.passes, rows, views)
        found = attempt.found if wants else []
        layers = {
            each.asked: _record(run, each, found, rows.get(each.where), looks.get(each), leaf, layouts or {})
            for each in attempt.passes
        }
        if folding is not None and tails is not None:
            slopes, spent = tails(layers, attempt, folding.returned)
            forwards += spent
            for number, each in enumerate(slopes, 1):
                folding.backward(each, keep=number < len(slopes))
                run.backwards += 1
        return Recording(
            layers=layers,
            output=wide(attempt.output.detach()),
            answer=attempt.answer,
            targets=attempt.targets,
            scores=tuple([wide(score.detach()) for score in attempt.scores]),
            input_gradients=tuple(
                wide(gradient if (gradient := row[INPUT]) is not None else torch.zeros_like(leaf)).detach()
                for row in attempt.found
            )
            if input_gradients
            else (),
            forwards=forwards + attempt.repeated + looking,
            backwards=run.backwards,
            left=tuple(run.left),
            block_outputs=folding.outputs if folding is not None else {},
            projections=folding.projections() if folding is not None else {},
            folded=folding.results() if folding is not None else {},
        )


def _record(
    run: Forward,
    each: Pass,
    found: Sequence[Gradients],
    rows: Tensor | None,
    look: Seen | None,
    leaf: Tensor,
    layouts: Mapping[LayerRef, Layout],
) -> LayerRecord:
    """What one pass did, in maps layout; or why that cannot be told."""

    tensor = run.joined(each, {one: run.tensor(one).detach() for one in each.calls})
    if tensor.is_inference():
        tensor = tensor.clone()
    raw = tuple([run.joined(each, row) if run.depends(each, row) else None for row in found])
    if each.odd and rows is not None:  # of all calls those rows that are the pass's
        mine = rows[each.number]
        tensor, raw = tensor[mine], tuple([None if gradient is None else gradient[mine] for gradient in raw])
    if refusal := _refusal(run, each, rows, look):
        outside = (False,) * len(raw)
        return LayerRecord(
            each.tap, each.count, tuple(tensor.shape), ChannelsFirst(), tensor, raw, outside, refusal=refusal
        )
    assert look is not None  # else it was refused
    picture = tuple(look.view.picture.shape) if look.view is not None else shape_of(run.model, leaf)
    owner = f"layer {str(each.asked)!r}"
    layout = layouts.get(each.asked) or (layouts.get(each.asked.at("all")) if layouts else None)
    if layout is None and each.count > 1 and run.scales(each.where):
        layout = ChannelsFirst()  # the coarsest scale may be one location
    if layout is None:
        claim = token_claim(run.model, picture) if tensor.ndim == 3 else None
        layout = infer_layout(tensor.shape, picture, owner, claim)
    else:
        check_fits(layout, tensor.shape, owner)
    gradients, beside = [], []
    for gradient in raw:
        maps = None if gradient is None else wide(layout.to_maps(gradient))
        gradients.append(maps)
        beside.append(
            gradient is not None
            and maps is not None
            and maps.numel() < gradient.numel()
            and not bool(maps.any())
            and bool(gradient.any())
        )
    return LayerRecord(
        each.tap,
        each.count,
        tuple(tensor.shape),
        layout,
        wide(layout.to_maps(tensor)),
        tuple(gradients),
        tuple(beside),
        about="; ".join(filter(None, (_which(run, each) if each.odd or each.count > 1 else "", look.about))),
        picture=look.view.picture if look.view is not None else None,
        number=each.number,
        rows=rows[each.number] if each.odd and rows is not None else None,
        before=run.watch.before(each.tap, each.number) if run.watch is not None and not each.odd else None,
    )


def _which(run: Forward, each: Pass) -> str:
    """Which of several passes this is, in words."""
    module = repr(each.tap.module)
    if each.odd and each.count == 1:
        return f"{module} ran {len(each.calls)} times on parts of the batch, put together in the order of the samples"
    if each.odd and len(each.calls) != each.count:
        return f"{module} is given {each.count} views of each sample, and this is #{each.number} (choose with '#')"
    if each.count > 1:
        return f"{module} ran {each.count} times and this is call #{each.number} (choose with '#')"
    return ""


def _refusal(run: Forward, each: Pass, rows: Tensor | None, look: Seen | None) -> str:
    """Why no map can be made of a pass, empty if one can."""
    returned = sum(run.rows[each.where]) if each.odd else run.tensor(each.calls[0]).shape[0]
    if returned == run.samples and not each.odd and look is not None:
        return ""
    start = f"layer {str(each.tap)!r} returned {returned} samples where the model answers for {run.samples}"
    if returned != run.samples and not each.odd:
        return f"{start}; choose a layer that is given the whole batch at once."
    if each.odd and rows is None:
        return f"{start}, and which belong to which cannot be told by gradients; choose another layer."
    if look is None:
        return (
            f"{start}: {each.count} of each, and which pictures they are cannot be told. Choose a layer outside of "
            f"windows, or pass the pictures as views=, one for each of the {each.count}."
            if each.odd
            else f"the batch passes {each.count} times through layer {str(each.asked)!r}, and another number of views "
            "came; pass one for each of its passes as views=, or leave views out."
        )
    return ""


def _disconnected(run: Forward, inputs: Inputs) -> str:
    """Why no score depends on any layer: what cuts the gradient off, found by one more forward."""
    names = ", ".join(repr(str(tap)) for tap in run.taps) or "the input"
    start = f"the score does not depend on {names}"
    try:
        samples = len(first_tensor(inputs))
        trail = follow(run.model, inputs, run.taps[0] if run.taps else None, lambda out: run.read(out, samples)[1])
    except Exception:  # the reason is worth a pass, but no other error
        trail = Trail(arrives=False, cuts=())
    if trail.arrives:
        return (
            f"{start}, although the model's answer does: the target cuts the gradient (detach, argmax, conversion to "
            "numpy), or reads another part of the answer."
        )
    if trail.whole and callable(run.part):
        return (
            f"{start}, although the model's output does: the function passed as output= cuts the gradient (detach, "
            "argmax, conversion to numpy), or reads a part of the output that does not depend on it."
        )
    if trail.cuts:
        return (
            f"{start}: the gradient ends at {trail.cuts[0]}. Choose a layer behind that, let gradients through there, "
            "or use a method that needs none, such as eigen_cam."
        )
    return (
        f"{start}: it comes after or beside what the score is computed from. Choose a layer between the input and the "
        "output it explains."
    )
