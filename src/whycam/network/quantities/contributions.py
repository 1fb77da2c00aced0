"""What a layer's activations contribute to a score against a layer of zeros, by DeepLIFT's rules (arXiv:1704.02685).

The part above the layer runs twice: on what the layer returned, and on zeros in its place. What is linear passes a
gradient back as it always does. What is not passes back a multiplier made from both runs in place of its derivative:
an activation function its change of output over its change of input (the rescale rule), a maximum that of the location
which decides, a product of two things that both depend on the layer the mean of the other from both runs. So the
contributions, multiplier times activation, add up to the change of the score; where they do not, something without a
rule is in the way, and that is said.

Rules act on functions, so that `F.relu` counts like `nn.ReLU`, and a module may run any number of times. They are
captum's where captum has one, but for windows of a max-pooling that overlap: captum keeps one window's share of a
location and loses the others'.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointError

from whycam.errors import WhycamError
from whycam.kit.arrays import wide
from whycam.network.adapted import refuse_adapted
from whycam.network.hooks import Inputs
from whycam.network.outputs import OutputPath
from whycam.network.pytree import Path, replaced, storage_of, tensors
from whycam.network.recording.record import LayerRecord
from whycam.network.variants.layer_edit import Answer, Asked, answer, asked_of, differentiated
from whycam.targets import ResolvedTarget

Function: TypeAlias = Callable[..., Any]
#: Positional and keyword arguments.
Arguments: TypeAlias = tuple[tuple[Any, ...], Mapping[str, Any]]

#: How far contributions may be from adding up, in parts of the scores and of their own length, by precision.
_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-2, torch.float16: 1e-1, torch.bfloat16: 1e-1}


def contributions(
    model: nn.Module,
    inputs: Inputs,
    record: LayerRecord,
    bound: ResolvedTarget,
    part: OutputPath | None,
    output: Tensor | None = None,
) -> Tensor:
    """What the layer's activations contribute to each sample's score, in maps layout, float32 at least.

    Over all that the layer returns they add up to the score less the score for a layer of zeros; class tokens and the
    like have their share in that, which no map shows. Above linear layers they are gradient times activation. 0 where
    the score does not depend on the layer. Costs two forwards, one with gradients on from the layer, and a backward.

    Args:
        model: the unwrapped module. inputs: what it was given.
        record: what was recorded of the layer. bound: the settled target.
        part: which part of the output is explained. output: what was recorded of it, by which the part of the network
            above the layer is known to run by itself; without, whole forwards are made.

    Raises:
        WhycamError: above the layer, or in the target, is something that DeepLIFT has no rule for: softmax, attention,
            normalization by an input's own statistics.
    """
    refuse_adapted(model, "DeepLIFT", "use ablation_cam, which it comes near to, or grad_cam", unless_in_torch=True)
    asked = asked_of(model, inputs, record, part, output)

    def attempt(from_start: bool) -> tuple[Answer, Tensor, Tensor | None]:
        run = _Run(asked)
        leaves: list[Tensor] = []

        def begin(rows: Tensor) -> Tensor:
            torch.set_grad_enabled(True)
            leaves.append(rows.detach().clone().requires_grad_())
            return run.begin(leaves[-1].clone())

        def zeros(rows: Tensor) -> Tensor:
            return run.begin(torch.zeros_like(rows))

        made = answer(asked, begin, from_start=from_start, around=run)
        with torch.enable_grad():
            scores = run.score(bound, made.output)
            total = scores.sum()
        if not scores.requires_grad:
            return made, scores, None
        run.against()
        nothing = answer(asked, zeros, around=run)
        change = scores.detach() - run.score(bound, nothing.output)
        run.finish()
        gradients = torch.autograd.grad(total, leaves, allow_unused=True)
        if all(each is None for each in gradients):
            return made, scores, None
        shares = [
            torch.zeros_like(leaf) if each is None else each * leaf.detach()
            for each, leaf in zip(gradients, leaves, strict=True)
        ]
        found = made.by_sample(shares)
        _add_up(asked, wide(found), wide(change), wide(scores.detach()), run.precision(leaves[0]))
        return made, scores, wide(record.layout.to_maps(found))

    with torch.inference_mode(False):
        try:
            found = differentiated(asked, attempt)
        except CheckpointError as error:
            raise WhycamError(
                f"the part above {asked} is computed again in the backward pass (activation checkpointing), where "
                "DeepLIFT's rules do not reach. Turn that off while explaining: model.set_grad_checkpointing(False) in "
                "timm, model.gradient_checkpointing_disable() in transformers."
            ) from error
        return torch.zeros_like(record.activations) if found is None else found.detach()


def _add_up(asked: Asked, found: Tensor, change: Tensor, scores: Tensor, tolerance: float) -> None:
    """Raise a `WhycamError` unless contributions add up to the change of the score."""
    if bool((scores.isfinite() & ~change.isfinite()).any()):
        raise WhycamError(
            f"the score is NaN or infinite where {asked} returns nothing but zeros, so there is nothing to compare "
            "with; choose another layer, or use hires_cam, which compares with nothing."
        )
    rows = found.flatten(1)
    size = scores.abs() + (scores - change).abs() + torch.linalg.vector_norm(rows, dim=1)
    gap = (rows.sum(1) - change).abs()
    if bool((gap > tolerance * size).any()):  # false for what is not finite
        worst = int((gap / size).nan_to_num().argmax())
        raise WhycamError(
            f"DeepLIFT's contributions do not add up: at {asked} they come to {float(rows[worst].sum()):.3g} where the "
            f"score changes by {float(change[worst]):.3g}, so something above the layer is neither linear nor has a "
            "rule. Choose a later layer, or use ablation_cam, which needs no rules."
        )


def _spelled(*names: str) -> frozenset[Function]:
    """The functions of those names, as functions and as methods, in place and as operators."""
    spellings = [form for name in names for form in (name, f"{name}_", f"__{name}__", f"__i{name}__", f"__r{name}__")]
    found = (getattr(home, each, None) for home in (F, torch, Tensor) for each in spellings)
    return frozenset(each for each in found if each is not None)


#: Functions of one tensor that take each of its values by itself.
_ELEMENTWISE = _spelled(
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus",
    "softsign", "sigmoid", "logsigmoid", "hardsigmoid", "hardswish", "hardtanh", "tanh", "tanhshrink", "softshrink",
    "hardshrink", "threshold", "clamp", "clamp_min", "clamp_max", "clip", "abs", "absolute", "exp", "exp2", "expm1",
    "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "square", "pow", "reciprocal", "erf", "sin", "cos", "atan",
)  # fmt: skip
#: Functions that are linear in each of two tensors.
_BILINEAR = _spelled(
    "mul", "multiply", "matmul", "mm", "bmm", "mv", "dot", "inner", "outer", "einsum", "tensordot", "addmm",
    "baddbmm", "addbmm", "addcmul", "linear", "bilinear", "conv1d", "conv2d", "conv3d",
)  # fmt: skip
#: The largest of each window, with the number of its axes.
_POOLS: Mapping[Function, tuple[Function, int]] = {
    spelling: (pool, axes)
    for axes in (1, 2, 3)
    for pool in (getattr(F, f"max_pool{axes}d"), getattr(F, f"adaptive_max_pool{axes}d"))
    for spelling in (pool, getattr(torch, f"max_pool{axes}d"))
    if spelling is pool or pool is getattr(F, f"max_pool{axes}d")
}
#: The largest along axes.
_LARGEST = _spelled("amax", "max")
#: What has no rule, by the name to call it.
_WITHOUT: Mapping[Function, str] = {
    function: name
    for name, names in {
        "softmax": ("softmax", "log_softmax", "softmin", "gumbel_softmax", "logsumexp"),
        "attention": ("scaled_dot_product_attention", "multi_head_attention_forward"),
        "layer normalization": ("layer_norm",),
        "group normalization": ("group_norm",),
        "instance normalization": ("instance_norm",),
        "RMS normalization": ("rms_norm",),
        "local response normalization": ("local_response_norm",),
        "normalization to length one": ("normalize", "cosine_similarity"),
        "recurrence": ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell"),
    }.items()
    for function in _spelled(*names)
}
_NORMS = _spelled("batch_norm")


class _Rule(ABC):
    """One call of a function that is not linear: what it was given, until `settle` makes its multipliers of that."""

    def __init__(self, function: Function, arguments: Arguments, paths: Sequence[Path]) -> None:
        self.function, self.arguments, self.paths = function, arguments, paths
        self.values = [_at(arguments, path).detach().clone() for path in paths]
        self.in_place = False
        self.output: Any = None

    def run(self) -> None:
        """Keep what the function makes of copies of its tensors, and whether it writes to the first of them."""
        first, before = self.values[0], self.values[0]._version
        self.output = self.call(self.function, self.values)
        self.in_place = first._version != before
        if storage_of(self.value) == storage_of(first):
            self.values[0] = _at(self.arguments, self.paths[0]).detach().clone()

    @property
    def value(self) -> Tensor:
        """The tensor in the output."""
        value: Tensor = self.output if isinstance(self.output, Tensor) else self.output[0]
        return value

    def call(self, function: Function, values: Sequence[Tensor], *, precisely: bool = False) -> Any:
        """A function of the same arguments with other tensors, in float32 at least where that is asked for."""
        arguments = self.arguments
        if precisely:
            for path, tensor in tensors(arguments):
                arguments = replaced(arguments, path, wide(tensor.detach()))
        for path, value in zip(self.paths, values, strict=True):
            arguments = replaced(arguments, path, wide(value) if precisely else value)
        positional, named = arguments
        with torch.autocast(values[0].device.type, enabled=False) if precisely else nullcontext():
            return function(*positional, **named)

    @abstractmethod
    def settle(self, values: Sequence[Tensor]) -> None:
        """Make the multipliers, given the function's tensors in the run on zeros."""

    @abstractmethod
    def back(self, gradient: Tensor) -> list[Tensor]:
        """What goes to each tensor for what comes from the output."""


class _Rescale(_Rule):
    """The change of output over the change of input; the slope half-way where the input hardly changes."""

    multiplier: Tensor

    def settle(self, values: Sequence[Tensor]) -> None:
        one, other = wide(self.values[0]), wide(values[0].detach())
        self.values = []
        change = one - other
        near = change.abs() <= math.sqrt(torch.finfo(one.dtype).eps) * torch.maximum(one.abs(), other.abs())
        made = self._of(one) - self._of(other)
        self.multiplier = made / change.masked_fill(near, 1)
        if bool(near.any()):  # a quotient of rounding errors
            with torch.enable_grad():
                middle = ((one + other) / 2).requires_grad_()
                (slope,) = torch.autograd.grad(self._of(middle).sum(), middle)
            self.multiplier = torch.where(near, slope.nan_to_num(0, 0, 0), self.multiplier)

    def _of(self, values: Tensor) -> Tensor:
        made: Tensor = self.call(self.function, [values.clone()], precisely=True)
        return made

    def back(self, gradient: Tensor) -> list[Tensor]:
        return [(wide(gradient) * self.multiplier).to(gradient.dtype)]


class _Midway(_Rule):
    """The derivative half-way between the runs, which for a product of two is the mean of the other one."""

    def settle(self, values: Sequence[Tensor]) -> None:
        pairs = zip(self.values, values, strict=True)
        self.values = [(wide(one) + wide(other.detach())) / 2 for one, other in pairs]

    def back(self, gradient: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            leaves = [value.detach().requires_grad_() for value in self.values]
            made = self.call(self.function, [leaf.clone() for leaf in leaves], precisely=True)
        return list(torch.autograd.grad(made, leaves, gradient.to(made.dtype)))


class _Deciding(_Rule):
    """All of the change of a maximum goes to one entry: the largest of the run in which the maximum is larger."""

    def __init__(
        self, function: Function, arguments: Arguments, paths: Sequence[Path], find: Function, axes: tuple[int, ...]
    ) -> None:
        """`find` gives the maxima and their positions on the given axes of the tensor, flattened."""
        super().__init__(function, arguments, paths)
        self.find, self.axes = find, axes

    def settle(self, values: Sequence[Tensor]) -> None:
        one, other = self.values[0], values[0].detach()
        self.values = []
        self.shape = one.shape
        (made, at), (made_of_other, at_other) = self.find(one), self.find(other)
        self.at = torch.where(made >= made_of_other, at, at_other).flatten(-len(self.axes))
        pair = [self._flat(each).gather(-1, self.at) for each in (wide(one), wide(other))]
        change = pair[0] - pair[1]
        rise = (wide(made) - wide(made_of_other)).flatten(-len(self.axes))
        self.multiplier = torch.where(change == 0, torch.ones_like(rise), rise / change)

    def _flat(self, tensor: Tensor) -> Tensor:
        return tensor.movedim(self.axes, tuple(range(-len(self.axes), 0))).flatten(-len(self.axes))

    def back(self, gradient: Tensor) -> list[Tensor]:
        shares = wide(gradient).reshape(self.multiplier.shape) * self.multiplier
        axes = [self.shape[axis] for axis in self.axes]
        spread = shares.new_zeros(*shares.shape[:-1], math.prod(axes)).scatter_add(-1, self.at, shares)
        back = spread.reshape(*spread.shape[:-1], *axes).movedim(tuple(range(-len(axes), 0)), self.axes)
        return [back.to(gradient.dtype)]


class _Ruled(torch.autograd.Function):
    """A function's output, with a rule for the way back."""

    @staticmethod
    def forward(ctx: Any, rule: _Rule, *given: Tensor) -> Tensor:
        ctx.rule = rule
        rule.run()
        return rule.value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, *ctx.rule.back(gradients[0])


class _Run(TorchFunctionMode):
    """Both runs of the part above a layer, call by call of the functions that have rules.

    In the first, calls that depend on the layer get a rule each; in the second, on zeros, the rules are settled in the
    same order. Nothing of the network is touched.
    """

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self.asked = asked
        self.begun = self.second = self.at_target = False
        self.sources: set[Any] = set()
        self.calls: list[tuple[Function, _Rule | None]] = []
        self.number = 0
        self.half = False

    def begin(self, rows: Tensor) -> Tensor:
        """The layer's rows as they are handed on: from here on calls count."""
        self.begun = True
        self.half = self.half or torch.is_autocast_enabled(rows.device.type)
        if rows.requires_grad:
            self.sources.add(rows.grad_fn)
        return rows

    def score(self, bound: ResolvedTarget, output: Tensor) -> Tensor:
        """The scores of an answer, which the rules follow too."""
        self.at_target = True
        with self:
            return bound(output)

    def against(self) -> None:
        """The first run is over."""
        self.begun, self.second, self.at_target = False, True, False

    def finish(self) -> None:
        """The second run is over: every rule is settled, or it cannot be."""
        if self.number != len(self.calls):
            raise WhycamError(self._another_way())

    def precision(self, rows: Tensor) -> float:
        """How far contributions may be from adding up."""
        dtype = rows.dtype
        if self.half and dtype == torch.float32:
            dtype = torch.bfloat16
        return _ROUNDING.get(dtype, 1e-2)

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = (args, kwargs or {})
        if not self.begun:
            return func(*args, **arguments[1])
        if func in _WITHOUT or func in _NORMS:
            self._refuse(func, arguments)
        kind = self._kind(func, arguments)
        if kind is None:
            return func(*args, **arguments[1])
        if self.second:
            self._settle(func, arguments)
            return func(*args, **arguments[1])
        rule = self._rule(func, arguments, kind)
        self.calls.append((func, rule))
        return self._ruled(rule, arguments) if rule is not None else func(*args, **arguments[1])

    def _kind(self, function: Function, arguments: Arguments) -> Callable[..., _Rule] | None:
        if function in _ELEMENTWISE:
            return _Rescale
        if function in _BILINEAR:
            return _Midway
        if function in _POOLS:
            pool, axes = _POOLS[function]
            return partial(_pooling, pool, axes)
        if function in _LARGEST and (axes_of := _axes(arguments)) is not None:
            return partial(_largest, axes_of)
        return None

    def _rule(self, function: Function, arguments: Arguments, kind: Callable[..., _Rule]) -> _Rule | None:
        """A rule for a call that may depend on the layer."""
        if not torch.is_grad_enabled():
            return None
        given = list(tensors(arguments))
        # parameters are leaves; what is computed of them alone is the same in both runs, for which the rules are right
        found = [path for path, tensor in given if tensor.requires_grad and tensor.grad_fn is not None]
        self.half = self.half or any(tensor.dtype in (torch.float16, torch.bfloat16) for _, tensor in given)
        if kind is _Midway:
            return kind(function, arguments, found) if len(found) > 1 else None
        return kind(function, arguments, found[:1]) if found and found[0] == given[0][0] else None

    def _ruled(self, rule: _Rule, arguments: Arguments) -> Any:
        given = [_at(arguments, path) for path in rule.paths]
        made: Tensor = _Ruled.apply(rule, *given)  # type: ignore[no-untyped-call]
        output, rule.output = rule.output, None
        if rule.in_place:
            return given[0].copy_(made)
        return made if isinstance(output, Tensor) else type(output)((made, *output[1:]))

    def _settle(self, function: Function, arguments: Arguments) -> None:
        if self.number == len(self.calls) or self.calls[self.number][0] is not function:
            raise WhycamError(self._another_way())
        rule = self.calls[self.number][1]
        self.number += 1
        if rule is not None:
            values = [_at(arguments, path) for path in rule.paths]
            if any(one.shape != other.shape for one, other in zip(rule.values, values, strict=True)):
                raise WhycamError(self._another_way())
            rule.settle(values)

    def _refuse(self, function: Function, arguments: Arguments) -> None:
        if not any(self._from_the_layer(tensor) for _, tensor in tensors(arguments)):
            return
        if function in _NORMS:
            positional, named = arguments
            if not named.get("training", positional[5] if len(positional) > 5 else False):
                return
            raise WhycamError(
                f"a batch normalization above {self.asked} is in training mode, where samples depend on each other and "
                "DeepLIFT has no rule for it; call model.eval()."
            )
        if self.at_target:
            raise WhycamError(
                f"DeepLIFT has no rule for the {_WITHOUT[function]} in the target; explain a class's logit, by its "
                "index, or use ablation_cam, which needs no rules."
            )
        raise WhycamError(
            f"DeepLIFT has no rule for {_WITHOUT[function]}, which comes above {self.asked}; choose a layer behind it, "
            "or use ablation_cam, which needs no rules."
        )

    def _from_the_layer(self, tensor: Tensor) -> bool:
        """Whether a tensor's history leads to the layer."""
        todo, known = [tensor.grad_fn], set()
        while todo:
            node = todo.pop()
            if node is None or node in known:
                continue
            if node in self.sources:
                return True
            known.add(node)
            todo += [source for source, _ in node.next_functions]
        return False

    def _another_way(self) -> str:
        return (
            f"the part above {self.asked} does not take the same way for a layer of zeros, so nothing can be told from "
            "the difference; choose a later layer, or use hires_cam, which looks at no other run."
        )


def _at(arguments: Arguments, path: Path) -> Tensor:
    found: Any = arguments
    for key in path:
        found = found[key]
    tensor: Tensor = found
    return tensor


def _pooling(pool: Function, axes: int, function: Function, arguments: Arguments, paths: Sequence[Path]) -> _Rule:
    positional, named = arguments
    most = 6 if pool in (F.max_pool1d, F.max_pool2d, F.max_pool3d) else 2
    rest = [value for number, value in enumerate(positional[:most]) if (0, number) != paths[0]]
    options = {key: value for key, value in named.items() if (1, key) != paths[0] and key != "return_indices"}

    def find(tensor: Tensor) -> tuple[Tensor, Tensor]:
        values, at = pool(tensor, *rest, **options, return_indices=True)
        return values, at

    return _Deciding(function, arguments, paths, find, tuple(range(-axes, 0)))


def _axes(arguments: Arguments) -> tuple[int, ...] | None:
    """The axes along which a maximum is taken; `None` for that of everything, or of two tensors."""
    positional, named = arguments
    given = named.get("dim", named.get("axis", positional[1] if len(positional) > 1 else None))
    axes = (given,) if isinstance(given, int) else given
    return tuple(axes) if isinstance(axes, (tuple, list)) and axes else None


def _largest(axes: tuple[int, ...], function: Function, arguments: Arguments, paths: Sequence[Path]) -> _Rule:
    def find(tensor: Tensor) -> tuple[Tensor, Tensor]:
        flat = tensor.movedim(axes, tuple(range(-len(axes), 0))).flatten(-len(axes))
        values, at = flat.max(-1, keepdim=True)
        ones = [1] * (len(axes) - 1)
        return values.reshape(*values.shape, *ones), at.reshape(*at.shape, *ones)

    return _Deciding(function, arguments, paths, find, axes)
