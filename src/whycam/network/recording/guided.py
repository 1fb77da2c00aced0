"""Guided backprop's rule for every ReLU, at the level of functions, so that `F.relu` counts like `nn.ReLU`."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from whycam.errors import WhycamError
from whycam.network.hooks import on_gradient

_RECTIFIERS = frozenset({F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6})
_CLAMPS = frozenset(
    getattr(home, name)
    for name in ("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_")
    for home in (torch, Tensor)
) | {F.hardtanh}
_OTHERS: Mapping[Callable[..., Any], str] = {
    function: name
    for name in (
        "gelu", "silu", "mish", "elu", "selu", "celu", "leaky_relu", "prelu", "rrelu", "softplus", "sigmoid",
        "logsigmoid", "tanh", "threshold", "hardswish", "hardsigmoid", "softsign", "softmax",
        "scaled_dot_product_attention", "multi_head_attention_forward",
    )
    for home in (F, torch, Tensor)
    for spelling in (name, name + "_")
    if (function := getattr(home, spelling, None)) is not None
}  # fmt: skip


class GuidedRelu(TorchFunctionMode):
    """The rule while it is entered; `left` are the other activations that ran, which are left as they are.

    `any` says whether a ReLU ran at all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.any = False
        self.left: dict[str, None] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        clamps = func in _CLAMPS and _clamps_at_zero(args, kwargs)
        if func in _OTHERS or (func is F.hardtanh and not clamps):
            self.left[_OTHERS.get(func, "hardtanh")] = None
        output = func(*args, **kwargs)
        if func in _RECTIFIERS or clamps:
            self.any = True
            if not output.requires_grad:
                return output
            # the ReLU's own backward then applies its gate to what is left: g * 1[g > 0] * 1[x > 0]
            on_gradient(output, lambda gradient: gradient.clamp(min=0))
        return output

    def check(self) -> None:
        """Raise a `WhycamError` where there are activations and none of them is a ReLU."""
        if self.left and not self.any:
            raise WhycamError(
                f"guided backprop is defined for ReLU alone, and this network uses {', '.join(self.left)}; use a "
                "method made for any network, such as grad_cam or layer_cam."
            )


def _clamps_at_zero(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    low = args[1] if len(args) > 1 else kwargs.get("min", kwargs.get("min_val"))
    return isinstance(low, (int, float)) and low == 0


@contextmanager
def guided_relu() -> Iterator[GuidedRelu]:
    """Until the block ends, ReLUs run in this thread pass back positive gradients only; other activations are as ever.

    ReLU6 and clamping at zero are rectifiers too. Nothing of the network is touched.
    """
    _asked.by += 1
    try:
        with GuidedRelu() as mode:
            yield mode
            mode.check()
    finally:
        _asked.by -= 1


class _Asked(threading.local):
    by = 0


_asked = _Asked()


def asked() -> bool:
    """Whether this thread is in such a block, for networks whose functions are not torch's."""
    return _asked.by > 0
