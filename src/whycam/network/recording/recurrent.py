"""Recurrent layers on CUDA: cuDNN's kernels keep nothing for a backward pass unless the layer is in training mode."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from whycam.network.hooks import watching
from whycam.network.model_tree import tree_of
from whycam.network.shared import Shared


@Shared
def _without_cudnn() -> Generator[None]:
    try:
        torch.backends.cudnn.enabled = False
        yield
    finally:
        torch.backends.cudnn.enabled = True


def differentiable(model: nn.Module) -> AbstractContextManager[None]:
    """A block that runs those recurrent layers without cuDNN through which it would refuse to go back.

    It is switched off while such a layer runs and no longer.
    """
    recurrent = tree_of(model).recurrent
    layers = [module for module in recurrent if refuses(module)] if recurrent else []
    return _without(layers) if layers else nullcontext()


@contextmanager
def _without(layers: Sequence[nn.RNNBase]) -> Iterator[None]:
    running = ExitStack()

    def begin(value: Any, given: Any) -> None:
        running.enter_context(_without_cudnn())

    def end(value: Any, given: Any) -> None:
        running.pop_all().close()  # such a layer holds no other

    with running, ExitStack() as stack:  # what raised has not come to its end
        for layer in layers:
            stack.enter_context(watching(layer, "input", begin))
            stack.enter_context(watching(layer, "output", end))
        yield


def refuses(layer: nn.RNNBase) -> bool:
    """Whether cuDNN would run a recurrent layer in a way that cannot be differentiated."""
    enabled = torch.backends.cudnn.enabled or bool(_without_cudnn)  # off for another thread's layer, and on again soon
    return enabled and not layer.training and _on_cuda(layer)


def _on_cuda(layer: nn.RNNBase) -> bool:
    return any(parameter.is_cuda for parameter in layer.parameters())
