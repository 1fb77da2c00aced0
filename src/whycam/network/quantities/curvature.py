"""How a score bends at a layer: its Hessian there times the layer's activations."""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from whycam.errors import WhycamError
from whycam.kit.arrays import wide
from whycam.network.adapted import refuse_adapted
from whycam.network.hooks import Inputs
from whycam.network.outputs import OutputPath
from whycam.network.recording.record import LayerRecord
from whycam.network.shared import Shared
from whycam.network.variants.layer_edit import Answer, Asked, answer, asked_of, differentiated
from whycam.targets import ResolvedTarget


@Shared
def _plain_attention() -> Generator[None]:
    """Attention computed step by step and not by a fused kernel; another thread's gives the same, more slowly."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def curvature(
    model: nn.Module,
    inputs: Inputs,
    record: LayerRecord,
    bound: ResolvedTarget,
    part: OutputPath | None,
    output: Tensor | None = None,
) -> Tensor:
    """The Hessian of each sample's score with respect to the layer times the layer, in maps layout, float32 at least.

    The layer is all that it returns, class tokens included, as in ShapleyCAM's own code; what no map shows is left out
    of the result. 0 where the score does not depend on the layer, or is piecewise linear in it, as a logit above
    nothing but ReLUs and pooling. Costs a forward with gradients on from the layer and two backwards to it; both again
    where a fused kernel cannot be differentiated twice and what it computes is done step by step.

    Args:
        model: the unwrapped module. inputs: what it was given.
        record: what was recorded of the layer. bound: the settled target.
        part: which part of the output is explained. output: what was recorded of it, by which the part of the network
            above the layer is known to run by itself; without, whole forwards are made.

    Raises:
        WhycamError: some operation above the layer cannot be differentiated twice.
    """
    refuse_adapted(model, "a second derivative", "use grad_cam, which needs one", unless_in_torch=True)
    asked = asked_of(model, inputs, record, part, output)
    with torch.inference_mode(False):
        try:
            found = _product(asked, bound)
        except RuntimeError as error:
            if not _once_only(error):
                raise
            try:
                with _plain_attention():
                    found = _product(asked, bound, _Composed())
            except RuntimeError as other:
                if why := _once_only(other):
                    raise WhycamError(
                        f"the part above {asked} cannot be differentiated twice ({why}), which the curvature of the "
                        "score takes; choose a later layer, or use grad_cam, which needs one derivative."
                    ) from other
                raise
        return torch.zeros_like(record.activations) if found is None else found


def _product(asked: Asked, bound: ResolvedTarget, around: AbstractContextManager[Any] | None = None) -> Tensor | None:
    def attempt(from_start: bool) -> tuple[Answer, Tensor, Tensor | None]:
        leaves: list[Tensor] = []

        def begin(rows: Tensor) -> Tensor:
            torch.set_grad_enabled(True)
            leaves.append(rows.detach().clone().requires_grad_())
            return leaves[-1].clone()  # an in-place operation next in the network must not reach the leaf

        made = answer(asked, begin, from_start=from_start, around=around)
        with torch.enable_grad():
            scores = bound(made.output)
        if not scores.requires_grad:
            return made, scores, None
        # a seed that requires grad keeps every step of the backward in the graph
        seed = torch.ones_like(scores).requires_grad_()
        first = torch.autograd.grad(scores, leaves, seed, create_graph=True, allow_unused=True)
        pairs = [(each, leaf.detach()) for each, leaf in zip(first, leaves, strict=True) if each is not None]
        if not pairs:
            return made, scores, None
        gradients, along = zip(*pairs, strict=True)
        _refuse_errors(gradients)
        second = torch.autograd.grad(gradients, leaves, along, allow_unused=True)
        products = [torch.zeros_like(leaf) if each is None else each for each, leaf in zip(second, leaves, strict=True)]
        maps = asked.layer.layout.to_maps(made.by_sample(products).detach())
        return made, scores, wide(maps)

    return differentiated(asked, attempt)


def _refuse_errors(gradients: Iterable[Tensor]) -> None:
    """Raise what torch would where a function forbids a second derivative, which cuts the way and may go unnoticed."""
    todo, known = [each.grad_fn for each in gradients], set()
    while todo:
        node = todo.pop()
        if node is None or node in known:
            continue
        known.add(node)
        if node.name().endswith("autograd::Error"):
            raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")
        todo += [source for source, _ in node.next_functions]


def _once_only(error: RuntimeError) -> str:
    """What torch says of an operation that can be differentiated once and no more; empty for any other error."""
    said = str(error).splitlines()[0] if str(error) else ""
    marks = ("derivative for", "differentiate twice", "double backward", "twice differentiable")
    return said.rstrip(".") if any(mark in said.lower() for mark in marks) else ""


class _Composed(TorchFunctionMode):
    """Functions without a second derivative made of others that have one."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return (_hardsigmoid if func is F.hardsigmoid else func)(*args, **(kwargs or {}))


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    made = F.relu6(input + 3) / 6
    return input.copy_(made) if inplace else made
