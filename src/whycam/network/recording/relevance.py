"""Layer-wise relevance propagation (LRP) as input times gradient: every rule of relevance, at the level of functions.

Relevance starts as the score and is handed back, function by function, in shares of what the function was given. Where
`relevance = value * gradient` holds at a function's result, it holds at what the function was given too, if the
gradient of the function is replaced by that of a stand-in. So each rule here is a stand-in, and the rest is autograd:

- a linear layer, a convolution, a sum, a mean, a pooling, a ReLU: itself (the epsilon rule with epsilon 0);
- an activation f: `x * (f(x) / x)` with the fraction a constant;
- a product with what a sigmoid made, which is a gate: the gate is a constant;
- a normalization: its deviation, or length, is a constant, and so is whatever else is divided by;
- a product of n tensors that depend on the input: the gradient of each is divided by n;
- softmax: itself in AttnLRP (arXiv:2402.05602), in CP-LRP (arXiv:2202.07304) a gate of what attention multiplies.

The rules are written from those papers and from Montavon et al., doi:10.1007/978-3-030-28954-6_10 (gamma). The authors
of AttnLRP's code say of LRP that it is patented and free for personal and scientific use only.

What the network computes is its own, and no module is touched. Parameters are constants here, so that what requires a
gradient is what depends on the input.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from types import FunctionType
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whycam.kit.arrays import wide
from whycam.kit.quantities import Rules
from whycam.network.attention.capture import name_of, opened
from whycam.network.hooks import on_gradient
from whycam.network.pytree import mapped, tensors

T = TypeVar("T")

# Functions by their names without underscores: those of one number that are 0 at 0,
ACTIVATIONS = {
    "gelu", "silu", "mish", "elu", "selu", "celu", "tanh", "softsign", "hardswish", "hardtanh", "relu6", "clamp",
    "clip", "clamp_min", "clamp_max", "softplus", "square", "sqrt", "pow", "hardshrink", "softshrink", "tanhshrink",
}  # fmt: skip
# statistics, which are constants;
_CONSTANTS = {
    "rsqrt", "reciprocal", "norm", "vector_norm", "linalg_vector_norm", "linalg_norm",
    "linalg_matrix_norm", "frobenius_norm", "std", "var", "std_mean", "var_mean",
}  # fmt: skip
DIVISIONS = {"div", "divide", "true_divide", "truediv", "itruediv"}
# products, with the position of the first factor.
_PRODUCTS = (
    dict.fromkeys(("mul", "multiply", "imul", "rmul", "matmul", "rmatmul", "bmm", "mm", "mv", "dot", "outer"), 0)
    | dict.fromkeys(("linear", "einsum", "tensordot", "conv1d", "conv2d", "conv3d"), 0)
    | dict.fromkeys(("addmm", "addbmm", "baddbmm", "addcmul", "addmv"), 1)
)
LAYERS = {"linear": "linear_gamma"} | dict.fromkeys(
    [f"conv{kind}{rank}d" for kind in ("", "_transpose") for rank in (1, 2, 3)], "conv_gamma"
)

#: Nodes of autograd's graph that are linear or homogeneous, for which relevance needs no rule, or that have one.
_RULED = re.compile(
    r"_Through|AccumulateGrad|Relu|LeakyRelu|Prelu|RreluWithNoise|Abs|Threshold|Softmax|SafeSoftmax"
    r"|ScaledDotProduct\w*|(Cudnn|Miopen|Native)?BatchNorm|(Native)?Dropout|FeatureDropout"
    r"|\w*Convolution\w*|Addmm|Addmv|Addbmm|Baddbmm|Bmm|Mm|Mv|Dot|Linear|Mul|Div|Add|Addcmul|Addcdiv|Sub|Rsub|Neg"
    r"|Mean|Sum|Nansum|Cumsum|\w*AvgPool\w*|\w*MaxPool\w*|Max|Min|Amax|Amin|Maximum|Minimum|Topk|Sort|Kthvalue|Median"
    r"|(Unsafe|ReshapeAlias|_)*View\w*|Reshape\w*|AsStrided\w*|Permute|Transpose|T|Slice|Select|Diagonal|Index\w*|Gather"
    r"|Squeeze|Unsqueeze|Expand|Repeat\w*|Cat|Stack|Split\w*|Unsafe\w*Split\w*|Chunk|Unbind|Clone|CopySlices|Copy\w*"
    r"|ToCopy|Alias|Lift\w*|Detach|Flip|Roll|Rot90|\w*Pad\w*|PixelShuffle|PixelUnshuffle|ChannelShuffle|Unfold|Im2Col"
    r"|Col2Im|Upsample\w*|Where|MaskedFill|MaskedSelect|Tril|Triu|Scatter\w*|SliceScatter|Fill|Zero|Contiguous|ToDtype"
)


#: Nodes that move, scale or mix the values of a gate, which stays one.
_CARRYING = re.compile(
    r"(Unsafe|ReshapeAlias|_)*View\w*|AsStrided\w*|Permute|Transpose|T|Slice|Select|Index\w*|Squeeze|Unsqueeze|Expand"
    r"|Repeat\w*|Cat|Stack|Split\w*|Unbind|Clone|Copy\w*|ToCopy|Alias|(Native)?Dropout|Mul|Div|Add|Sub|Rsub|Addmm|Mm|Bmm"
    r"|\w*Convolution\w*|(Cudnn|Miopen|Native)?BatchNorm|MaskedFill|Where|Flip|Roll|Upsample\w*"
)
_SIGMOIDS = {"Sigmoid", "Hardsigmoid"}


class FunctionRules(TorchFunctionMode, ABC):
    """A rule for each function that is called with what depends on the input. Parameters are constants."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = {} if kwargs is None else dict(kwargs)
        if isinstance(func, FunctionType) and func.__code__.co_filename in (F.__file__, torch.autograd.__file__):
            with self:  # its steps have rules; and a network that computes a part again has them in the backward too
                return opened(func)(*args, **kwargs)
        if getattr(func, "__name__", "") != "__set__":
            args, kwargs = mapped((args, kwargs), _constant)
        found = [each for each in flat((args, kwargs)) if live(each)]
        if not found:
            return func(*args, **kwargs)
        for number, word in enumerate(("input", "other")):
            if len(args) == number and word in kwargs:
                args = (*args, kwargs.pop(word))
        return self.result(func, name_of(func), args, kwargs, found)

    @abstractmethod
    def result(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Tensor]
    ) -> Any:
        """What a function returns; `found` are the tensors among its arguments that depend on the input."""


class Relevance(FunctionRules):
    """The rules while it is entered: what a network returns is the same, and its gradients are those of relevance.

    Args:
        rules: which ones.
        linear_gamma, conv_gamma: of linear layers and of convolutions: how much more what agrees in sign with the
            result counts than what does not (the generalized gamma rule); 0 is the epsilon rule.

    Attributes:
        left: functions without a rule that were met; they pass gradients as they are.
    """

    def __init__(self, rules: Rules = "cp_lrp", *, linear_gamma: float = 0.0, conv_gamma: float = 0.0) -> None:
        super().__init__()
        self.rules = rules
        self.gammas = {"linear_gamma": linear_gamma, "conv_gamma": conv_gamma}
        self.left: dict[str, None] = {}
        #: Nodes of autograd's graph that make a gate.
        self.gates = _SIGMOIDS if rules == "attn_lrp" else _SIGMOIDS | {"Softmax", "SafeSoftmax"}

    def result(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Tensor]
    ) -> Any:
        """The same value, with the gradient of a stand-in."""
        if name in ACTIVATIONS and live(args[0]) and not _falls(name, args):
            return in_place(func, args, _activated(func, args, kwargs))
        if name in _CONSTANTS or _falls(name, args):
            return in_place(func, args, func(*_stopped(copied(func, args)), **_stopped(kwargs)))
        if name in DIVISIONS and live(args[1]):
            return func(args[0], args[1].detach(), *args[2:], **kwargs)
        if name in LAYERS and (gamma := self.gammas[LAYERS[name]]) and len(found) == 1:
            return _enhanced(func, gamma, *args, **kwargs)
        if name in _PRODUCTS:
            return _product(func, _PRODUCTS[name], args, kwargs, self.gates)
        rule = getattr(self, f"_{name}", None)
        return func(*args, **kwargs) if rule is None else rule(func, *args, **kwargs)

    def met(self, output: Any) -> None:
        """Look for functions without a rule in the graph of what a network returned."""
        todo, known = [tensor.grad_fn for _, tensor in tensors(output)], set[Any]()
        while todo:
            node = todo.pop()
            if node is None or node in known:
                continue
            known.add(node)
            name = _kind(node)
            # what is a gate of nothing, such as the network's last sigmoid, has no rule either
            if not _RULED.fullmatch(name) or name in self.gates:
                self.left[_plain(name)] = None
            todo += [source for source, _ in node.next_functions]

    def _scaled_dot_product_attention(
        self, func: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        if self.rules == "cp_lrp":
            return func(query.detach(), key.detach(), value, *args, **kwargs)
        both = 2 if live(value) and (live(query) or live(key)) else 1
        scores = 2 if live(query) and live(key) else 1
        query, key = (_shared(each, both * scores) for each in (query, key))
        return func(query, key, _shared(value, both), *args, **kwargs)

    def _glu(self, func: Any, given: Tensor, dim: int = -1) -> Tensor:
        kept, gate = given.chunk(2, dim)
        return _through(func(given.detach(), dim), kept * gate.detach().sigmoid())

    def _layer_norm(
        self,
        func: Any,
        given: Tensor,
        normalized_shape: Any,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        *rest: Any,
    ) -> Tensor:
        value = func(given.detach(), normalized_shape, weight, bias, eps, *rest)
        made = _standardized(given, range(-len(normalized_shape), 0), eps)
        return _through(value, made if weight is None else made * weight)

    def _rms_norm(
        self, func: Any, given: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
    ) -> Tensor:
        value = func(given.detach(), normalized_shape, weight, eps)
        eps = torch.finfo(given.dtype).eps if eps is None else eps
        made = _standardized(given, range(-len(normalized_shape), 0), eps, center=False)
        return _through(value, made if weight is None else made * weight)

    def _group_norm(
        self,
        func: Any,
        given: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        *rest: Any,
    ) -> Tensor:
        value = func(given.detach(), num_groups, weight, bias, eps, *rest)
        parts = given.reshape(given.shape[0], num_groups, -1, *given.shape[2:])
        made = _standardized(parts, range(2, parts.ndim), eps).flatten(1, 2)
        return _through(value, _per_channel(made, weight))

    def _batch_norm(self, func: Any, given: Tensor, *args: Any, axes: tuple[int, ...] = (0,)) -> Tensor:
        weight, _, _, _, own, _, eps, *_ = args
        if not own:  # by statistics that are kept, it is linear
            made: Tensor = func(given, *args)
            return made
        value = func(given.detach(), *args)
        return _through(value, _per_channel(_standardized(given, (*axes, *range(2, given.ndim)), eps), weight))

    def _instance_norm(self, func: Any, given: Tensor, *args: Any) -> Tensor:
        return self._batch_norm(func, given, *args, axes=())


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, stand_in: Tensor) -> Tensor:
        ctx.mark_dirty(value)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, gradients[0]


def _through(value: Tensor, stand_in: Tensor) -> Tensor:
    """A function's value, with the gradient of what stands in for it."""
    made: Tensor = _Through.apply(value, stand_in)  # type: ignore[no-untyped-call]
    return made


def _activated(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """What an activation function gets goes back whole to what it was given (the identity rule)."""
    given = args[0]
    value = func(*_stopped(copied(func, args)), **_stopped(kwargs))
    return _through(value, given * (value / given.detach()).masked_fill(given == 0, 0))


def _shared(tensor: Tensor, parts: int) -> Tensor:
    """The same numbers, to which a part of the gradient goes back."""
    if parts == 1 or not live(tensor):
        return tensor
    seen = tensor.view_as(tensor)
    on_gradient(seen, lambda gradient: gradient / parts)
    return seen


def _product(
    func: Callable[..., Any], start: int, args: tuple[Any, ...], kwargs: Mapping[str, Any], gates: Collection[str]
) -> Any:
    """Each factor that depends on the input gets an equal share (the uniform rule), and a gate of others nothing."""
    found = [each for each in flat((args[start:], kwargs)) if live(each)]
    if len(found) < 2:
        return func(*args, **kwargs)
    closed = {id(each) for each in found if _is_gate(each.grad_fn, gates)}
    factors = len([each for each in found if id(each) not in closed])
    if not factors:
        closed, factors = set(), len(found)

    def given_to(each: Tensor) -> Tensor:
        return each.detach() if id(each) in closed else _shared(each, factors)

    if _writes(func):  # to what the product still needs
        first = given_to(args[0]).clone()
        given, named = (first, *mapped(args[1:], given_to)), kwargs
    else:
        given, named = mapped((args[start:], kwargs), given_to)
    plainly = torch.mul if name_of(func) == "imul" else getattr(torch, name_of(func)) if _writes(func) else func
    return in_place(func, args, plainly(*args[:start], *given, **named))


def _enhanced(func: Callable[..., Any], gamma: float, given: Tensor, weight: Tensor, bias: Any = None, *rest: Any,
              **options: Any) -> Any:  # fmt: skip
    """The generalized gamma rule: parts that agree in sign with the result count `1 + gamma` times.

    Where the result is above 0, these are positive inputs with positive weights and negative with negative; where it is
    below, the others. A bias is a part, too, and keeps its share. What is divided by is never nearer to 0 than the
    result.
    """
    value = func(given.detach(), weight, bias, *rest, **options)
    more, less = weight + gamma * weight.clamp(min=0), weight + gamma * weight.clamp(max=0)
    above, below = given * (given > 0), given * (given < 0)
    shape = (-1,) if name_of(func) == "linear" else (-1, *[1] * (weight.ndim - 2))
    made: Any = 0
    for sign, first, second in ((1, more, less), (-1, less, more)):
        parts = func(above, first, None, *rest, **options) + func(below, second, None, *rest, **options)
        own = 0 if bias is None else (bias + gamma * sign * (sign * bias).clamp(min=0)).reshape(shape)
        made = made + parts * torch.where(sign * value > 0, value / (parts.detach() + own), torch.zeros_like(value))
    return _through(value, made)


def _standardized(given: Tensor, axes: Iterable[int], eps: float, *, center: bool = True) -> Tensor:
    """Less its mean, by its deviation, which is a constant."""
    axes = tuple(axes)
    made = given - given.mean(axes, keepdim=True) if center else given
    squares = wide(made.detach()).square().mean(axes, keepdim=True)
    return made * (squares + eps).rsqrt().to(given.dtype)


def _per_channel(made: Tensor, weight: Tensor | None) -> Tensor:
    return made if weight is None else made * weight.reshape(-1, *[1] * (made.ndim - 2))


def _falls(name: str, args: tuple[Any, ...]) -> bool:
    """Whether this is a power below zero: one divided by a statistic."""
    return name == "pow" and isinstance(args[1], (int, float)) and args[1] < 0


def live(value: Any) -> bool:
    """Whether a value depends on the input."""
    return isinstance(value, Tensor) and value.requires_grad


def flat(value: Any) -> list[Tensor]:
    return [tensor for _, tensor in tensors(value)]


def _constant(tensor: Tensor) -> Tensor:
    return tensor.detach() if isinstance(tensor, nn.Parameter) else tensor


def _stopped(value: T) -> T:
    made: T = mapped(value, lambda tensor: tensor.detach())
    return made


def _writes(func: Callable[..., Any]) -> bool:
    """Whether a function writes to its first argument."""
    name: str = getattr(func, "__name__", "")
    return name.startswith("__i") if name.endswith("__") else name.endswith("_")


def copied(func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same arguments, for a function that may write to the first."""
    return (args[0].clone(), *args[1:]) if _writes(func) else args


def in_place(func: Callable[..., Any], args: tuple[Any, ...], made: T) -> T:
    """What was made, written to the first argument if that is what the function does."""
    if not _writes(func):
        return made
    assert isinstance(made, Tensor)
    if not made.requires_grad and not args[0]._is_view():
        args[0].detach_()
    written: T = args[0].copy_(made)
    return written


def _kind(node: Any) -> str:
    """What a node of autograd's graph did: `Addmm` for `AddmmBackward0`."""
    return re.sub(r"Backward\d*$", "", node.name().rpartition("::")[2])


def _is_gate(node: Any, gates: Collection[str], steps: int = 30) -> bool:
    """Whether a node made its values of nothing but gates."""
    if node is None or not steps or _kind(node) in gates:
        return node is not None and steps > 0
    before = [each for each, _ in node.next_functions if each is not None]
    carries = bool(before) and _CARRYING.fullmatch(_kind(node)) is not None
    return carries and all(_is_gate(each, gates, steps - 1) for each in before)


def _plain(name: str) -> str:
    """A node's name as that of a function: `LogSoftmax` is `log_softmax`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")
