"""One pass over a network, kept as plain tensors.

One forward serves every layer and every target; one backward is made per target, from the score to the earliest
recorded layer and no further. The forward runs with gradients off until the first recorded layer, so nothing is kept
for the part of the network below it, and no parameter's gradient is ever computed.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from whycam.arrays import wide
from whycam.errors import WhycamError
from whycam.network.cuts import Trail, follow
from whycam.network.eager import eager, refuse_scripted, unwrapped
from whycam.network.guard import as_found
from whycam.network.guided import guided_relu
from whycam.network.layouts import Layout, check_fits, infer_layout
from whycam.network.metadata import token_claim
from whycam.network.outputs import Part, Question, embedding, number_of_classes, read
from whycam.network.running import Inputs as Inputs
from whycam.network.running import call as call
from whycam.network.running import watching as watching
from whycam.network.structures import detached_copy, first_tensor, mapped, only_tensor, replaced, storage_of, tensors
from whycam.network.taps import Tap
from whycam.targets import Bound

Bind: TypeAlias = Callable[[Tensor], Bound]


@dataclass(frozen=True)
class LayerRecord:
    """What one layer did in one pass, in maps layout, float32 at least.

    Attributes:
        tap: the place, with the call that was recorded.
        calls: how often the module ran.
        shape: the shape that the layer returned, before the layout.
        activations: `(batch, channel, *spatial)`.
        gradients: one for each target, same shape; `None` where the score does not depend on the layer.
        outside: for each target, whether gradient reached the layer's prefix tokens, which no map shows.
    """

    tap: Tap
    calls: int
    shape: tuple[int, ...]
    layout: Layout
    activations: Tensor
    gradients: tuple[Tensor | None, ...] = ()
    outside: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Recording:
    """One pass over a network.

    Attributes:
        layers: the records, by the tap that was asked for.
        output: the model's answer, `(batch, ...)`, detached, float32 at least; `output_name` says where it was found.
        targets: the targets as settled on this output; `scores` their values, `(batch,)` each.
        input_gradients: one for each target, where asked; for several inputs, of the first.
        forwards, backwards: passes made.
    """

    layers: Mapping[Tap, LayerRecord]
    output: Tensor
    output_name: str
    targets: tuple[Bound, ...]
    scores: tuple[Tensor, ...]
    input_gradients: tuple[Tensor, ...] = ()
    forwards: int = 1
    backwards: int = 0


def record(
    model: nn.Module,
    inputs: Inputs,
    taps: Sequence[Tap],
    binds: Sequence[Bind],
    *,
    gradients: bool = True,
    input_gradients: bool = False,
    guided: bool = False,
    layouts: Mapping[Tap, Layout] | None = None,
    must_depend: bool = True,
) -> Recording:
    """Run the network once and keep what the layers did.

    Args:
        taps: places to record; `#*` is expanded to one record per call.
        binds: one for each target: the model's answer -> a settled target. A `Question` says which part of the output.
        gradients: whether to measure the gradient of each target's score at each layer.
        input_gradients: whether to measure it at the (first) input.
        guided: let every ReLU pass positive gradients only (guided backprop).
        layouts: how to read a layer's output, where it should not be inferred.
        must_depend: whether it is an error when no score depends on any recorded layer.

    Raises:
        WhycamError: a layer that did not run or has no spatial axes, a score that depends on no recorded layer, or the
            top class of an output that is known to be an embedding.
    """
    model = unwrapped(model)
    for tap in taps:
        refuse_scripted(model.get_submodule(tap.module))
    part = next((each.part for each in binds if isinstance(each, Question)), None)
    run = _Run(model, taps, part, want_gradients=gradients and bool(taps))
    with as_found(model), eager(model):
        given = detached_copy(inputs)
        leaf = first_tensor(given)
        if input_gradients:
            if not leaf.is_floating_point():
                raise WhycamError(f"the first input has dtype {leaf.dtype}; gradients need a floating-point input.")
            leaf.requires_grad_()
        wants = (gradients and bool(taps)) or input_gradients
        forwards = backwards = 0
        found: list[list[Tensor | None]] | None = None
        # Gradients are off until the first recorded layer turns them on, which some models do not bear: one may turn
        # them off again behind it, or write to a view made before it. With gradients on from the start a block that
        # turned them off puts them back; it costs a second forward, which the recording owns up to.
        for from_start in (False, True)[input_gradients:]:
            leaf.requires_grad_(from_start and leaf.is_floating_point())
            forwards += 1
            try:
                output, name = run.forward(given, from_start=from_start, guided=guided)
            except RuntimeError as error:
                if from_start or "A view was created in no_grad mode" not in str(error):
                    raise
                continue
            targets = tuple(bind(output.detach()) for bind in binds)
            _refuse_embedding(model, output, name, targets)
            scores, found = _differentiate(run, output, targets, leaf if input_gradients else None, wants)
            backwards += len(binds) if wants else 0
            if not wants or not run.cut(found):
                break
        assert found is not None  # the last pass either ended or raised
        if wants and must_depend and all(gradient is None for row in found for gradient in row):
            raise WhycamError(_disconnected(run, given))
        return Recording(
            layers=run.records(found, leaf.shape, layouts or {}),
            output=wide(output.detach()),
            output_name=name,
            targets=targets,
            scores=tuple(wide(score.detach()) for score in scores),
            input_gradients=tuple(
                wide(row[-1] if row[-1] is not None else torch.zeros_like(leaf)).detach() for row in found
            )
            if input_gradients
            else (),
            forwards=forwards,
            backwards=backwards,
        )


class _Run:
    """The forward passes of one recording, and what its hooks kept. Lives inside `record` only."""

    def __init__(self, model: nn.Module, taps: Sequence[Tap], part: Part | None, *, want_gradients: bool) -> None:
        self.model = model
        self.taps = taps
        self.part = part
        self.want_gradients = want_gradients
        self.kept: dict[tuple[str, str], dict[int, Tensor]] = {}
        self.calls: Counter[tuple[str, str]] = Counter()

    def forward(self, inputs: Inputs, *, from_start: bool, guided: bool) -> tuple[Tensor, str]:
        self.kept, self.calls = {}, Counter()
        with ExitStack() as stack:
            for module, side in dict.fromkeys((tap.module, tap.side) for tap in self.taps):
                self.kept[module, side] = {}
                stack.enter_context(
                    watching(
                        self.model.get_submodule(module),
                        side,
                        partial(self._keep, (module, side)),
                    )
                )
            if guided:
                stack.enter_context(guided_relu())
            torch.set_grad_enabled(from_start)  # put back by the guard around this pass
            try:
                # a model may write to what it is given
                output = call(self.model, mapped(inputs, torch.clone))
            except RuntimeError as error:
                if "Inference tensors cannot be saved" in str(error):
                    raise WhycamError(
                        "the model's parameters were created inside torch.inference_mode(), which forbids gradients "
                        "for good; build or load the model outside of it."
                    ) from error
                raise
        for tap in self.taps:
            if not self.calls[tap.module, tap.side]:
                raise WhycamError(
                    f"layer {str(tap)!r} did not run in this forward pass; choose one that does (`whycam layers`)."
                )
        name, tensor = self.read(output, len(first_tensor(inputs)))
        torch.set_grad_enabled(True)
        return wide(tensor), name

    def read(self, output: Any, samples: int) -> tuple[str, Tensor]:
        """The part of the output that is explained, and where it was found."""
        return read(output, self.part, samples, number_of_classes(self.model))

    def _keep(self, where: tuple[str, str], result: Any, given: Any) -> Any:
        number = self.calls[where]
        self.calls[where] += 1
        wanted = [tap.call for tap in self.taps if (tap.module, tap.side) == where]
        if all(isinstance(each, int) and 0 <= each != number for each in wanted):
            return None  # how many calls are to come is not known yet, so calls counted from the end are all kept
        if all(each == "last" for each in wanted):
            self.kept[where].clear()
        owner = f"the {where[1]} of layer {where[0]!r}"
        try:
            path, tensor = only_tensor(result, owner)
        except TypeError as error:
            raise WhycamError(str(error)) from None
        if self.want_gradients:
            torch.set_grad_enabled(True)
            kept = tensor if tensor.requires_grad else tensor.detach()
        else:
            kept = tensor.detach()
        shared = storage_of(tensor)
        if any(storage_of(other) == shared for _, other in tensors(given)):
            kept = kept.clone()  # the caller of the layer still holds this memory and may write to it
        if self.want_gradients and not kept.requires_grad:
            kept = kept.detach().requires_grad_()  # the graph starts here
        self.kept[where][number] = kept
        # an in-place operation next in the network must reach the clone, not the recording
        return replaced(result, path, kept.clone())

    def chosen(self) -> list[tuple[Tap, Tap, Tensor]]:
        """(tap asked for, tap with its call, tensor) for each record."""
        rows = []
        for tap in self.taps:
            calls = self.calls[tap.module, tap.side]
            kept = self.kept[tap.module, tap.side]
            if tap.call == "all":
                rows += [(tap.at(k), tap.at(k), kept[k]) for k in range(calls)]
                continue
            number = calls - 1 if tap.call == "last" else tap.call + calls if tap.call < 0 else tap.call
            if not 0 <= number < calls:
                raise WhycamError(
                    f"layer {tap.module!r} ran {calls} time{'s' if calls > 1 else ''}, so it has no call {tap.call}; "
                    f"its calls are #0 to #{calls - 1}."
                )
            rows.append((tap, tap.at(number) if calls > 1 else replace(tap, call="last"), kept[number]))
        return rows

    def cut(self, found: Sequence[Sequence[Tensor | None]]) -> bool:
        return any(gradient is None for row in found for gradient in row)

    def records(
        self, found: Sequence[Sequence[Tensor | None]], inputs: Sequence[int], layouts: Mapping[Tap, Layout]
    ) -> dict[Tap, LayerRecord]:
        made = {}
        for number, (asked, tap, tensor) in enumerate(self.chosen()):
            owner = f"layer {str(asked)!r}"
            layout = layouts.get(asked) or layouts.get(replace(asked, call="all"))
            if layout is None:
                claim = token_claim(self.model, inputs) if tensor.ndim == 3 else None
                layout = infer_layout(tensor.shape, inputs, owner, claim)
            else:
                check_fits(layout, tensor.shape, owner)
            gradients, outside = [], []
            for row in found if self.want_gradients else ():
                gradient = row[number]
                gradients.append(None if gradient is None else wide(layout.to_maps(gradient)).detach())
                maps = gradients[-1]
                outside.append(
                    gradient is not None
                    and maps is not None
                    and maps.numel() < gradient.numel()
                    and not bool(maps.any())
                    and bool(gradient.any())
                )
            made[asked] = LayerRecord(
                tap,
                self.calls[tap.module, tap.side],
                tuple(tensor.shape),
                layout,
                wide(layout.to_maps(tensor.detach())),
                tuple(gradients),
                tuple(outside),
            )
        return made


def _differentiate(
    run: _Run, output: Tensor, targets: Sequence[Bound], leaf: Tensor | None, wants: bool
) -> tuple[list[Tensor], list[list[Tensor | None]]]:
    """The scores and, where wanted, each one's gradient at each record and last at the input."""
    scores = [target(output) for target in targets]
    points = ([tensor for _, _, tensor in run.chosen()] if run.want_gradients else []) + (
        [leaf] if leaf is not None else []
    )
    if not wants:
        run.chosen()  # raises for a call that does not exist
        return scores, [[] for _ in scores]
    found: list[list[Tensor | None]] = []
    for number, score in enumerate(scores, 1):
        if not score.requires_grad:
            found.append([None] * len(points))
            continue
        gradients = torch.autograd.grad(score.sum(), points, retain_graph=number < len(scores), allow_unused=True)
        found.append(list(gradients))
    return scores, found


def _refuse_embedding(model: nn.Module, output: Tensor, name: str, targets: Sequence[Bound]) -> None:
    if any(target.by_output for target in targets) and (why := embedding(name, output.detach(), model)):
        raise WhycamError(
            f"the model's output{name} is an embedding ({why}), whose largest number is no class. Pass a target, such "
            "as a function of it (its similarity to another embedding, say), or the part that holds class scores as "
            "output=."
        )


def _disconnected(run: _Run, inputs: Inputs) -> str:
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
    if trail.cuts:
        return (
            f"{start}: the gradient ends at {trail.cuts[0]}. Choose a layer behind that, let gradients through there, "
            "or use a method that needs none, such as eigen_cam."
        )
    return (
        f"{start}: it comes after or beside what the score is computed from. Choose a layer between the input and the "
        "output it explains."
    )
