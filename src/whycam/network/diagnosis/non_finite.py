"""Why a map is not to be trusted: the first module whose output is not finite."""

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from whycam.network.preserve_state import as_found
from whycam.network.pytree import detached_copy, first_tensor, tensors
from whycam.network.recording.record import Inputs, call, watching
from whycam.network.unwrap import eager, unwrapped


def first_non_finite(model: nn.Module, inputs: Inputs) -> list[str | None]:
    """For each sample, where NaN or infinity first appears: the inputs, or the module whose output has it first.

    What no module made, but an operation between them, is told by the module that is given it.

    Costs one forward. `None` for samples whose forward pass is finite throughout.
    """
    model = unwrapped(model)
    samples = len(first_tensor(inputs))
    found: list[str | None] = [None] * samples

    def returned(name: str, value: Any, given: Any) -> None:
        look(f"what layer {name!r} is given", given)
        look(f"layer {name!r}", value)

    def look(where: str, value: Any) -> None:
        for _, tensor in tensors(value):
            if tensor.is_floating_point() and tensor.ndim and len(tensor) == samples:
                for sample in _bad(tensor):
                    found[sample] = found[sample] or where

    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
            return [f"the weights ({name})"] * samples
    look("the input", inputs)
    with as_found(model), eager(model), ExitStack() as stack:
        for name, module in model.named_modules():
            if name and not any(True for _ in module.children()) and not isinstance(module, torch.jit.ScriptModule):
                stack.enter_context(watching(module, "output", partial(returned, name)))
        output = call(model, detached_copy(inputs))
    look("the output", output)
    return found


def _bad(tensor: Tensor) -> list[int]:
    rows: list[int] = (~tensor.reshape(len(tensor), -1).isfinite().all(1)).nonzero().flatten().tolist()
    return rows
