"""Attention that runs where no capture sees it: why, and the way out."""

from collections.abc import Sequence

import torch
from torch import nn

from whycam.errors import LayerRefused
from whycam.network.attention.capture import Attention
from whycam.network.checkpointing import hidden
from whycam.network.pytree import tensors

#: What transformers calls the kernels that are torch's own.
_SEEN = (None, "eager", "sdpa")

NONE_SEEN = (
    "No attention was seen in this network: no attention function of torch runs in it, and no softmax whose result "
    "multiplies values. Linear attention has no such matrix; other kernels than torch's (flash_attn, xformers, "
    'triton) do not show theirs, so build the network without them (attn_implementation="sdpa" in transformers). '
    "Else use a method that reads layers, such as grad_cam or layer_cam."
)


def refuse_unseen(model: nn.Module) -> None:
    """Raise a `LayerRefused` for a network that says by itself that its attention runs where it is not seen."""
    outermost = ""
    for name, module in model.named_modules():
        kernel = getattr(getattr(module, "config", None), "_attn_implementation", None)
        if kernel not in _SEEN:
            raise LayerRefused(
                f"the attention of {type(module).__name__} runs in kernels of its own ({kernel}), which do not show "
                'what attends to what. Give it torch\'s: attn_implementation="sdpa" when it is loaded, or '
                'model.set_attn_implementation("sdpa").'
            )
        if isinstance(module, torch.jit.ScriptModule) and not (outermost and name.startswith(f"{outermost}.")):
            outermost = name
            code = str(module.inlined_graph)
            if "scaled_dot_product_attention" in code or ("aten::softmax" in code and "matmul" in code):
                raise LayerRefused(
                    f"attention runs inside of {name!r}, a scripted or traced module, where no function is seen. Put "
                    "the module that it was made from in its place."
                )


def refuse_recomputed(output: object, found: Sequence[Attention]) -> None:
    """Raise a `LayerRefused` for a network, given its answer in the graph, that hides attention from the graph."""
    if why := hidden([tensor for _, tensor in tensors(output)], found):
        raise LayerRefused(why)
