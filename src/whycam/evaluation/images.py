"""The images of an evaluation: read when they are needed, and known by what they hold."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import isfunction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whycam.errors import InputError, OptionError, PhotoError
from whycam.kit.files import Names
from whycam.network.pytree import leaves, mapped, tensors
from whycam.pictures.photos import Photo, name_of, read_photo


class Images:
    """The images that are evaluated: a batch, several inputs, or photos; read when they are needed.

    Args:
        of_each: what belongs to each of them, such as masks: with another of these an image is another one.

    Attributes:
        names: of each, by which it is known in every table; no two are alike.
    """

    def __init__(self, inputs: Any, of_each: Sequence[Any] = ()) -> None:
        self.of_each = of_each
        self.several = isinstance(inputs, Mapping) or (
            isinstance(inputs, tuple) and bool(inputs) and all(isinstance(each, Tensor) for each in inputs)
        )
        photos = isinstance(inputs, (list, tuple)) and not self.several
        self.inputs: Any = inputs if self.several or photos or isinstance(inputs, Tensor) else [inputs]
        names = Names()
        self.names = [names(self._named(number)) for number in range(len(self))]
        if not self.names:
            raise InputError("there is nothing to evaluate: no photos came.")

    def __len__(self) -> int:
        return len(next(tensors(self.inputs))[1]) if self.several else len(self.inputs)

    def _named(self, number: int) -> str:
        photo = None if self.several or isinstance(self.inputs, Tensor) else self.inputs[number]
        path = photo if isinstance(photo, (str, Path)) else getattr(photo, "path", None)
        return f"sample{number}" if path is None else name_of(Path(path))

    def digest(self, number: int) -> str:
        """Sixteen hexadecimal digits of what the image holds, and of what belongs to it; none of what is not there."""
        one = mapped(self.inputs, lambda tensor: tensor[number]) if self.several else self.inputs[number]
        try:
            held = Path(one).expanduser().read_bytes() if isinstance(one, (str, Path)) else _bytes(one)
        except (OSError, ValueError):  # a path with a null byte
            return ""
        return _digits([held, *(_bytes(each[number]) for each in self.of_each)])

    def called_as(self, known: Mapping[str, str]) -> set[str]:
        """Give the images that are known by their digests the names that they have there; these names."""
        if not known:
            return set()
        held: dict[str, list[str]] = {}
        for name, digest in known.items():
            held.setdefault(digest, []).append(name)
        same = {number: names.pop(0) for number in range(len(self)) if (names := held.get(self.digest(number)))}
        unused = Names()
        for name in known:
            unused(name)
        self.names = [same[n] if n in same else unused(self._named(n)) for n in range(len(self))]
        return set(same.values())

    def batches(self, size: int) -> Iterator[tuple[int, int]]:
        """From where to where each batch reaches."""
        if size < 1:
            raise OptionError(f"batch is a number of images, 1 or more, not {size}.")
        return ((start, min(start + size, len(self))) for start in range(0, len(self), size))

    def some(self, numbers: Sequence[int]) -> tuple[Any, dict[str, str]]:
        """Some of the images, and the reason for each that cannot be read."""
        if self.several:
            return mapped(self.inputs, lambda tensor: tensor[list(numbers)]), {}
        if isinstance(self.inputs, Tensor):
            return self.inputs[list(numbers)], {}
        read, missing = [], {}
        for number in numbers:
            photo = self.inputs[number]
            try:
                read.append(read_photo(photo) if isinstance(photo, (str, Path)) else photo)
            except PhotoError as error:
                missing[self.names[number]] = str(error)
        return read, missing


def is_of_each(value: Any) -> bool:
    """Whether it holds one entry for each image."""
    return isinstance(value, (list, tuple)) or (hasattr(value, "__array__") and value.ndim > 0)


def of_images(each: Any, numbers: Sequence[int]) -> Any:
    """What belongs to some of the images, of what is there for every one."""
    if not is_of_each(each):
        return each
    return [each[number] for number in numbers] if isinstance(each, (list, tuple)) else each[list(numbers)]


def arrays(value: Any) -> list[Any]:
    """Every tensor and array inside."""
    return [*leaves(value, lambda each: isinstance(each, (Tensor, np.ndarray)))]


def identity(value: Any) -> str:
    """How a value is spelled, so that two that differ are spelled differently, and one in the same way every time.

    Digits tell tensors and arrays inside apart, whose text leaves out most numbers, and functions, whose text is
    another in every process. A function that closes over values keeps that text: what these are is not known.
    """
    if isfunction(value) and value.__closure__ is None:
        code = value.__code__
        held = (code.co_code, code.co_names, code.co_consts, value.__defaults__, value.__kwdefaults__)
        return f"{value.__module__}:{value.__qualname__} {_digits([repr(held).encode()])}"
    return " ".join([str(value), *([_digits(map(_bytes, inside))] if (inside := arrays(value)) else [])])


def _digits(held: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(held)).hexdigest()[:16]


def _bytes(value: Any) -> bytes:
    """What a value holds: a picture's or numbers' own bytes, or how it is spelled."""
    if isinstance(value, Photo):
        return _bytes(value.image)
    if isinstance(value, (Tensor, np.generic)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (Image.Image, np.ndarray)):
        return _bytes(torch.from_numpy(np.array(value)))
    if isinstance(value, Tensor):
        numbers = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return f"{value.dtype} {tuple(value.shape)}".encode() + numbers
    inside = [repr(path).encode() + _bytes(tensor) for path, tensor in tensors(value)]
    return b"".join(inside) or repr(value).encode()
