"""Nested values as models pass them about: the tensors inside, and a copy with one of them replaced."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

Path = tuple[Any, ...]
Result = TypeVar("Result")


def tensors(value: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every tensor inside tuples, lists, mappings and dataclasses, with the keys that lead to it."""
    if isinstance(value, Tensor):
        yield path, value
        return
    for key, item in _items(value):
        yield from tensors(item, (*path, key))


def leaves(value: Any, is_leaf: Callable[[Any], bool]) -> Iterator[Any]:
    """Every leaf inside, in order."""
    if is_leaf(value):
        yield value
    else:
        for _, item in _items(value):
            yield from leaves(item, is_leaf)


def replaced(value: Any, path: Path, new: Tensor) -> Any:
    """`value` with the tensor at `path` replaced by `new`; the containers on the way are shallow copies."""
    if not path:
        return new
    key, rest = path[0], path[1:]
    return _rebuilt(value, {key: replaced(dict(_items(value))[key], rest, new)})


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of torch's."""
    return isinstance(value, Tensor)


def mapped(value: Any, function: Callable[[Any], Any], is_leaf: Callable[[Any], bool] = is_tensor) -> Any:
    """`value` with every leaf replaced by `function` of it, in one walk; what holds no leaf is passed on as it is."""
    if is_leaf(value):
        return function(value)
    pairs = [(key, item, mapped(item, function, is_leaf)) for key, item in _items(value)]
    changed = {key: made for key, item, made in pairs if made is not item or is_leaf(item)}
    return _rebuilt(value, changed) if changed else value


def _rebuilt(value: Any, changed: Mapping[Any, Any]) -> Any:
    """A shallow copy of a container with other items."""
    if isinstance(value, tuple):
        items = [changed.get(key, item) for key, item in _items(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    made = copy.copy(value)
    for key, item in changed.items():
        if isinstance(value, (list, Mapping)):
            made[key] = item
        else:
            object.__setattr__(made, key, item)
    return made


def only_tensor(value: Any, owner: str) -> tuple[Path, Tensor]:
    """The one floating-point tensor inside, or a `TypeError` that lists what there is instead.

    Of several, the single one with a channel and a spatial axis (three axes or more) is taken.
    """
    if isinstance(value, Tensor) and value.is_floating_point():
        return (), value
    found = [(path, tensor) for path, tensor in tensors(value) if tensor.is_floating_point() or tensor.is_quantized]
    spatial = [(path, tensor) for path, tensor in found if tensor.ndim >= 3]
    for candidates in (found, spatial):
        if len(candidates) == 1:
            return candidates[0]
    listed = ", ".join(f"{spell(path) or 'itself'} of shape {tuple(tensor.shape)}" for path, tensor in found)
    raise TypeError(
        f"{owner} is a {type(value).__name__} with {len(found) or 'no'} floating-point tensors"
        f"{': ' + listed if listed else ''}; a layer with exactly one was expected. "
        "Choose a layer inside it that returns one tensor."
    )


def spell(path: Path) -> str:
    """A path as code would write it: `.logits`, `[0]`."""
    return "".join(f".{key}" if isinstance(key, str) else f"[{key}]" for key in path)


def first_tensor(value: Any) -> Tensor:
    """The first of the `pictures` inside, else the first tensor; its leading axis is the batch."""
    if isinstance(value, Tensor):
        return value
    if found := pictures(value):
        return found[0][1]
    for _, tensor in tensors(value):
        return tensor
    raise TypeError(f"no tensor found in the inputs, a {type(value).__name__}")


def pictures(value: Any) -> list[tuple[Path, Tensor]]:
    """The floating-point tensors with most axes, three or more: the images beside masks, numbers or texts."""
    found = [(path, tensor) for path, tensor in tensors(value) if tensor.is_floating_point() and tensor.ndim >= 3]
    most = max((tensor.ndim for _, tensor in found), default=0)
    return [(path, tensor) for path, tensor in found if tensor.ndim == most]


def first_sample(inputs: Any) -> Any:
    """The inputs with every tensor that holds one entry for each sample cut to the first that is finite."""
    picture = first_tensor(inputs)
    finite = picture.reshape(len(picture), -1).isfinite().all(1).tolist()
    first = finite.index(True) if True in finite else 0
    return mapped(
        inputs, lambda tensor: tensor[first : first + 1] if tensor.ndim and len(tensor) == len(picture) else tensor
    )


def on_first_sample(run: Callable[[Any], Result], inputs: Any) -> tuple[Result, int]:
    """What `run` makes of the first sample, and how often that failed (0 or 1).

    Some networks take whole batches only: by batch statistics, or by a number of samples that was exported. Then all
    of the inputs are given, and what the network has against them goes to the caller, of whatever kind it is.
    """
    try:
        return run(first_sample(inputs)), 0
    except Exception:
        if len(first_tensor(inputs)) == 1:
            raise
    return run(inputs), 1


def storage_of(tensor: Tensor) -> int:
    """A number that two tensors share when they share memory; 0 for tensors without memory of their own."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # fake, meta and wrapper tensors
        return 0


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    if type(value) in (tuple, list):  # first, since it is what most are
        return enumerate(value)
    return value.items() if type(value) is dict else _other_items(value)


def _other_items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=True)
    elif isinstance(value, (tuple, list)):
        yield from enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))


def detached_copy(value: Any) -> Any:
    """A copy whose tensors share nothing with the originals: not memory, not history, not inference mode."""
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            return detached_copy(value)
    return mapped(value, lambda tensor: tensor.detach().clone())
