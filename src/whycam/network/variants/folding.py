"""Batch normalizations folded into the convolutions before them, in a private copy of a network."""

import weakref
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from whycam.network.hooks import watching
from whycam.network.pytree import mapped, tensors

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
#: How far a convolution of a class of its own may be from what folding assumes of it, relative to its largest output.
_ROUNDING = 1e-4


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


@dataclass(frozen=True)
class _Seen:
    """One call of a convolution: what it was given and returned, and the modules through whose hands that went."""

    convolution: nn.Module
    given: Any  # of the same shapes and kinds, without memory
    output: "weakref.ref[Tensor]"  # not kept alive: those of all convolutions together are many times a forward's peak
    receivers: list[nn.Module] = field(default_factory=list)
    returners: list[nn.Module] = field(default_factory=list)


def fold(model: nn.Module, run: Callable[[], Any], keep: Collection[str]) -> list[Fold]:
    """Fold every normalization that may be, as one forward, `run`, shows; `model` is a private copy of a network.

    That is one in evaluation mode which is given the very tensor that a convolution returned, where both run once, no
    other module is given that tensor, and neither is shared, hooked or parametrised. A layer named in `keep` stays as
    it is, and so does what is given to it and what it returns. A function between modules may have read the tensor
    unseen: the caller has to compare the network's answers before and after, and undo it all where they differ.
    """
    candidates = _candidates(model, {model.get_submodule(name) for name in keep})
    convolutions = {each for each in candidates if isinstance(each, _CONVOLUTIONS)}
    calls: Counter[nn.Module] = Counter()
    found: list[_Seen] = []
    now: dict[int, _Seen] = {}  # by the identity of an output that is alive

    def of(tensor: Tensor) -> _Seen | None:
        seen = now.get(id(tensor))
        return seen if seen is not None and seen.output() is tensor else None

    def begin(module: nn.Module, value: Any, given: Any) -> None:
        calls[module] += 1
        for _, tensor in tensors(value):
            if (seen := of(tensor)) is not None:
                seen.receivers.append(module)

    def end(module: nn.Module, value: Any, given: Any) -> None:
        if module in convolutions and isinstance(value, Tensor):
            found.append(_Seen(module, mapped(given, _without_memory), weakref.ref(value)))
            now[id(value)] = found[-1]
            return
        for _, tensor in tensors(value):
            if (seen := of(tensor)) is not None:
                seen.returners.append(module)

    with ExitStack() as stack:
        for module in model.modules():
            stack.enter_context(watching(module, "input", partial(begin, module)))
            stack.enter_context(watching(module, "output", partial(end, module)))
        run()
    kept = {model, *(model.get_submodule(name) for name in keep)}
    folds = []
    for seen in found:
        norms = [each for each in seen.receivers if isinstance(each, _BatchNorm) and each in candidates]
        if len(norms) != 1 or calls[seen.convolution] != 1 or calls[norms[0]] != 1:
            continue
        # modules around the one or the other hand the tensor on
        passed_on = all(_within(norms[0], each) for each in seen.receivers) and all(
            _within(seen.convolution, each) for each in seen.returners
        )
        if passed_on and not kept.intersection([*seen.receivers, *seen.returners]):
            folds.append(_folded(seen, norms[0]))
    return [each for each in folds if each is not None]


def _candidates(model: nn.Module, kept: Collection[nn.Module]) -> set[nn.Module]:
    """The convolutions and normalizations that may be changed."""
    places = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    owners = Counter(
        id(parameter)
        for module in model.modules()
        for parameter in module._parameters.values()
        if parameter is not None
    )

    def own(module: nn.Module) -> bool:
        return all(owners[id(each)] == 1 for each in module._parameters.values() if each is not None)

    return {
        module
        for module, count in places.items()
        if (isinstance(module, _CONVOLUTIONS) or _rest(module) is not None)
        if count == 1 and module not in kept and own(module) and not is_parametrized(module)
        if "forward" not in vars(module) and not _hooked(module)
    }


def _hooked(module: nn.Module) -> bool:
    return any(value for name, value in vars(module).items() if "_hooks" in name and "state_dict" not in name)


def _within(module: nn.Module, other: nn.Module) -> bool:
    return any(each is module for each in other.modules())


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
    if not isinstance(module, _BatchNorm) or module.training or module.running_mean is None:
        return None
    if type(module) in _NORMS:
        return _Nothing
    of_timm = type(module).__name__ == "BatchNormAct2d" and type(module).__module__.startswith("timm.")
    return _Activation if of_timm else None


def _without_memory(tensor: Tensor) -> Tensor:
    return tensor.new_empty(()).expand(tensor.shape)


def _folded(seen: _Seen, norm: _BatchNorm) -> Fold | None:
    convolution = seen.convolution
    weight, bias = convolution._parameters["weight"], convolution._parameters["bias"]
    assert weight is not None
    assert norm.running_mean is not None  # a candidate
    assert norm.running_var is not None
    made = Fold(convolution, norm, weight, bias, type(norm))
    own = type(convolution) not in _CONVOLUTIONS
    before = _answer_to_noise(seen) if own else None

    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    offset = -norm.running_mean.double() * scale
    if norm.bias is not None:
        offset = offset + norm.bias.double()
    wider = weight.double() * scale.reshape(-1, *[1] * (weight.ndim - 1))
    shift = offset if bias is None else offset + bias.double() * scale
    for name, value in (("weight", wider), ("bias", shift)):
        convolution._parameters[name] = nn.Parameter(value.to(weight.dtype), requires_grad=False)

    if before is not None:
        ones = [1] * (before.ndim - 2)
        expected = before.double() * scale.reshape(-1, *ones) + offset.reshape(-1, *ones)
        if not (_answer_to_noise(seen) - expected).abs().amax() <= _ROUNDING * expected.abs().amax():
            made.undo()  # it does something to its weights before it convolves, such as standardizing them
            return None
    rest = _rest(norm)
    assert rest is not None
    norm.__class__ = rest  # in place, since more than its parent may refer to it
    return made


def _answer_to_noise(seen: _Seen) -> Tensor:
    """What a convolution answers to noise of the size that it was given."""
    generator = torch.Generator().manual_seed(0)
    args, kwargs = mapped(seen.given, lambda x: torch.randn(x.shape, generator=generator).to(x))
    answer: Tensor = seen.convolution(*args, **kwargs)
    return answer
