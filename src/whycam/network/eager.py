"""The eager twin of a compiled model: same weights, and hooks that fire."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from whycam.errors import WhycamError

_lock = threading.Lock()
_users = 0
_stance: Any = None


def unwrapped(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` wrapped, else the module itself."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def refuse_scripted(module: nn.Module) -> None:
    """Raise a `WhycamError` for a scripted or traced module, on which no hook can be put."""
    if isinstance(module, torch.jit.ScriptModule):
        raise WhycamError(
            f"{type(module).__name__}: a scripted or traced network cannot be recorded; pass the module behind it."
        )


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Run whatever is compiled inside `model` eagerly until the block ends.

    Compiled code skips hooks that came after it was compiled. The compiler's stance is one setting for the process,
    so blocks in several threads share it: the first sets it, the last restores it.
    """
    if not any(map(is_compiled, model.modules())):
        yield
        return
    global _users, _stance
    with _lock:
        if _users == 0:
            _stance = torch.compiler.set_stance("force_eager")
            _stance.__enter__()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _stance.__exit__(None, None, None)
                _stance = None


def is_compiled(module: nn.Module) -> bool:
    """Whether calling a module runs compiled code: by `compile()`, by `torch.compile(module)` or of its `forward`."""
    return (
        getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module, "_orig_mod")
        or hasattr(module.forward, "_torchdynamo_orig_callable")
    )
