"""Attention as it runs: seen at the level of functions, so that nothing of the network is known beforehand or touched.

Attention comes in by three doors. `F.scaled_dot_product_attention` says by itself what it is given. Of
`F.multi_head_attention_forward` a copy runs that hands its steps to the mode. Where a network writes the softmax
itself, its result is followed through what moves or mixes it to the product with the values: that product, and no name,
says that it is attention. What is followed is known by the tensor and forgotten with it; no tensor is marked.

The network's own functions run on its own tensors, so its answer is the same to the bit. Only the fused inference path
of `nn.MultiheadAttention` and `nn.TransformerEncoder` turns itself off while a mode is active, as with autograd.
"""

import functools
import re
import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from whycam.errors import WhycamError
from whycam.kit.arrays import wide
from whycam.network.hooks import on_gradient

# Functions by their names without underscores: what multiplies two matrices,
_PRODUCTS = {"matmul", "bmm", "baddbmm", "einsum"}
# what looks at the same numbers, in another order or at some of them,
VIEWS = {
    "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "permute", "T", "mT", "H", "mH", "t", "adjoint",
    "getitem", "narrow", "select", "split", "chunk", "unbind", "squeeze", "unsqueeze",
}  # fmt: skip
# what keeps the numbers in their order,
MOVES = {
    "reshape", "view", "reshape_as", "view_as", "flatten", "unflatten", "expand", "expand_as", "contiguous", "clone",
    "to", "type", "type_as", "float", "half", "bfloat16", "double",
}  # fmt: skip
# and what changes numbers or mixes heads, and leaves the axes of queries and keys as they are.
_CHANGES = {
    "dropout", "feature_dropout", "linear", "conv1d", "conv2d", "batch_norm", "add", "iadd", "radd", "sub", "isub",
    "mul", "imul", "rmul", "div", "truediv", "itruediv", "masked_fill", "where", "clamp", "clip", "maximum", "tanh",
    "nan_to_num",
}  # fmt: skip


@dataclass(eq=False)
class Attention:
    """One attention as it runs; tensors with the network's own leading axes, heads among them.

    Attributes:
        number: in running order.
        query, key: `(..., query, width)` and `(..., key, width)`, before a scale that is a plain number; `None` where
            they were not seen.
        value: `(..., key, width)`.
        output: `(..., query, width)`, with its graph.
        projection: weight and bias of the first linear layer that the output comes to unchanged, once it has been seen.
    """

    number: int
    query: Tensor | None
    key: Tensor | None
    value: Tensor
    output: Tensor
    rebuilt: Callable[[], Tensor] = field(repr=False)
    projection: tuple[Tensor, Tensor | None] | None = None

    def weights(self) -> Tensor:
        """What multiplies the values, `(..., query, key)`, detached, float32 at least.

        Computed anew at each call where a fused kernel ran, which keeps none. Of a capture that calls `seen` and waits
        for no backward they are had inside of `seen` alone.

        Raises:
            WhycamError: a fused kernel ran with dropout, whose choice is lost.
        """
        with torch.no_grad():
            found = wide(self.rebuilt())
            return found.expand(*self.output.shape[:-2], *found.shape[-2:])


class _Trail(NamedTuple):
    """What a tensor came of: scores, `query @ key^T`, or the weights that softmax made of them.

    `keys` is the axis of the keys, counted from the end.
    """

    query: Tensor | None
    key: Tensor | None
    keys: int
    weights: bool = False


class Capture(TorchFunctionMode):
    """While it is entered, every attention that runs in this thread is found.

    Gradients of attention weights are `output_gradients @ value^T`, exactly, so no more is needed of the backward.

    Args:
        seen: called in the forward after each attention.
        arrived: called in every backward with an attention and the gradient of its output. Gradients are then turned
            on at the first attention and stay on. The backward has to go to all `starts`; hooks live as long as this.

    Attributes:
        found: in running order.
        starts: tensors that the backward has to go to for it to pass every attention: one of the operands of each
            attention that does not depend on another, detached where none requires a gradient.
    """

    def __init__(
        self,
        seen: Callable[[Attention], None] | None = None,
        arrived: Callable[[Attention, Tensor], None] | None = None,
    ) -> None:
        super().__init__()
        self.seen, self.arrived = seen, arrived
        self.found: list[Attention] = []
        self.starts: list[Tensor] = []
        self._trails: MutableMapping[Tensor, _Trail | weakref.ref[Attention]] = WeakTensorKeyDictionary()
        #: What became a tensor when it was multiplied by a plain number.
        self._unscaled: MutableMapping[Tensor, Tensor] = WeakTensorKeyDictionary()
        self._passed: set[Any] = set()  # the nodes of outputs in autograd's graph

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._fused(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:
                return opened(func)(*args, **kwargs)
        name = name_of(func)
        if name in _PRODUCTS:
            return self._product(func, name, args, kwargs)
        output = func(*args, **kwargs)
        if name in ("softmax", "safe_softmax"):
            self._softmax(args, kwargs, output)
        elif name in VIEWS or name in MOVES or name in _CHANGES:
            for tensor in _tensors((*args, *kwargs.values())):
                if (trail := self._trails.get(tensor)) is not None:
                    self._follow(trail, tensor, name, func, args, kwargs, output)
                    break
            else:
                if name in ("mul", "imul", "rmul") and isinstance(args[1], float):
                    self._unscaled[output] = args[0]
        return output

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        value = self._begun((query, key, value), value)
        output = F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **options)
        if options.get("enable_gqa"):
            key, value = (each.repeat_interleave(query.size(-3) // each.size(-3), -3) for each in (key, value))
        scale = options.get("scale")

        def rebuilt() -> Tensor:
            if dropout_p:
                raise WhycamError(
                    "attention ran with dropout inside a fused kernel, so what multiplied the values cannot be "
                    "computed again; put the model in evaluation mode, model.eval()."
                )
            return softmax_of(wide(query), wide(key), attn_mask, is_causal, scale)

        self._add(query, key, value, output, rebuilt)
        return output

    def _product(self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A product of two matrices: weights and values, or the scores of what follows."""
        pair = _tensors((*args, *kwargs.values()))[-2:]
        orders = _orders(args[0] if name == "einsum" else None, pair)
        if orders is None:
            return func(*args, **kwargs)
        left, right, made = orders
        if trail := self._sums_keys(pair[0], left[-1]):
            return self._attended(func, args, kwargs, trail, (pair[0], left), (pair[1], right), made)
        if trail := self._sums_keys(pair[1], right[-2]):
            left, right, made = _turned(left), _turned(right), _turned(made)
            return self._attended(func, args, kwargs, trail, (pair[1], right), (pair[0], left), made)
        output = func(*args, **kwargs)
        query, key = (self._unscaled.get(each, each) for each in pair)
        keys = made[-1] - output.ndim
        self._trails[output] = _Trail(_arranged(query, left), _arranged(key, _turned(right)), keys)
        return output

    def _sums_keys(self, tensor: Tensor, axis: int) -> _Trail | None:
        """What is known of attention weights whose keys a product sums over with this axis of a tensor, if they are."""
        trail = self._trails.get(tensor)
        sums = isinstance(trail, _Trail) and trail.weights and trail.keys + tensor.ndim == axis
        return cast(_Trail, trail) if sums else None

    def _attended(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        trail: _Trail,
        first: tuple[Tensor, list[int]],
        second: tuple[Tensor, list[int]],
        made: list[int],
    ) -> Tensor:
        """The product of weights and values, with their axes in the order `(..., query, key)`, `(..., key, width)`."""
        (weights, order), (value, other) = first, second
        begun = self._begun((weights, value), weights)
        args = _with(args, weights, begun)
        output = _arranged(func(*args, **{name: _with(each, weights, begun) for name, each in kwargs.items()}), made)
        kept = _arranged(weights.detach(), order)
        self._add(trail.query, trail.key, _arranged(value, other), output, lambda: kept)
        # what the network goes on with comes of the output that is watched
        returned = _arranged(output, [made.index(axis) for axis in range(len(made))])
        self._trails[returned] = self._trails[output]
        return returned

    def _softmax(self, args: Sequence[Any], kwargs: Mapping[str, Any], output: Tensor) -> None:
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if dim not in (-1, output.ndim - 1):
            return
        trail = self._trails.get(_tensors((*args, *kwargs.values()))[0])
        query, key = None, None
        if isinstance(trail, _Trail) and trail.keys in (-1, -2):
            query, key = (trail.query, trail.key) if trail.keys == -1 else (trail.key, trail.query)
        self._trails[output] = _Trail(query, key, -1, weights=True)

    def _follow(
        self,
        trail: _Trail | weakref.ref[Attention],
        source: Tensor,
        name: str,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Any,
    ) -> None:
        """What a function makes of a tensor that is followed, and where the keys lie then."""
        if isinstance(trail, weakref.ref):
            if name == "linear":
                given = dict(zip(("input", "weight", "bias"), args, strict=False)) | dict(kwargs)
                if (attention := trail()) is not None and attention.projection is None:
                    attention.projection = given["weight"], given.get("bias")
            elif name not in _CHANGES:
                for each in _tensors((output,)):
                    self._trails[each] = trail
            return
        made = _tensors((output,))
        places = [trail.keys] * len(made)
        if name in VIEWS:
            # a stand-in without numbers, whose strides are 0 except for the keys', tells where the keys go
            keys = source.ndim + trail.keys
            shape = [max(2, size) if axis == keys else size for axis, size in enumerate(source.shape)]
            strides = [int(axis == keys) for axis in range(source.ndim)]
            stand_in = torch.empty_strided(shape, strides, device="meta")
            moved = _tensors((func(*_with(args, source, stand_in), **kwargs),))
            places = [_place(each) for each in moved]
        elif name == "linear" and trail.keys == -1:
            return  # sums over the keys, with fixed numbers for values
        for each, keys in zip(made, places, strict=True):
            kept = name in VIEWS or (each.ndim + keys >= 0 and each.shape[keys] == source.shape[keys])
            if keys and kept and (name in VIEWS or name in MOVES or each.ndim == source.ndim):
                self._trails[each] = trail._replace(keys=keys)

    def _begun(self, operands: Iterable[Tensor], chosen: Tensor) -> Tensor:
        """The chosen operand, at which the graph begins if nothing before this attention is in it."""
        if self.arrived is None:
            return chosen
        torch.set_grad_enabled(True)
        live = [each for each in operands if each.requires_grad]
        if not live:
            chosen = chosen.detach().requires_grad_()
            self.starts.append(chosen)
        elif not self._depends(live):
            self.starts.append(live[0])
        return chosen

    def _depends(self, tensors: Iterable[Tensor]) -> bool:
        """Whether tensors depend on an attention before this; by the graph, for trainable weights require grad too."""
        todo, known = [each.grad_fn for each in tensors], set[Any]()
        while todo:
            node = todo.pop()
            if node in self._passed:
                return True
            if node is not None and node not in known:
                known.add(node)
                todo += [source for source, _ in node.next_functions]
        return False

    def _add(
        self, query: Tensor | None, key: Tensor | None, value: Tensor, output: Tensor, rebuilt: Callable[[], Tensor]
    ) -> None:
        value = value.expand(*output.shape[:-2], *value.shape[-2:])
        attention = Attention(len(self.found), query, key, value, output, rebuilt)
        self.found.append(attention)
        self._trails[output] = weakref.ref(attention)
        if self.arrived is not None:
            self._passed.add(output.grad_fn)
            # by weak references, as the graph would hold itself through its own hook
            mode, found = weakref.ref(self), weakref.ref(attention)

            def hook(gradients: Tensor) -> None:
                if (capture := mode()) is not None and (known := found()) is not None and capture.arrived is not None:
                    capture.arrived(known, gradients)

            on_gradient(output, hook)
        if self.seen is not None:
            self.seen(attention)
            if self.arrived is None:
                attention.rebuilt = _gone  # nothing waits for them, and weights that were written out are large


def _gone() -> Tensor:
    raise RuntimeError("without a backward that they wait for, weights are there while `seen` runs and no longer")


def softmax_of(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float | None) -> Tensor:
    """The weights of `F.scaled_dot_product_attention`; rows without any key are 0."""
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.mT
    if is_causal:
        mask = scores.new_ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is None:
        return scores.softmax(-1)  # matrices are large, and no row is empty
    scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1).masked_fill((scores == -torch.inf).all(-1, keepdim=True), 0)


@functools.cache
def opened(function: FunctionType) -> FunctionType:
    """A copy of a function of torch that runs its steps where an active mode sees them."""
    asked = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    names = {**function.__globals__, **dict.fromkeys(asked, lambda *_: False)}
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def name_of(function: Callable[..., Any]) -> str:
    """`mul` for `torch.mul`, `Tensor.mul_` and `Tensor.__mul__`; that of a property for what reads it."""
    name = getattr(function, "__name__", "")
    return (function.__self__.__name__ if name == "__get__" else name).strip("_")  # type: ignore[attr-defined]


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among values, and in lists among them."""
    return [
        each
        for value in values
        for each in (value if isinstance(value, (list, tuple)) else (value,))
        if isinstance(each, Tensor)
    ]


def _with(values: Any, old: Tensor, new: Tensor) -> Any:
    """The same with one tensor in place of another."""
    if isinstance(values, (list, tuple)):
        return type(values)(_with(each, old, new) for each in values)
    return new if values is old else values


def _orders(equation: str | None, pair: Sequence[Tensor]) -> tuple[list[int], list[int], list[int]] | None:
    """The axes of two factors and their product, in the order of `matmul`; `None` where they are no two matrices."""
    if len(pair) != 2 or min(each.ndim for each in pair) < 2:
        return None
    if equation is None:
        first, second = (list(range(each.ndim)) for each in pair)
        return first, second, max(first, second, key=len)
    terms = re.fullmatch(r"(\w+),(\w+)->(\w+)", equation.replace(" ", ""))
    if terms is None:
        return None
    left, right, made = terms.groups()
    batch = [each for each in made if each in left and each in right]
    row, column = ([each for each in made if each not in other] for other in (right, left))
    inner = [each for each in left if each in right and each not in made]
    if not len(row) == len(column) == len(inner) == 1 or len({*left, *right}) != len(batch) + 3:
        return None
    return (
        [left.index(each) for each in (*batch, *row, *inner)],
        [right.index(each) for each in (*batch, *inner, *column)],
        [made.index(each) for each in (*batch, *row, *column)],
    )


def _turned(order: list[int]) -> list[int]:
    return [*order[:-2], order[-1], order[-2]]


def _arranged(tensor: Tensor, order: list[int]) -> Tensor:
    """Itself where the axes are in order, for a network may go on with it."""
    return tensor if order == sorted(order) else tensor.permute(order)


def _place(stand_in: Tensor) -> int:
    """Which axis holds the keys, from the end; 0 for none."""
    axes = [axis for axis in range(-stand_in.ndim, 0) if stand_in.stride(axis) and stand_in.shape[axis] > 1]
    return axes[0] if len(axes) == 1 else 0
