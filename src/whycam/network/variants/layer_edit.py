"""Passes of the real network in which a layer's output is replaced, for quantities that differentiate what is above."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.kit.arrays import SAME, apart, is_half, wide
from whycam.network.checkpointing import asks_for_a_start, hidden, recomputed
from whycam.network.hooks import Inputs, call, watching
from whycam.network.outputs import OutputPath, number_of_classes, read
from whycam.network.preserve_state import acting, as_found
from whycam.network.pytree import detached_copy, first_tensor, mapped, only_tensor, replaced, tensors
from whycam.network.recording.partial_forward import Resumed
from whycam.network.recording.record import LayerRecord
from whycam.network.recording.recurrent import differentiable
from whycam.network.unwrap import eager, refuse_scripted
from whycam.network.variants.shared_copy import twin

#: How far activations may be from the recorded ones, in parts of their largest magnitude; the second in half precision.
_ROUNDING = (1e-2, 1e-1)


@dataclass(frozen=True)
class Asked:
    """A network, what it is given, which part of its answer counts, and what was recorded of the layer.

    `above` runs the part above the layer alone, where that gives what the network does.
    """

    model: nn.Module
    inputs: Inputs
    layer: LayerRecord
    part: OutputPath | None
    above: Resumed | None = None

    def __str__(self) -> str:
        return f"layer {str(self.layer.tap)!r}"


def asked_of(
    model: nn.Module, inputs: Inputs, layer: LayerRecord, part: OutputPath | None, output: Tensor | None
) -> Asked:
    """What is asked; of the part above the layer alone, if that answers with the recorded `output`."""
    asked = Asked(model, inputs, layer, part)
    before = layer.before
    if output is None or before is None or before.leaves or layer.rows is not None or acting(model):
        return asked
    raw = dict(tensors(before.value))[before.path]
    try:
        above = Resumed(twin(model), before, inputs, len(output))
        with as_found(model), eager(model):
            found = wide(read(above.run_batch(raw.clone()), part, len(output), number_of_classes(model))[1])
    except Exception:  # the network was not written to be run in part; it is run whole
        return asked
    return replace(asked, above=above) if apart(found, output) <= SAME[is_half(output)] else asked


@dataclass
class Answer:
    """What a pass gave.

    Attributes:
        output: the part of the answer that is explained, `(batch, ...)`, float32 at least.
        order: the samples whose rows of the layer were replaced, call by call; `None` where one call had all of them.
        off: the layer, where it ran with gradients off although they were on at the start.
    """

    output: Tensor
    order: Tensor | None = None
    off: set[str] = field(default_factory=set)

    def by_sample(self, rows: list[Tensor]) -> Tensor:
        """What was found for the rows of each call, in the order of the samples."""
        if self.order is None:
            return rows[0]
        return torch.cat(rows)[self.order.argsort()]


def answer(
    asked: Asked,
    make: Callable[[Tensor], Tensor],
    *,
    from_start: bool = False,
    around: AbstractContextManager[Any] | None = None,
) -> Answer:
    """Run the network once and hand on `make(output)` for what the recorded pass of the layer returned.

    `make` is given the rows of the layer that belong to the samples: of the one call, or of several calls one after
    another where the layer runs on parts of the batch. Gradients are off until `make` turns them on, or on from the
    start. Random numbers are those of the recorded pass. `around` is entered where the network's own code begins.

    Raises:
        WhycamError: the layer did not run as it did when it was recorded, or no gradient can come to be in it.
    """
    layer, model = asked.layer, asked.model
    calls = start = answered = 0
    order: list[Tensor] = []
    off: set[str] = set()

    def see(value: Any, _: Any) -> Any:
        nonlocal calls, start, answered
        path, tensor = only_tensor(value, str(asked))
        number, calls = calls, calls + 1
        if layer.rows is None and number != layer.number:
            return None
        if from_start and not torch.is_grad_enabled():
            off.add(layer.tap.module)
        if torch.is_inference_mode_enabled() or tensor.is_quantized:
            raise WhycamError(_no_gradient(asked, tensor))
        if layer.rows is None:
            answered += len(tensor)
            _check(asked, tensor, layer.activations)
            return replaced(value, path, make(tensor))
        at = layer.rows - start
        mine = (at >= 0) & (at < len(tensor))
        start += len(tensor)
        if not bool(mine.any()):
            return None
        samples = mine.nonzero().flatten()
        order.append(samples)
        answered += len(samples)
        rows = tensor[at[mine]]
        _check(asked, rows, layer.activations[samples])
        made = make(rows)  # which may turn gradients on
        return replaced(value, path, tensor.detach().clone().index_copy(0, at[mine], made))

    if asked.above is not None and not from_start:
        return _answer_above(asked, asked.above, make, around)
    refuse_scripted(model.get_submodule(layer.tap.module))
    with as_found(model), eager(model), differentiable(model):
        given = detached_copy(asked.inputs)
        leaf = first_tensor(given)
        leaf.requires_grad_(from_start and leaf.is_floating_point())  # so that a block that hides a part shows itself
        with watching(model.get_submodule(layer.tap.module), layer.tap.side, see), around or nullcontext():
            torch.set_grad_enabled(from_start)  # put back by the guard around this pass
            try:
                output = call(model, mapped(given, torch.clone))  # a model may write to what it is given
            except RuntimeError as error:
                if "Inference tensors cannot be saved" in str(error):
                    raise WhycamError(_no_gradient(asked)) from error
                raise
            samples = len(layer.activations)
            if answered != samples:
                raise WhycamError(f"{asked} did not run as it did when it was recorded, so it cannot be replaced.")
            with torch.enable_grad():
                found = wide(read(output, asked.part, samples, number_of_classes(model))[1])
    return Answer(found, torch.cat(order) if order else None, off)


def _answer_above(
    asked: Asked, above: Resumed, make: Callable[[Tensor], Tensor], around: AbstractContextManager[Any] | None
) -> Answer:
    """What `answer` gives, by the part above the layer alone."""
    before, samples = above.before, len(asked.layer.activations)
    with as_found(asked.model), eager(asked.model), differentiable(above.model), around or nullcontext():
        torch.set_grad_enabled(False)  # put back by the guard around this pass
        rows = make(dict(tensors(before.value))[before.path].clone())
        output = above.run_batch(rows)
        with torch.enable_grad():
            return Answer(wide(read(output, asked.part, samples, number_of_classes(asked.model))[1]))


def differentiated(asked: Asked, attempt: Callable[[bool], tuple[Answer, Tensor, Tensor | None]]) -> Tensor | None:
    """What an attempt finds that turns gradients on at the layer, or else one with gradients on from the start.

    Some networks turn gradients off again behind the layer, write to a view made before it, or compute a part of
    themselves again in the backward pass: these need the start. An attempt is told which it is to be and returns the
    pass, the scores, and what it found: `None` where the scores do not depend on the layer, as is the result where
    neither attempt finds anything.
    """
    with as_found(asked.model), eager(asked.model), differentiable(asked.model):
        for from_start in (False, True):
            try:
                made, scores, found = attempt(from_start)
            except RuntimeError as error:
                if why := recomputed(error):
                    raise WhycamError(why) from error
                if from_start or not asks_for_a_start(error):
                    raise
                continue
            if found is not None:
                return found
            if why := hidden([scores], made.off):
                raise WhycamError(why)
    return None


def _check(asked: Asked, rows: Tensor, recorded: Tensor) -> None:
    """Raise a `WhycamError` unless a layer returns what was recorded of it."""
    half = rows.dtype in (torch.float16, torch.bfloat16)
    same = len(rows) == len(recorded) and rows.shape[1:] == asked.layer.shape[1:]
    if same:
        away = apart(wide(asked.layer.layout.to_maps(rows.detach())), recorded)
        same = not away > _ROUNDING[half]  # NaN was recorded too
    if not same:
        raise WhycamError(
            f"{asked} did not return what it did when it was recorded, so what is above it cannot be told apart from "
            "chance; make the network draw its random numbers from torch, or explain it with model.eval()."
        )


def _no_gradient(asked: Asked, tensor: Tensor | None = None) -> str:
    if tensor is not None and tensor.is_quantized:
        return (
            f"{asked} is quantized ({tensor.dtype}), and no gradient goes through it; explain the network as it was "
            "before it was quantized, or use a method that needs no gradient, such as ablation_cam."
        )
    return (
        "the model runs itself, or was made, under torch.inference_mode(), which forbids gradients for good; use "
        "torch.no_grad() there, or a method that needs no gradient, such as ablation_cam."
    )
