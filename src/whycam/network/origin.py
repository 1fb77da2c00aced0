"""What made a model's output: class scores by a layer with weights, features by what stands before one.

Read from the graph of one forward of the first sample, kept for the next call. `straight` is what an output is made of
without a layer with weights in between: features among it are the answer itself, and a map of them would show the
prediction in place of its reasons.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from whycam.network.adapted import Adapted
from whycam.network.cache import Cache
from whycam.network.hooks import Inputs, call
from whycam.network.outputs import OutputPath, embedding, number_of_classes
from whycam.network.preserve_state import as_found
from whycam.network.pytree import detached_copy, mapped, on_first_sample, spell, tensors
from whycam.network.unwrap import eager
from whycam.targets import reading_of

#: The function that made probabilities of scores, where the output is one.
Squash: TypeAlias = Literal["", "softmax", "sigmoid"]

#: Nodes of autograd's graph, by the start of their names. What is none of these passes values on: pooling, shapes.
_WEIGHTS = ("Addmm", "Mm", "Bmm", "Baddbmm", "Addbmm", "Addmv", "Mv", "Linear", "Convolution", "MkldnnConv")
_NORMS = ("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm", "NativeLayerNorm", "NativeGroupNorm")
_ACTIVATIONS = (
    "Relu", "Gelu", "Silu", "Elu", "Selu", "Celu", "Hardswish", "Hardtanh", "LeakyRelu", "Tanh", "Mish", "Softplus",
    "Clamp", "Threshold", "Prelu",
)  # fmt: skip
_SQUASHES = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
_SHAPES = (
    "View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Select", "Slice", "Transpose", "TBackward", "Permute",
    "Clone", "Alias", "Expand", "ToCopy", "Unbind", "Split", "Unsafe",
)  # fmt: skip
_MIXING = ("Bmm", "Baddbmm", "Scaled", "MaxPool", "AvgPool", "Adaptive", "MkldnnAdaptive", "Mean", "Sum", "Efficient")
#: What layers are called that make a vector to compare and no class scores.
_PROJECTIONS = ("proj", "embed", "neck")


@dataclass(frozen=True)
class Origin:
    """What made one tensor of a model's output.

    Attributes:
        squash: what made probabilities of scores, last of all.
        features: why its numbers are known to be features and no class scores; empty where that is not known.
    """

    squash: Squash = ""
    features: str = ""


class Answer(NamedTuple):
    """What is known of the part of an output that is explained.

    Attributes:
        name: where it was found, as code would write it; `part` finds the same part of every output.
        classes: whether it holds scores of classes, as far as is known.
        embedding: why it holds features and no class scores; empty where that is not known.
        probability: whether its numbers are probabilities.
    """

    name: str
    part: OutputPath | None = None
    classes: bool = False
    embedding: str = ""
    probability: bool = False


_origins: Cache[Any] = Cache()


def settled(
    model: nn.Module, inputs: Inputs, output: Tensor, name: str, part: OutputPath | None, *, labels: int
) -> tuple[Answer, int]:
    """What the part of an output is that was found under that name, and the forwards it took to find out.

    Args:
        part: what the caller asked for; a function of the caller's is believed to give scores of classes.
        labels: how many texts for classes there are, which says that there are as many classes.
    """
    made, forwards = Origin(), 0
    samples = output.shape[0]
    flat = output.reshape(samples, -1) if output.ndim > 2 and output[:, 0].numel() == samples else output
    readable = flat.ndim <= 2 and samples > 0
    bounded = readable and bool(((flat >= 0) & (flat <= 1)).all())
    width = flat.shape[1] if readable and flat.ndim == 2 else 1
    doubtful = width > 1 and labels != width and width != number_of_classes(model)
    if readable and not callable(part) and (bounded or doubtful):
        made, forwards = origin(model, inputs, name, 0 if bounded else width)
    why = embedding(name, flat, model, "" if labels == width else made.features)
    probability = bounded and reading_of(output, probability=bool(made.squash)).probability
    found = (name or None) if part is None else part
    return Answer(name, found, readable and not why, why, probability), forwards


def origin(model: nn.Module, inputs: Inputs, name: str, width: int = 0) -> tuple[Origin, int]:
    """What made the tensor of that name in a model's output, and the forwards it took to find out (0 where known).

    With a `width` no forward is spent where the last layer with weights is linear and gives that many numbers.
    """
    known = _origins.of(model, inputs)
    forwards = 0
    if width and name not in known:
        if (name, width) not in known:
            known[name, width] = Origin() if _ends_in_classes(model, width) else None
        if (plain := known[name, width]) is not None:
            return plain, 0
    if name not in known:
        if not isinstance(model, Adapted):  # whose own adapter looks for the logits behind its last step

            def run(some: Inputs) -> None:
                with as_found(model), eager(model):
                    keep(model, some, call(model, traceable(some)))

            try:
                _, failed = on_first_sample(run, inputs)
                forwards = 1 + failed
            except Exception:  # a network that cannot be run with gradients tells nothing
                forwards = 1
        known.setdefault(name, Origin())
    return known[name], forwards


def traceable(inputs: Inputs) -> Inputs:
    """The inputs as the start of a graph. Gradients are turned on until the guard around the pass ends."""
    torch.set_grad_enabled(True)
    given: Inputs = mapped(
        detached_copy(inputs), lambda each: each.requires_grad_().clone() if each.is_floating_point() else each
    )
    return given


def keep(model: nn.Module, inputs: Inputs, output: Any) -> None:
    """Keep what made each tensor of an output, while its graph is there."""
    names = {parameter.data_ptr(): name for name, parameter in model.named_parameters()}
    known = _origins.of(model, inputs)
    for name, node in made_by(output).items():
        known[name] = Origin(_squash(node), _features(node, names))


def made_by(output: Any) -> dict[str, Any]:
    """The node of autograd's graph that made each tensor of an output."""
    return {spell(path): tensor.grad_fn for path, tensor in tensors(output) if tensor.grad_fn is not None}


def _ends_in_classes(model: nn.Module, width: int) -> bool:
    """Whether a model's last layer with weights is linear and gives that many numbers, as classifiers end."""
    last: Any = None
    active = False
    for name, module in model.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            last, active = (name, module), False
        elif type(module).__module__ == "torch.nn.modules.activation":
            active = active or not isinstance(module, (nn.Softmax, nn.LogSoftmax, nn.Sigmoid))
    if last is None or any(word in last[0].rpartition(".")[2] for word in _PROJECTIONS):
        return False
    module = last[1]
    pointwise = isinstance(module, _ConvNd) and all(side == 1 for side in module.kernel_size)
    linear = (isinstance(module, nn.Linear) and not active) or pointwise
    return linear and width == (module.out_channels if pointwise else module.out_features)


def straight(node: Any) -> set[Any]:
    """The nodes that an output is made of without a layer with weights in between, that layer's own among them."""
    return _walked(node, lambda each: [] if _is(each, _WEIGHTS) else _before(each))


def place_by_place(node: Any, samples: int) -> set[Any]:
    """The nodes from which an output is made place by place alone, up to changes of size, whichever way is taken.

    Layers among them redraw a dense answer: what lies beside a place has no part in what is said of it. Convolutions
    of one cell and linear layers over the channels work so, and activation functions; other convolutions, attention and
    pooling do not. Of normalizations the statistics over all places are left aside.
    """
    found = _walked(node, lambda each: [] if _mixes(each, samples) else _before(each))
    mixed = {before for each in found if _mixes(each, samples) for before in _before(each)}
    return found.difference(*map(behind, mixed))


def least_behind(made: Iterable[tuple[Any, float]]) -> list[float]:
    """For nodes in the order they were made, the least of the numbers given to each and to those behind it."""
    known: dict[Any, float] = {None: inf}
    found = []
    for node, number in made:
        ahead = [node]
        while ahead:
            before = _before(ahead[-1]) if ahead[-1] not in known else []
            open_ = [each for each in before if each not in known]
            ahead += open_
            if not open_:
                last = ahead.pop()
                known.setdefault(last, min([known[each] for each in before], default=inf))
        least = min(known[node], number)
        found.append(least)
        if node is not None:
            known[node] = least
    return found


def behind(node: Any, past: Any = None) -> set[Any]:
    """All nodes that an output depends on, by ways that do not go through `past`."""
    return _walked(node, _before, {None, past})


def _walked(node: Any, onward: Callable[[Any], list[Any]], closed: Iterable[Any] = (None,)) -> set[Any]:
    """A node and those that it leads on to, without those that are `closed`."""
    barred, found, ahead = {*closed}, set[Any](), [node]
    while ahead:
        node = ahead.pop()
        if node not in barred and node not in found:
            found.add(node)
            ahead += onward(node)
    return found


def _before(node: Any) -> list[Any]:
    """What an operation was given, as nodes of the graph."""
    return [each for each, _ in node.next_functions]


def _squash(node: Any) -> Squash:
    while node is not None and _is(node, _SHAPES):
        node = node.next_functions[0][0]
    made = next((made for start, made in _SQUASHES.items() if node is not None and _is(node, (start,))), "")
    return made  # type: ignore[return-value]


def _features(node: Any, names: Mapping[int, str], active: bool = False) -> str:
    while node is not None:
        if _is(node, (*_SQUASHES, "LogSoftmax", "NotImplemented", "WarnNotImplemented")):
            return ""
        if _is(node, _NORMS):
            return "a normalization made it, and no layer with weights for each class"
        if _is(node, _WEIGHTS):
            name = next((names[key] for key in _weights(node) if key in names), "")
            owner = name.removesuffix(".weight").rpartition(".")[2]
            if any(word in owner for word in _PROJECTIONS):
                return f"the layer that made it is called {name.removesuffix('.weight')!r}"
            if active and not _is_pointwise(node):
                return "an activation function behind its last layer made it"
            return ""
        active = active or _is(node, _ACTIVATIONS)
        ways = [each for each, _ in node.next_functions if each is not None and not _is(each, ("AccumulateGrad",))]
        if len(ways) > 1:
            return next(filter(None, (_features(each, names, active) for each in ways)), "")
        node = ways[0] if ways else None
    return ""


def _is(node: Any, starts: tuple[str, ...]) -> bool:
    return str(node.name()).rpartition("::")[2].startswith(starts)


def _weights(node: Any) -> Iterator[int]:
    """Where the weights lie that a node multiplied by, as far as it kept them."""
    for name in ("_saved_mat2", "_saved_weight", "_saved_self", "_saved_mat1"):
        kept = getattr(node, name, None)
        if isinstance(kept, Tensor):
            yield kept.data_ptr()


def _mixes(node: Any, samples: int) -> bool:
    """Whether an operation brings values of several places together."""
    if _is(node, ("Convolution", "MkldnnConv")):
        return not _is_pointwise(node)
    if _is(node, ("Addmm", "Mm")):  # of one row for each sample, all of its places are in that row
        rows: Any = getattr(node, "_saved_mat1_sym_sizes", None) or getattr(node, "_saved_self_sym_sizes", None)
        return rows is None or bool(rows[0] <= samples)
    return _is(node, _MIXING)


def _is_pointwise(node: Any) -> bool:
    weight = getattr(node, "_saved_weight", None)
    return isinstance(weight, Tensor) and weight.ndim > 2 and all(side == 1 for side in weight.shape[2:])
