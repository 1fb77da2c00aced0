"""The linear head behind a global average pooling, found by its numbers and not by its name."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.kit.arrays import is_half, pool
from whycam.network.adapted import Adapted, Linear
from whycam.network.layer_refs import LayerRef
from whycam.network.recording.record import LayerRecord, Recording
from whycam.targets import ResolvedTarget, is_one_unit

_Linear: TypeAlias = Linear | nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def head_weights(
    model: nn.Module, recording: Recording, record: LayerRecord, target: ResolvedTarget
) -> Float[Tensor, "batch channel"]:
    """The head's row for the target, where the output is one linear layer of the layer's mean over locations.

    The claim is checked on this very batch: the layer's pooled activations through the linear layer must give the
    model's output. For a target that is a sum of logits (a contrast, several labels) the rows are summed alike.

    Raises:
        WhycamError: the network is not of that form at this layer, or the target is no linear function of the logits.
    """
    pooled = pool(record.activations)
    linear = _linears(model)
    for module in reversed(linear):
        weight = module.weight.detach()
        if weight.ndim > 2 and weight[0, 0].numel() > 1:
            continue
        rows = weight.flatten(1).to(pooled.dtype)
        if rows.shape[1] != pooled.shape[1] or recording.output.shape != (len(pooled), len(rows)):
            continue
        bias = module.bias.detach().to(pooled.dtype) if module.bias is not None else 0
        rebuilt = pooled @ rows.mT + bias
        # half-precision networks, and all under autocast, round after each step, so they are held to half precision
        tolerance = 3e-2 if is_half(recording.output) else 1e-4
        if (rebuilt - recording.output).abs().amax() <= tolerance * recording.output.abs().amax().clamp(min=1e-6):
            return _by_target(target, recording.output) @ rows
    raise WhycamError(_refusal(linear, record.tap, pooled.shape[1], recording.output))


def _linears(model: nn.Module) -> Sequence[_Linear]:
    if isinstance(model, Adapted):
        return model.linears()
    return [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))]


def _by_target(target: ResolvedTarget, output: Float[Tensor, "batch class"]) -> Float[Tensor, "batch class"]:
    """How much each logit counts in the target's score."""
    with torch.inference_mode(False), torch.enable_grad():
        logits = output.detach().clone().requires_grad_()
        scores = target(logits)
        (share,) = torch.autograd.grad(scores.sum(), logits)
    rebuilt = (share * logits).sum(1)
    if not torch.allclose(rebuilt, scores, rtol=1e-4, atol=1e-5):
        raise WhycamError(
            f"CAM explains class logits, and the target ({target.texts[0]}) is no weighted sum of them; "
            "use grad_cam for it."
        )
    return share.detach()


def _refusal(linear: Sequence[_Linear], tap: LayerRef, channels: int, output: Tensor) -> str:
    wanted = (
        f"CAM needs a network that ends in global average pooling and one linear layer, and this one does not at "
        f"{str(tap)!r}: "
    )
    if output.ndim != 2 and not is_one_unit(output):
        return wanted + f"its output has shape {tuple(output.shape)}. Use grad_cam instead."
    widths = [module.weight.shape[1] for module in linear if module.weight.ndim == 2]
    if channels not in widths:
        listed = ", ".join(map(str, widths[-3:])) or "none"
        return (
            wanted + f"the layer has {channels} channels and the linear layers take {listed} values. "
            "Use grad_cam, which at the same layer equals CAM up to a factor wherever CAM applies."
        )
    return (
        wanted + f"no linear layer turns the mean of its {channels} channels into the output. Record what the pooling "
        "is given (leave layer out, or name it with ':input'), or use grad_cam, which at the same layer "
        "equals CAM up to a factor wherever CAM applies."
    )
