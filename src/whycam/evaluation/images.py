"""The images of an evaluation: read when they are needed, and known by what they hold."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from whycam.engine.identity import bytes_of, is_of_each
from whycam.errors import InputError, OptionError, PhotoError
from whycam.kit.files import Names, at_home, digits
from whycam.network.pytree import mapped, tensors
from whycam.pictures.photos import name_of, read_photo


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
            held = at_home(one).read_bytes() if isinstance(one, (str, Path)) else bytes_of(one)
        except (OSError, ValueError):  # a path with a null byte
            return ""
        return digits([held, *(bytes_of(each[number]) for each in self.of_each)])

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


def of_images(each: Any, numbers: Sequence[int]) -> Any:
    """What belongs to some of the images, of what is there for every one."""
    if not is_of_each(each):
        return each
    return [each[number] for number in numbers] if isinstance(each, (list, tuple)) else each[list(numbers)]
