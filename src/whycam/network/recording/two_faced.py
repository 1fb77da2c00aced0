"""Relevance as Chefer's first method hands it back (arXiv:2012.09838, section 3.1), beside gradients, from one forward.

Every function has two backwards: its gradient, and the relevance of what it was given from that of what it returned.
One backward through the graph is made with the first, and one, while the mode is `turned`, with the second:

- a linear layer or convolution hands back by what is positive of each product (the z+ rule, for inputs of any sign); a
  bias gets nothing;
- a product of two matrices, a sum and a mean hand back in proportion to what each value added; a factor gets half;
- the sum of two branches does so too, and then each branch has the share of its magnitude in its sample (equation 8; in
  the authors' code over the whole batch, so that there a batch is not its samples);
- normalizations, activations, softmax, and products with a number hand back what they get.

Where a denominator is exactly zero nothing is handed back; the authors' code adds 1e-9 to denominators.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor

from whycam.kit.arrays import wide
from whycam.network.attention.capture import MOVES, VIEWS, softmax_of
from whycam.network.pytree import mapped
from whycam.network.recording.relevance import (
    ACTIVATIONS,
    DIVISIONS,
    LAYERS,
    FunctionRules,
    copied,
    flat,
    in_place,
    live,
)

#: The relevance of a result, and the tensors that the function was given -> theirs.
Rule: TypeAlias = Callable[[Tensor, list[Tensor]], Sequence[Tensor | None]]

_PASSING = ACTIVATIONS | DIVISIONS | {
    "softmax", "safe_softmax", "sigmoid", "hardsigmoid", "relu", "leaky_relu", "prelu", "abs", "exp", "neg", "dropout",
    "layer_norm", "rms_norm", "group_norm", "batch_norm", "instance_norm", "mul", "multiply", "imul", "rmul",
}  # fmt: skip
_BRANCHES = {"add", "iadd", "radd", "sub", "isub"}
_FACTORS = {"matmul", "rmatmul", "bmm", "mm", "einsum"}
_TOTALS = {"mean", "sum", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"}
# what moves values about: the gradient hands relevance back as well, and past a constant that is added, too
_MOVING = VIEWS | MOVES | _BRANCHES | {
    "cat", "concat", "concatenate", "stack", "index_select", "gather", "masked_fill", "where", "roll", "flip", "repeat",
    "repeat_interleave", "pad", "unfold", "pixel_shuffle", "pixel_unshuffle", "copy", "data",
}  # fmt: skip
_HOLE = object()


class TwoFaced(FunctionRules):
    """What runs while it is entered can be gone back through twice; `turning` is around the second time.

    Attributes:
        left: functions without a rule that were met; they hand back gradients both times.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left: dict[str, None] = {}
        self.turned = False

    @contextmanager
    def turning(self) -> Iterator[None]:
        """A block in which backwards hand back relevance."""
        self.turned = True
        try:
            yield
        finally:
            self.turned = False

    def result(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Tensor]
    ) -> Any:
        """The same value, with both backwards."""
        rule = _rule(func, name, args, kwargs, found)
        if rule is None:
            made = func(*args, **kwargs)
            if name not in _MOVING and any(map(live, flat(made))):
                self.left[name] = None
            return made
        value = func(*copied(func, args), **kwargs)
        if value._is_view() or any(hasattr(value.grad_fn, f"_saved_{word}") for word in ("result", "output", "out")):
            value = value.clone()  # the gradient needs the tensor as it is
        # where the function writes to what it is given, that is a copy, and so is what the rule looks at
        given = [each for each in flat((copied(func, args), kwargs)) if live(each)]
        made = _Faced.apply(self, rule, name in _PASSING, value, *given)  # type: ignore[no-untyped-call]
        return in_place(func, args, made)


class _Faced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mode: TwoFaced, rule: Rule, passes: bool, value: Tensor, *given: Tensor) -> Tensor:
        ctx.mode, ctx.rule, ctx.shapes = mode, rule, [each.shape for each in given]
        ctx.set_materialize_grads(False)
        ctx.mark_dirty(value)
        # what only passes relevance on needs no values, which may be written to afterwards
        ctx.save_for_backward(*([] if passes else given))
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        if gradient is None or not ctx.mode.turned:
            return None, None, None, gradient, *[None] * len(ctx.shapes)
        with torch._C.DisableTorchFunction():
            shares = ctx.rule(wide(gradient), [wide(each.detach()) for each in ctx.saved_tensors])
        fitting = [
            None if each is None else each.sum_to_size(shape) for each, shape in zip(shares, ctx.shapes, strict=True)
        ]
        return None, None, None, None, *fitting


def _rule(
    func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Tensor]
) -> Rule | None:
    """What is handed back by a function; `None` where the gradient does it: what moves values, and adds constants."""
    count = len(found)
    if name in DIVISIONS and count == 2:
        return lambda relevance, _: [relevance, None]
    if name in _PASSING:
        return lambda relevance, _: [relevance / count] * count
    fixed: tuple[Any, Any] = mapped((args, kwargs), lambda each: _HOLE if live(each) else wide(each))

    def again(*given: Tensor) -> Any:
        stream = iter(given)
        new, named = mapped(fixed, lambda _: next(stream), lambda value: value is _HOLE)
        return func(*copied(func, new), **named)

    if name == "scaled_dot_product_attention" and not kwargs.get("enable_gqa"):
        return lambda relevance, given: _attended(relevance, given, *fixed[0], **fixed[1])
    if name in LAYERS and count == 1:
        first = ("input", "weight", "bias")  # positional or by name, as timm's EVA and BEiT have them
        weight = {**dict(zip(first, fixed[0], strict=False)), **fixed[1]}["weight"]
        rest, named = fixed[0][3:], {key: value for key, value in fixed[1].items() if key not in first}
        return lambda relevance, given: [_positive(func, relevance, given[0], weight, rest, named)]
    if name in _FACTORS:
        return lambda relevance, given: [each / count for each in _in_proportion(again, relevance, given)]
    if name in _BRANCHES and count == 2:
        return lambda relevance, given: _balanced(_in_proportion(again, relevance, given), relevance)
    if name in _TOTALS:
        return lambda relevance, given: _in_proportion(again, relevance, given)
    return None


def _in_proportion(function: Callable[..., Any], relevance: Tensor, given: Sequence[Tensor]) -> list[Tensor]:
    """Each value's part in a result that is linear in each of the tensors."""
    leaves = [each.detach().requires_grad_() for each in given]
    with torch.enable_grad():
        made = function(*leaves)
    slopes = torch.autograd.grad(made, leaves, _ratio(relevance, made.detach()))
    return [each.detach() * slope for each, slope in zip(leaves, slopes, strict=True)]


def _positive(
    func: Callable[..., Any], relevance: Tensor, given: Tensor, weight: Tensor, rest: Sequence[Any], named: Any
) -> Tensor:
    """By products of inputs and weights of one sign."""
    more, less = weight.clamp(min=0), weight.clamp(max=0)

    def run(above: Tensor, below: Tensor) -> Any:
        return func(above, more, None, *rest, **named) + func(below, less, None, *rest, **named)

    first, second = _in_proportion(run, relevance, [given.clamp(min=0), given.clamp(max=0)])
    return first + second


def _attended(
    relevance: Tensor,
    given: Sequence[Tensor],
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> list[Tensor]:
    """The two products of fused attention; softmax between them hands back what it gets."""
    stream, fixed = iter(given), (query, key, value)
    query, key, value = (next(stream) if each is _HOLE else each for each in fixed)
    weights = softmax_of(query, key, attn_mask, is_causal, scale)
    of_weights, of_values = (each / 2 for each in _in_proportion(torch.matmul, relevance, [weights, value]))
    of_both = _in_proportion(lambda query, key: query @ key.mT, of_weights, [query, key])
    count = sum(each is _HOLE for each in fixed[:2]) or 1
    parts = [*(each / count for each in of_both), of_values]
    return [part for part, each in zip(parts, fixed, strict=True) if each is _HOLE]


def _balanced(parts: Sequence[Tensor], relevance: Tensor) -> list[Tensor]:
    """Two branches' parts, scaled to the share of each branch's magnitude in the relevance of its sample."""
    sums = [_by_sample(each) for each in parts]
    whole = sums[0].abs() + sums[1].abs()
    total = _by_sample(relevance)
    return [
        part * _ratio(_ratio(own.abs(), whole) * total, own).reshape(-1, *[1] * (part.ndim - 1))
        for part, own in zip(parts, sums, strict=True)
    ]


def _by_sample(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)


def _ratio(one: Tensor, other: Tensor) -> Tensor:
    return (one / other).masked_fill(other == 0, 0)
