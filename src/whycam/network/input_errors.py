"""Why a network cannot be run on what it was given, in the caller's words, where the error itself is torch's."""

import dis
import inspect
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from whycam.network.pytree import spell, tensors

#: Libraries whose errors about an input are rewritten, as torch's are.
_LIBRARIES = {"torch", "torchvision", "timm", "transformers", "keras", "tensorflow", "jax"}
#: What autograd says about graphs, and not about inputs.
_AUTOGRAD = ("inference tensor", "no_grad mode", "leaf variable", "inplace operation", "require grad")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, which fewer samples at once may help."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and ("allocate memory" in said or "not enough memory" in said or "out of memory" in said)
    )


def misfit(model: nn.Module, inputs: Any, error: Exception) -> str:
    """What to tell the caller when `model(inputs)` raised `error`; empty where the error is the network's own.

    Its own are exceptions that code outside of PyTorch and the model libraries raises by a `raise` or an `assert`, and
    classes that torch does not raise for an input.
    """
    said = str(error).strip()
    if (
        out_of_memory(error)
        or any(mark in said.lower() for mark in _AUTOGRAD)
        or not (_by_call(model, error) or _by_library(error))
    ):
        return ""
    shapes = [f"{spell(path)} {_spell(tensor)}".lstrip(". ") for path, tensor in tensors(inputs)]
    start = f"the model cannot be run on inputs of shape {', '.join(shapes)}"
    if _by_call(model, error):
        return (
            f"the model's forward{_signature(model)} was called with {_arguments(inputs)}: {said}. Pass a tensor for "
            "one argument, a tuple for several, or a dict to name them."
        )
    weights = {each.dtype for each in model.parameters() if each.is_floating_point()}
    given = {tensor.dtype for _, tensor in tensors(inputs) if tensor.is_floating_point()}
    if len(weights) == 1 and given - weights and "type" in said:
        wanted, came = next(iter(weights)), next(iter(given - weights))
        return (
            f"the model's weights are {_short(wanted)} and the inputs {_short(came)}: convert one of them, the inputs "
            f"with .to({wanted}) or the model with .to({came})."
        )
    first = said.splitlines()[0] if said else type(error).__name__
    return f"{start}: {first.rstrip('.!')}.{_wanted(model)}"


def _by_call(model: nn.Module, error: Exception) -> bool:
    """Whether the model's forward was called with arguments that it does not take."""
    at = _innermost(error)
    # the interpreter raises it in the frame that calls: the model's own __call__
    return (
        type(error) is TypeError
        and at is not None
        and at.tb_frame.f_code is nn.Module._call_impl.__code__
        and at.tb_frame.f_locals.get("self") is model
    )


def _by_library(error: Exception) -> bool:
    """Whether an operation of torch raised it, or a check in a library."""
    at = _innermost(error)
    if at is None:
        return False
    raised = dis.opname[at.tb_frame.f_code.co_code[at.tb_lasti]] in ("RAISE_VARARGS", "RERAISE")
    home = str(at.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
    if raised:
        return home in _LIBRARIES and type(error) in (RuntimeError, ValueError, AssertionError, NotImplementedError)
    return type(error) is RuntimeError


def _innermost(error: Exception) -> TracebackType | None:
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at


def _wanted(model: nn.Module) -> str:
    """What the model itself says of its inputs' size, as timm's and transformers' do."""
    embed, config = getattr(model, "patch_embed", None), getattr(model, "config", None)
    known = getattr(model, "pretrained_cfg", None)
    sizes = [getattr(embed, "img_size", None), getattr(config, "image_size", None)]
    sizes.append(known.get("input_size") if isinstance(known, dict) else None)
    for size in sizes:
        if isinstance(size, int):
            return f" The model is made for {size} x {size}."
        if isinstance(size, (tuple, list)) and size:
            return f" The model is made for {' x '.join(map(str, size))}."
    return ""


def _signature(model: nn.Module) -> str:
    try:
        return str(inspect.signature(model.forward).replace(return_annotation=inspect.Signature.empty))
    except (TypeError, ValueError):
        return ""


def _arguments(inputs: Any) -> str:
    if isinstance(inputs, Tensor):
        return "one tensor"
    return _counted(inputs) if isinstance(inputs, tuple) else f"the arguments {', '.join(map(str, inputs))}"


def _counted(inputs: Iterable[Any]) -> str:
    count = len(list(inputs))
    return f"{count} positional argument{'s' if count != 1 else ''}"


def _spell(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {_short(tensor.dtype)}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
