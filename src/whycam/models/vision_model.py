"""A network with what it takes to ask it about a photo: its preprocessing and its labels."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from whycam.errors import ModelError, WhycamError
from whycam.kit.words import first_line
from whycam.models.conversion import as_function
from whycam.network.adapted import Adapted
from whycam.pictures.measured import Measured
from whycam.pictures.preprocess import Preprocess
from whycam.targets import Borrowed

#: `Preprocess`, whose geometry is known, or any function from a PIL image to a tensor `(channel, height, width)`, such
#: as a transform of torchvision's, or an image processor of transformers': where its inputs lie on photos is measured.
PreprocessLike: TypeAlias = Preprocess | Callable[[Any], Any]


def _none() -> None:
    """No lambda, which `pickle` cannot send to another process."""


@dataclass(frozen=True)
class VisionModel:
    """A module, how a photo becomes its input, and what its classes are called.

    Attributes:
        module: the network, an `nn.Module`; a Keras model is worn as one. Nothing here changes it.
        preprocess: photo -> input.
        labels: the classes' texts by index, if known.
        name: where it came from, for titles and records.
        ready: what a library's own batches (arrays, channels last) are as tensors `(N, C, *spatial)`, where the
            network is of another framework; photos it gives back as they are.
        input_shape: `(channel, *spatial)` of its input, where the model itself says it.
        owner: the other framework's own object, kept alive.
        tokenizer: what gives the tokenizer of a model that reads texts too, where one is known, else `None`.
        preprocess_note: what to say of `preprocess` where nobody passed it.

    Examples:
        >>> model = whycam.VisionModel(net, whycam.Preprocess.imagenet(16, 18), labels=["cat", "dog"])
        >>> whycam.explain(model, np.zeros((20, 30, 3), dtype=np.uint8), target="dog").target
        ('dog',)
    """

    module: Any
    preprocess: PreprocessLike | None = None
    labels: Sequence[str] | None = None
    name: str = ""
    preprocess_note: str = ""
    ready: Callable[[Any], Any] | None = None
    input_shape: tuple[int, ...] | None = None
    owner: Any = field(default=None, repr=False)
    tokenizer: Callable[[], Any] = field(default=_none, repr=False, compare=False)
    #: What was measured of `preprocess`, by what it was measured on.
    measured: dict[Any, Measured] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.ready is None:
            self._adopt()
        if isinstance(self.preprocess, type):
            raise ModelError(
                f"preprocess= is the class {self.preprocess.__name__} itself; pass one that was made of it, such as "
                "whycam.Preprocess.imagenet()."
            )
        object.__setattr__(self, "preprocess", as_function(self.preprocess))
        object.__setattr__(self, "name", self.name or type(self.module).__name__)
        object.__setattr__(self, "labels", as_labels(self.labels))
        if self.preprocess is not None and not callable(self.preprocess):
            raise ModelError(
                f"preprocess is a function from a photo to an input, such as whycam.Preprocess.imagenet(), not "
                f"{self.preprocess!r}."
            )

    def _adopt(self) -> None:
        """Where the module is another framework's model, put the module that wears it in its place."""
        from whycam.models.sources import adopted  # whose files import this

        found = adopted(self.module)
        if found is None:
            return
        for name in ("module", "ready", "input_shape", "owner"):
            object.__setattr__(self, name, getattr(found, name))
        for name in ("labels", "name"):
            object.__setattr__(self, name, getattr(self, name) or getattr(found, name))
        if self.preprocess is None:
            object.__setattr__(self, "preprocess", found.preprocess)
            object.__setattr__(self, "preprocess_note", found.preprocess_note)


def as_labels(given: Any) -> tuple[str, ...] | None:
    """Labels by index, from a sequence or from a mapping such as Hugging Face's `id2label`."""
    if given is None or isinstance(given, Borrowed):
        return given
    if isinstance(given, Mapping):
        by_index = {int(index): text for index, text in given.items()}
        if sorted(by_index) != list(range(len(by_index))):
            raise ModelError(f"labels by index must have every index from 0 to {len(by_index) - 1}.")
        given = [by_index[index] for index in range(len(by_index))]
    texts = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (None,)
    if not all(isinstance(text, str) for text in texts):
        raise ModelError("labels are the classes' texts in order of their index: a list of strings.")
    return texts


def put_on(vision: VisionModel, device: str, asked: str) -> None:
    """Move a model's network to a device.

    Args:
        asked: how the caller named the device, for the error.

    Raises:
        WhycamError: there is no such device, or the network is of another framework, which places it itself.
    """
    if isinstance(vision.module, Adapted):
        raise WhycamError(f"{asked} is for networks in torch; {vision.module.framework} places its networks itself.")
    try:
        vision.module.to(device)
    except (RuntimeError, AssertionError) as error:  # torch raises either where a device is unknown or not there
        raise WhycamError(f"{asked} {device}: the network cannot be put there: {first_line(error)}") from error
