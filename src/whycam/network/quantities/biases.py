"""The biases that a network adds, and the score's gradient where each of them is added: what FullGrad is made of.

They are caught in the functions that add them (`F.conv2d`, `F.batch_norm`) and not at the modules that call these.
Each gradient then belongs to its bias by construction, whatever the order in which modules were defined or run, and
also where a module goes on after adding, as a normalization fused with its activation does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whycam.errors import WhycamError
from whycam.kit.arrays import wide
from whycam.kit.quantities import BiasGradient
from whycam.network.adapted import refuse_adapted
from whycam.network.checkpointing import hidden, recomputed
from whycam.network.hooks import Inputs, call
from whycam.network.layouts import ChannelsLast, keeps_proportions
from whycam.network.outputs import OutputPath, number_of_classes, read
from whycam.network.preserve_state import as_found
from whycam.network.pytree import detached_copy, first_tensor, mapped, tensors
from whycam.network.recording.recurrent import differentiable
from whycam.network.unwrap import eager, refuse_scripted, unwrapped
from whycam.targets import ResolvedTarget

_PLAIN = ("input", "weight", "bias")
#: The functions that add a bias, each with the names of its arguments in order.
_ARGUMENTS: Mapping[Callable[..., Any], Sequence[str]] = {
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d, F.linear), _PLAIN),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), _PLAIN),
    F.batch_norm: ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    F.instance_norm: ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps"),
    F.group_norm: ("input", "num_groups", "weight", "bias", "eps"),
    F.layer_norm: ("input", "normalized_shape", "weight", "bias", "eps"),
}
#: Those whose channels are the last axes.
_CHANNELS_LAST = (F.linear, F.layer_norm)


def bias_gradients(
    model: nn.Module, inputs: Inputs, bound: ResolvedTarget, part: OutputPath | None
) -> list[BiasGradient]:
    """Each bias that is added on the way to the score, and the score's gradient there, in the order of the forward.

    Convolutions, linear layers and normalizations count, whether a module calls them, the network itself or the
    target; a module that is called twice comes twice, and one that the score does not depend on does not come. A batch
    normalization by its running statistics adds `beta - mean * gamma / deviation`. Any other normalization adds its
    `beta`: what it subtracts depends on its input, so it is no bias.

    A gradient is a map where there is one row for each sample and as many axes as the picture has: channels second, or
    channels last in the proportions of a picture of two axes or more. Elsewhere (vectors, tokens, windows, the frames
    of a video one by one) it is summed over all locations to `(batch, channel)`, which leaves the sum of
    `bias * gradients` what it is.

    Costs one forward and one full backward; and one more backward for each sample where the batch is passed on in other
    rows than its samples, as in windows.

    Raises:
        WhycamError: the network lets no gradient through: it is scripted, in inference mode, or computed anew by
            reentrant checkpointing.
    """
    model = unwrapped(model)
    refuse_scripted(model)
    refuse_adapted(model, "what biases add", "use grad_cam or layer_cam")
    run = _Adding(model)
    with as_found(model), eager(model), differentiable(model), run:
        given = detached_copy(inputs)
        picture = first_tensor(given)
        for _, tensor in tensors(given):
            # a part that checkpointing computes again must keep as much as the first time, weights frozen or not
            tensor.requires_grad_(tensor.is_floating_point())
        torch.set_grad_enabled(True)  # put back by the guard around this pass
        output = call(model, mapped(given, torch.clone))  # a model may write to what it is given
        torch.set_grad_enabled(True)  # for the score
        answer = wide(read(output, part, len(picture), number_of_classes(model))[1])
        scores = bound(answer)
        if why := hidden([scores], run.off):
            raise WhycamError(why)
        try:
            return _differentiated(scores, run.found, picture)
        except RuntimeError as error:
            if why := recomputed(error):
                raise WhycamError(why) from error
            raise


@dataclass(frozen=True)
class _Addition:
    """One call of a function that adds a bias.

    Attributes:
        name: the module's that owns the bias; `""` where no module does.
        bias: what is added to each channel, `(channel,)`.
        output: what the function returned, with its history.
        trailing: how many of its last axes are the channels; 0 where they are its second axis.
    """

    name: str
    bias: Tensor
    output: Tensor
    trailing: int

    def measured(self, maps: Tensor, picture: Tensor) -> BiasGradient:
        """With each sample's gradient, `(batch, channel, *location)`, summed where locations are not the picture's."""
        kept = maps if maps.ndim == picture.ndim and self._lies_on(picture) else _summed(maps)
        return BiasGradient(self.name, self.bias, wide(kept))

    def _lies_on(self, picture: Tensor) -> bool:
        if not self.trailing:
            return True
        # (batch, token, channel) are no locations: a class token may be among them
        last = self.trailing == 1 and picture.ndim > 3
        return last and keeps_proportions(ChannelsLast(), self.output.shape, picture.shape)

    def by_channel(self, gradient: Tensor) -> Tensor:
        """A gradient of the output's shape as `(row, channel, *location)`."""
        if self.trailing == gradient.ndim:
            gradient = gradient[None]
        return gradient.flatten(-self.trailing).movedim(-1, 1) if self.trailing else gradient


class _Adding(TorchFunctionMode):
    """Notes every bias that is added in this thread, and hands on a copy of what the function returned.

    Attributes:
        found: the additions. `off`: the owners of those that ran with gradients off.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.owners: dict[int, str] = {
            id(tensor): name
            for name, module in model.named_modules()
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None
        }
        self.found: list[_Addition] = []
        self.off: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func not in _ARGUMENTS or not output.ndim:
            return output
        named = {**dict(zip(_ARGUMENTS[func], args, strict=False)), **kwargs}
        bias = _bias(named)
        return output if bias is None else self._keep(self._owner(named), bias, output, func in _CHANNELS_LAST)

    def _keep(self, name: str, bias: Tensor, output: Tensor, last: bool) -> Tensor:
        if torch.is_inference_mode_enabled():
            raise WhycamError(
                "the model runs itself, or a part of itself, under torch.inference_mode(), which forbids gradients for "
                "good; use torch.no_grad() there, or pass the module inside."
            )
        if not torch.is_grad_enabled():
            self.off.add(name)
            torch.set_grad_enabled(True)
        if not output.requires_grad:
            output = output.detach().requires_grad_()  # gradients were off: the graph starts here
        self.found.append(_Addition(name, wide(bias.detach().flatten()), output, bias.ndim if last else 0))
        # an in-place operation next in the network must reach the copy, not the history of this
        return output.clone()

    def _owner(self, named: Mapping[str, Any]) -> str:
        """The module that one of the arguments belongs to, or the tensor of which that is a part."""
        for key in ("bias", "weight", "running_mean"):
            tensor = named.get(key)
            for one in (tensor, getattr(tensor, "_base", None)):
                if one is not None and id(one) in self.owners:
                    return self.owners[id(one)]
        return ""


def _bias(named: Mapping[str, Any]) -> Tensor | None:
    """What a call adds to each channel, whatever its input is; `None` where that is nothing."""
    beta: Tensor | None = named.get("bias")
    mean, variance = named.get("running_mean"), named.get("running_var")
    if mean is None or variance is None or named.get("training", False) or named.get("use_input_stats", False):
        return beta
    shift: Tensor = wide(mean) / (wide(variance) + named.get("eps", 1e-5)).sqrt()
    if named.get("weight") is not None:
        shift = shift * wide(named["weight"])
    return -shift if beta is None else wide(beta) - shift


def _differentiated(scores: Tensor, found: Sequence[_Addition], picture: Tensor) -> list[BiasGradient]:
    """The additions that the scores depend on, with the gradients there."""
    if not scores.requires_grad or not found:
        return []
    samples = len(scores)
    apart = any(len(each.output) != samples for each in found)
    gradients: Sequence[Tensor | None] = torch.autograd.grad(
        scores.sum(), [each.output for each in found], retain_graph=apart, allow_unused=True
    )
    made: dict[int, BiasGradient] = {}
    others: dict[tuple[str, torch.Size], list[int]] = {}
    for number, (each, gradient) in enumerate(zip(found, gradients, strict=True)):
        if gradient is not None and len(each.output) == samples:
            made[number] = each.measured(each.by_channel(gradient), picture)
        elif gradient is not None:
            others.setdefault((each.name, each.output.shape[1:]), []).append(number)
    of_samples = _of_samples(scores, {number: found[number] for numbers in others.values() for number in numbers})
    for numbers in others.values():
        # calls on parts of the batch, which together are one call; or windows and the like, each by itself
        parts = sum(len(found[number].output) for number in numbers) == samples
        for first, *more in [numbers] if parts else [[number] for number in numbers]:
            maps = of_samples[first]
            for number in more:
                maps = maps + of_samples[number]
            made[first] = found[first].measured(maps if parts else _summed(maps), picture)
    return [made[number] for number in sorted(made)]


def _of_samples(scores: Tensor, additions: Mapping[int, _Addition]) -> dict[int, Tensor]:
    """Each sample's own gradient, summed over the rows: which of them belong to which sample is told by gradients."""
    found: dict[int, list[Tensor]] = {number: [] for number in additions}
    for score in scores if additions else ():
        own: Sequence[Tensor] = torch.autograd.grad(
            score,
            [each.output for each in additions.values()],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        for (number, each), rows in zip(additions.items(), own, strict=True):
            found[number].append(wide(each.by_channel(rows)).sum(0))
    return {number: torch.stack(maps) for number, maps in found.items()}


def _summed(maps: Tensor) -> Tensor:
    """The sum over all locations, `(row, channel)`."""
    return wide(maps).flatten(2).sum(2) if maps.ndim > 2 else maps
