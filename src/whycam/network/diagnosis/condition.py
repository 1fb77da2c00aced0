"""The state a network is in before it runs: its weights, its modes, and what it is wrapped in."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.network.preserve_state import acting
from whycam.network.unwrap import is_compiled, parallel, refuse_scripted, unwrapped

#: Flags by which model families turn activation checkpointing on.
_CHECKPOINTING = ("grad_checkpointing", "gradient_checkpointing", "use_checkpoint", "with_cp", "memory_efficient")


@dataclass(frozen=True)
class Condition:
    """What a network's modules and weights say by themselves. Names are dotted, in the model's order.

    Attributes:
        acting: modules in training mode that act differently there.
        training: how many of the innermost modules are in training mode. `mixed`: whether only some are.
        dtypes, devices: of the floating-point parameters, and of all of them.
        non_finite: weights and buffers that hold NaN or infinity.
        absent: weights without values, as a network built on the meta device has.
        compiled, scripted, checkpointed: modules that are. `""` is the model itself.
        parallel: the class of a wrapper that splits batches over devices, such as `DataParallel`; else `""`.
        refused: why the network cannot be watched at all, as a scripted one cannot; else `""`.
    """

    acting: tuple[str, ...]
    mixed: bool
    training: int
    dtypes: tuple[torch.dtype, ...]
    devices: tuple[torch.device, ...]
    non_finite: tuple[str, ...]
    absent: tuple[str, ...]
    compiled: tuple[str, ...]
    scripted: tuple[str, ...]
    checkpointed: tuple[str, ...]
    parallel: str
    refused: str


def condition(model: nn.Module) -> Condition:
    """Look a network over without running it."""
    compiled = tuple(name for name, module in model.named_modules() if is_compiled(module))
    wrapper = parallel(model) or ""
    model = unwrapped(model)
    modules = list(model.named_modules())
    # a wrapper's mode says little
    steps = [module for _, module in modules if not any(True for _ in module.children())]
    values = list(_values(model))
    present = [(name, value) for name, value in values if value.device.type != "meta"]
    parameters = list(model.parameters())
    return Condition(
        acting=tuple(acting(model)),
        mixed=len({module.training for module in steps}) > 1,
        training=sum(module.training for module in steps),
        dtypes=tuple(dict.fromkeys(each.dtype for each in parameters if each.is_floating_point())),
        devices=tuple(dict.fromkeys(value.device for _, value in present)),
        non_finite=tuple(name for name, value in present if not _is_finite(value)),
        absent=tuple(name for name, value in values if value.device.type == "meta"),
        compiled=compiled,
        scripted=tuple(name for name, module in modules if isinstance(module, torch.jit.ScriptModule)),
        checkpointed=tuple(name for name, module in modules if _is_checkpointed(module)),
        parallel=wrapper,
        refused=_refusal(model),
    )


def _refusal(model: nn.Module) -> str:
    try:
        refuse_scripted(model)
    except WhycamError as error:
        return str(error)
    return ""


def _values(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value.detach()).all())


def _is_checkpointed(module: nn.Module) -> bool:
    """Whether a module says that its activations are thrown away and made again; its class may say it as well."""
    return type(module).__name__ == "CheckpointWrapper" or any(
        getattr(module, flag, None) is True for flag in _CHECKPOINTING
    )
