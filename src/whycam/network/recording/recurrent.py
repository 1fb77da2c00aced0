"""Recurrent layers on CUDA: cuDNN's kernels keep nothing for a backward pass unless the layer is in training mode."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from whycam.network.hooks import watching
from whycam.network.model_tree import tree_of

_lock = threading.Lock()
_users = 0
_before = True


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Until the block ends, run those recurrent layers without cuDNN through which it would refuse to go back.

    It is switched off while such a layer runs and no longer. The switch is one for the process, so layers that run in
    several threads share it: the first turns it off, the last restores it.
    """
    layers = [module for module in tree_of(model).recurrent if refuses(module)]
    if not layers:
        yield
        return
    running = 0

    def begin(value: Any, given: Any) -> None:
        nonlocal running
        running += 1
        _off()

    def end(value: Any, given: Any) -> None:
        nonlocal running
        running -= 1
        _on()

    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(watching(layer, "input", begin))
            stack.enter_context(watching(layer, "output", end))
        try:
            yield
        finally:
            for _ in range(running):  # what raised has not come to its end
                _on()


def refuses(layer: nn.RNNBase) -> bool:
    """Whether cuDNN would run a recurrent layer in a way that cannot be differentiated."""
    with _lock:  # another thread may have switched it off for its own layer
        enabled = _before if _users else torch.backends.cudnn.enabled
    return not layer.training and _on_cuda(layer) and enabled


def _on_cuda(layer: nn.RNNBase) -> bool:
    return any(parameter.is_cuda for parameter in layer.parameters())


def _off() -> None:
    global _users, _before
    with _lock:
        if not _users:
            _before = torch.backends.cudnn.enabled
            torch.backends.cudnn.enabled = False
        _users += 1


def _on() -> None:
    global _users
    with _lock:
        _users -= 1
        if not _users:
            torch.backends.cudnn.enabled = _before
