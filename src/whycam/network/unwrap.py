"""The plain module behind what wraps it, and the eager twin of compiled code: same weights, and hooks that fire."""

from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from whycam.errors import WhycamError
from whycam.network.model_tree import tree_of
from whycam.network.shared import Shared

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside `torch.compile`, `DataParallel`, `DistributedDataParallel` and `YOLO`, else the module itself.

    Running it has none of their effects: no copies on other devices, no broadcast of buffers, no gradient exchange.
    """
    while (inner := _inside(model)) is not None:
        model = inner
    return model


def parallel(model: nn.Module) -> str | None:
    """The kind of the data-parallel wrapper around a model that `unwrapped` takes off, if there is one."""
    while (inner := _inside(model)) is not None:
        if isinstance(model, _PARALLEL):
            return type(model).__name__
        model = inner
    return None


def _inside(model: nn.Module) -> nn.Module | None:
    held = model._modules
    inner = model._orig_mod if "_orig_mod" in held else None
    if "module" in held and isinstance(model, _PARALLEL):
        inner = model.module
    # YOLO(...) is a module whose forward predicts and whose train() trains: it is never run itself
    if "model" in held and "ultralytics.engine.model" in {each.__module__ for each in type(model).__mro__}:
        inner = model.model
    return inner if isinstance(inner, nn.Module) else None


def refuse_scripted(module: nn.Module) -> None:
    """Raise a `WhycamError` for a network whose modules are not called by Python, so that no hook on them fires."""
    if isinstance(module, torch.jit.ScriptModule):
        raise WhycamError(
            f"{type(module).__name__}: a scripted or traced network cannot be recorded; pass the module behind it."
        )
    if isinstance(module, torch.fx.GraphModule) and not any(
        node.op == "call_module" and node.target != "_guards_fn" for node in module.graph.nodes
    ):
        raise WhycamError(
            "this graph of functions (torch.export, torch.fx) calls none of its modules, so there is no layer to "
            "record; of an exported program pass torch.export.unflatten(program), or pass the module that was exported."
        )


def what_instead(model: object) -> str:
    """What to pass instead of an object that is no module but holds a network; empty for anything else."""
    home, kind = type(model).__module__, type(model).__name__
    if kind == "ExportedProgram":
        return " Pass torch.export.unflatten(program), or the module that was exported."
    if home.partition(".")[0] in {"onnx", "onnxruntime", "tensorflow", "keras", "jax", "flax", "openvino", "tensorrt"}:
        return (
            f" A network of {home.partition('.')[0]} has no gradients that PyTorch could follow; pass the PyTorch "
            "module that it was made from."
        )
    return ""


def refuse_lazy(module: nn.Module) -> None:
    """Raise a `WhycamError` for a module whose weights do not exist before its first forward, which would make them."""
    if name := tree_of(module).lazy:
        raise WhycamError(
            f"the weights of this network do not all exist yet ({name}): a lazy module makes them, at random, when "
            "it first runs. Run it once or load its weights, then explain it."
        )


@Shared
def _all_eager() -> Generator[None]:
    with torch.compiler.set_stance("force_eager"):
        yield


def eager(model: nn.Module) -> AbstractContextManager[None]:
    """A block in which whatever is compiled inside `model` runs eagerly: compiled code skips hooks that came later."""
    return _all_eager() if tree_of(model).is_compiled else nullcontext()


def is_compiled(module: nn.Module) -> bool:
    """Whether calling a module runs compiled code: by `compile()`, by `torch.compile(module)` or of its `forward`."""
    return (
        getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module, "_orig_mod")
        or hasattr(module.forward, "_torchdynamo_orig_callable")
    )
