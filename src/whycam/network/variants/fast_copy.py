"""A private copy of a network that scores many variants quickly; the user's model is not touched."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from whycam.errors import WhycamError
from whycam.kit.arrays import apart, noise_like
from whycam.network.adapted import refuse_adapted
from whycam.network.hooks import Inputs, call
from whycam.network.preserve_state import acting, as_found
from whycam.network.pytree import first_tensor, mapped, on_first_sample, pictures, replaced, tensors
from whycam.network.unwrap import eager
from whycam.network.variants.folding import fold
from whycam.network.variants.shared_copy import twin

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
#: How far a copy's answers may be from those before it was changed, in parts of the largest: what rounding comes to.
_ROUNDING = 1e-4
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class Prepared:
    """A private copy of a network.

    Attributes:
        module: the copy, without gradients; it takes hooks, and calling it never touches the user's model.
        precision: what it computes in, and takes (`given`).
        folded: how many normalizations were folded into the convolution before them.
        channels_last: whether its convolutions compute with the channels last.
        compiled: whether `at` compiles it.
        said: what was done, in words.
        sample: what it has answered already.
    """

    module: nn.Module
    precision: torch.dtype
    folded: int
    channels_last: bool
    compiled: bool
    said: str
    sample: Inputs

    def given(self, inputs: Inputs) -> Inputs:
        """Inputs in the copy's precision."""
        made: Inputs = _cast(inputs, self.precision)
        return made

    def at(self, rows: int) -> nn.Module:
        """What to call with up to so many rows at once: where it is compiled, code for exactly that many.

        The code is made here, which takes from seconds to minutes. Fewer rows are filled up, and the answers to the
        filling thrown away, since each other number would have to be compiled by itself. No hook fires in it.

        Raises:
            WhycamError: the copy cannot be compiled.
        """
        if not self.compiled:
            return self.module
        made = _Compiled(self.module, rows)
        try:
            # the code is for tensors of this kind of mode
            with torch.inference_mode(False), _no_autocast(self.sample):
                call(made, self.sample)
        except Exception as error:
            raise WhycamError(f"this network cannot be compiled ({first_line(error)}); leave out compile=.") from error
        return made


def prepare(
    model: nn.Module, inputs: Inputs, *, precision: Precision, keep: Collection[str] = (), compile: bool = False
) -> Prepared:
    """Make a private copy in a precision, its batch normalizations folded and its channels last where that is quicker.

    The last two are kept only if the copy then answers a sample, and noise, as it did before, up to rounding. That is
    found out in float32, in five forwards of one sample. The inputs stay the caller's.

    Args:
        keep: layers that will be recorded or replaced: what they are given and what they return stays what it is.
        compile: make a copy that `Prepared.at` compiles.

    Raises:
        WhycamError: the network is in training mode, cannot be copied, or does not run in that precision.
    """
    refuse_adapted(model, "a fast copy (precision=)", "leave precision= out")
    if acts := acting(model):
        raise WhycamError(
            f"precision= makes a copy that predicts, but {acts[0]!r} is in training mode, where it acts differently "
            "(batch statistics, dropout): call model.eval(), or leave out precision=."
        )
    dtype: torch.dtype = getattr(torch, precision)
    with torch.inference_mode(False), torch.no_grad(), _no_autocast(inputs), eager(model):
        copy = _copied(model, torch.float32)
        given, on_noise = _answers_to_noise(copy, inputs)
        answers: list[list[Tensor]] = []
        folds = fold(copy, lambda: answers.append(_answers(copy, given)), keep)
        before = [(given, answers[0]), (_noise(given), on_noise)]
        turned = _turned(copy, torch.channels_last) if _pays(copy, first_tensor(inputs).device, dtype) else []
        if turned and not _holds(copy, before):
            _turned(copy, torch.contiguous_format)
            turned = []
        if folds and not turned and not _holds(copy, before):
            for each in folds:
                each.undo()
            folds = []
        if dtype is not torch.float32:
            copy, given = _copied(copy, dtype, _statistics(copy)), _cast(given, dtype)
            _check(copy, given, answers[0], precision)
    said: list[str] = [precision]
    if folds:
        said.append(f"{len(folds)} normalization{'s' * (len(folds) > 1)} folded")
    said += ["channels last"] * bool(turned) + ["compiled"] * compile
    return Prepared(copy, dtype, len(folds), bool(turned), compile, ", ".join(said), given)


def _no_autocast(inputs: Inputs) -> Any:
    return torch.autocast(first_tensor(inputs).device.type, enabled=False)


def _copied(model: nn.Module, dtype: torch.dtype, wide: Collection[int] = ()) -> nn.Module:
    """A private copy, its decimals of a type, except for the tensors in `wide`, which keep theirs."""

    def become(tensor: Tensor) -> Tensor:
        own = not tensor.is_floating_point() or id(tensor) in wide
        made = tensor.detach().to(tensor.dtype if own else dtype, copy=True)
        return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made

    made = twin(model, become)
    for module in made.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()
    return made


def _statistics(model: nn.Module) -> set[int]:
    """The numbers of batch normalizations, which take them in float32 beside half precision, where they may not fit."""
    norms = [module for module in model.modules() if isinstance(module, _NormBase)]
    return {id(each) for norm in norms for each in (*norm._parameters.values(), *norm._buffers.values())}


def _cast(inputs: Any, dtype: torch.dtype) -> Any:
    return mapped(inputs, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def _noise(inputs: Any) -> Any:
    """The inputs with noise, of the same mean and spread, for pictures."""
    for path, picture in pictures(inputs):
        inputs = replaced(inputs, path, noise_like(picture) + picture.mean())
    return inputs


def _answers(model: nn.Module, inputs: Any) -> list[Tensor]:
    """What a network answers, in tensors; random numbers in it are the same every time."""
    with as_found(model):
        output = call(model, mapped(inputs, torch.clone))
    return [tensor.float() for _, tensor in tensors(output) if tensor.is_floating_point()]


def _answers_to_noise(copy: nn.Module, inputs: Inputs) -> tuple[Any, list[Tensor]]:
    """One sample (all, where the network takes no less), and the answers to noise in its place."""
    try:
        run = lambda each: (each, _answers(copy, _noise(each)))  # noqa: E731
        return on_first_sample(run, _cast(inputs, torch.float32))[0]
    except Exception as error:
        raise WhycamError(_sentence("float32", first_line(error))) from error


def _holds(model: nn.Module, before: Sequence[tuple[Any, list[Tensor]]]) -> bool:
    """Whether a network answers as before, up to rounding."""
    try:
        return all(_agree(_answers(model, inputs), expected) for inputs, expected in before)
    except Exception:  # its own code may not expect such modules, or such strides
        return False


def _agree(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return 0 < len(found) == len(expected) and all(
        apart(one, other) <= _ROUNDING for one, other in zip(found, expected, strict=True)
    )


def _pays(model: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether convolutions are quicker with the channels last (docs/benchmarks.md)."""
    several = sum(isinstance(module, _CONVOLUTIONS) for module in model.modules()) > 1
    return several and (device.type == "cpu" or (device.type == "cuda" and dtype is not torch.float32))


def _turned(model: nn.Module, order: torch.memory_format) -> list[nn.Parameter]:
    """The weights of the two-dimensional convolutions, turned into an order in memory; their outputs follow."""
    weights = [module._parameters.get("weight") for module in model.modules() if isinstance(module, _CONVOLUTIONS)]
    found = [weight for weight in weights if weight is not None]
    for weight in found:
        weight.data = weight.data.contiguous(memory_format=order)
    return found


def _check(copy: nn.Module, given: Any, expected: Sequence[Tensor], precision: str) -> None:
    try:
        found = _answers(copy, given)
    except Exception as error:
        raise WhycamError(_sentence(precision, first_line(error))) from error
    if any((one.isfinite() != other.isfinite()).any() for one, other in zip(found, expected, strict=True)):
        raise WhycamError(_sentence(precision, "its answer is not finite"))


def _sentence(precision: str, why: str) -> str:
    other = "leave out precision=" if precision == "float32" else 'try precision="float32"'
    return f"a copy of this network in {precision} cannot be run: {why.rstrip('.')}. For this one, {other}."


def first_line(error: Exception) -> str:
    """What an error says first, behind its name if it is not whycam's own."""
    said = str(error).strip().partition("\n")[0]
    name = "" if isinstance(error, WhycamError) else type(error).__name__
    return ": ".join(filter(None, (name, said[:200].rstrip("."))))


class _Compiled(nn.Module):
    """Gives a compiled network batches of one size."""

    def __init__(self, module: nn.Module, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.run: Callable[..., Any] = torch.compile(module, dynamic=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = len(first_tensor((args, kwargs)))
        args, kwargs = mapped((args, kwargs), lambda tensor: self._filled(tensor, given))
        with torch.no_grad():
            output = self.run(*args, **kwargs)
        return mapped(output, lambda tensor: tensor[:given] if tensor.ndim and len(tensor) == self.rows else tensor)

    def _filled(self, tensor: Tensor, given: int) -> Tensor:
        if not tensor.ndim or len(tensor) != given or given == self.rows:
            return tensor
        return torch.cat([tensor, tensor[-1:].expand(self.rows - given, *tensor.shape[1:])])
