"""Batch normalizations folded into the convolutions before them, in a private copy of a network."""

import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from whycam.network.hooks import watching
from whycam.network.pytree import tensors

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Fold:
    """A normalization folded into a convolution, and what the two were before."""

    convolution: nn.Module
    norm: _BatchNorm
    weight: nn.Parameter
    bias: nn.Parameter | None
    kind: type[_BatchNorm]

    def undo(self) -> None:
        """Make the two what they were."""
        self.convolution._parameters.update(weight=self.weight, bias=self.bias)
        self.norm.__class__ = self.kind


def fold(model: nn.Module, run: Callable[[], Any], keep: Collection[str]) -> list[Fold]:
    """Fold each normalization that is given the very tensor that a convolution returned.

    `model` is a private copy in evaluation mode. One forward, `run`, shows the pairs: both run once, and nothing else
    without parts of its own is given the tensor. A layer named in `keep` returns what it did and is given what it was.
    Other code may have read the tensor unseen, or a class of its own may do something else to its weights: the caller
    has to compare the network's answers before and after, and undo it all where they differ.
    """
    kept = {model, *(model.get_submodule(name) for name in keep)}
    calls: Counter[nn.Module] = Counter()
    pairs: list[tuple[nn.Module, nn.Module]] = []
    # not kept alive: the outputs of all convolutions together are many times a forward's peak
    returned: dict[int, tuple[weakref.ref[Tensor], nn.Module]] = {}
    others: set[nn.Module] = set()  # convolutions whose output is read elsewhere

    def origins(value: Any) -> Iterator[nn.Module]:
        for _, tensor in tensors(value):
            made = returned.get(id(tensor))
            if made is not None and made[0]() is tensor:
                yield made[1]

    def begin(module: nn.Module, value: Any, _: Any) -> None:
        calls[module] += 1
        for convolution in origins(value):
            if module in kept or (_rest(module) is None and not module._modules):
                others.add(convolution)
            elif _rest(module) is not None:
                pairs.append((convolution, module))

    def end(module: nn.Module, value: Any, _: Any) -> None:
        if isinstance(module, _CONVOLUTIONS) and isinstance(value, Tensor):
            returned[id(value)] = weakref.ref(value), module
        if module in kept:
            others.update(origins(value))

    with ExitStack() as stack:
        for module in model.modules():
            stack.enter_context(watching(module, "input", partial(begin, module)))
            stack.enter_context(watching(module, "output", partial(end, module)))
        run()
    several = Counter(convolution for convolution, _ in pairs)
    return [
        _folded(convolution, norm)
        for convolution, norm in pairs
        if calls[convolution] == calls[norm] == several[convolution] == 1
        if convolution not in others and "weight" in convolution._parameters  # else it is computed anew each time
    ]


class _Nothing(_BatchNorm):
    """What is left of a normalization that was folded."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class _Activation(_BatchNorm):
    """What is left of timm's normalization with an activation in it."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.act(self.drop(x))
        return made


def _rest(module: nn.Module) -> type[_BatchNorm] | None:
    """What a normalization becomes when it is folded; `None` for a module that is none, or would use its batch."""
    if not isinstance(module, _BatchNorm) or module.running_mean is None:
        return None
    if type(module) in _NORMS:
        return _Nothing
    of_timm = type(module).__name__ == "BatchNormAct2d" and type(module).__module__.startswith("timm.")
    return _Activation if of_timm else None


def _folded(convolution: nn.Module, norm: Any) -> Fold:
    weight, bias = convolution._parameters["weight"], convolution._parameters["bias"]
    assert weight is not None
    made = Fold(convolution, norm, weight, bias, type(norm))
    numbers = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    convolution.weight, convolution.bias = fuse_conv_bn_weights(weight, bias, *numbers)
    norm.__class__ = _rest(norm)  # in place, since more than its parent may refer to it
    return made
