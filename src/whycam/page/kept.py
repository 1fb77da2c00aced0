"""What the page keeps: photos and maps, in memory alone and within bounds; the oldest go."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath
from threading import Lock
from typing import Any, Generic, TypeVar

import torch

from whycam.errors import PhotoError
from whycam.page.refusals import unknown
from whycam.pictures.photos import Photo, read_photo, safe_name
from whycam.results.explanation import Explanation
from whycam.results.saving import record

#: Bytes of photos, of which a large one takes 120 MB, and of maps.
_PHOTOS, _MAPS = 2**29, 2**27
#: What a map takes beside its numbers: its words and records.
_WORDS = 2**14

Value = TypeVar("Value")


class Bounded(Generic[Value]):
    """Values by their ids, up to so many bytes. What was asked for longest ago goes first; the newest stays."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._held: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self._lock = Lock()

    def put(self, name: str, value: Value, size: int) -> None:
        """Keep a value of that many bytes."""
        with self._lock:
            self.bytes += size - self._held.pop(name, (None, 0))[1]
            self._held[name] = value, size
            while self.bytes > self.limit and len(self._held) > 1:
                self.bytes -= self._held.popitem(last=False)[1][1]

    def get(self, name: str) -> Value | None:
        """The value of that id, if it is still here."""
        with self._lock:
            if name not in self._held:
                return None
            self._held.move_to_end(name)
            return self._held[name][0]

    def values(self) -> list[Value]:
        """All of them, the last asked for first."""
        with self._lock:
            return [each for each, _ in reversed(self._held.values())]

    def __len__(self) -> int:
        return len(self._held)


@dataclass(frozen=True)
class KeptPhoto:
    """A photo as it came, and the picture that is drawn of it.

    `name` is shown; `source` is what code would call it: its path where it is one of this machine's, else its name.
    """

    id: str
    name: str
    photo: Photo
    drawn: Photo
    source: str

    @property
    def bytes(self) -> int:
        """What its pixels take."""
        pictures = {id(each): each for each in (self.photo.image, self.drawn.image)}
        return sum(3 * each.width * each.height for each in pictures.values())


@dataclass(frozen=True)
class KeptMap:
    """One map, laid on the picture that is drawn of its photo, and the record of how it came about."""

    id: str
    one: Explanation
    record: Mapping[str, Any]


class Kept:
    """Photos by digest, and the maps of each answer together.

    Args:
        samples: photos on this machine that the page offers, by what they are called; read again where they are gone.
    """

    def __init__(self, samples: Mapping[str, Path]) -> None:
        self.photos: Bounded[KeptPhoto] = Bounded(_PHOTOS)
        self.maps: Bounded[list[KeptMap]] = Bounded(_MAPS)
        self.samples = {digest(path.read_bytes()): (name, path) for name, path in samples.items()}

    def add(self, data: bytes, name: str, source: str, read: Callable[[], Photo]) -> KeptPhoto:
        """Keep the photo in a file's content, which is read unless its pixels are here already."""
        known = self.photos.get(digest(data))
        if known is None:
            photo = read()
            made = KeptPhoto(digest(data), name, photo, photo.to_draw, source)
        else:
            photo, drawn = (replace(each, name=stem(name)) for each in (known.photo, known.drawn))
            made = replace(known, name=name, photo=photo, drawn=drawn, source=source)
        self.photos.put(made.id, made, made.bytes)
        return made

    def photo(self, name: str) -> KeptPhoto:
        """The photo of that id.

        Raises:
            Refused: there is none here (any more).
            PhotoError: a sample that cannot be read.
        """
        if (found := self.photos.get(name)) is not None:
            return found
        if name not in self.samples:
            raise unknown("photo", name)
        shown, path = self.samples[name]
        data = path.read_bytes()
        if digest(data) != name:
            raise PhotoError(f"{path} has changed since the page was started; start it again.")
        return self.add(data, shown, str(path), lambda: read_photo(path))

    def named(self, name: str) -> KeptPhoto:
        """The photo of that id, or else the newest that is called so.

        Raises:
            Refused, PhotoError: as above.
        """
        ids = [each.id for each in self.photos.values() if each.name == name]
        ids += [each for each, (shown, _) in self.samples.items() if shown == name]
        return self.photo(ids[0] if ids and self.photos.get(name) is None else name)

    def keep(self, ones: Sequence[Explanation], drawn: Photo) -> list[KeptMap]:
        """Keep the maps of one photo, as long as each other, and without the photo's own pixels."""
        group = secrets.token_hex(8)
        made = [
            KeptMap(f"{group}{number:04x}", _on(drawn, one), record(one, 0)) for number, one in enumerate(ones)
        ]  # fmt: skip
        picture = 3 * drawn.image.width * drawn.image.height
        held = {each.data_ptr(): each.nbytes() for one in made for each in _storages(one.one)}
        self.maps.put(group, made, sum(held.values()) + _WORDS * len(made) + picture)
        return made

    def map(self, name: str) -> KeptMap:
        """The map of that id.

        Raises:
            Refused: there is none here (any more).
        """
        group = self.maps.get(name[:16]) or []
        found = next((each for each in group if each.id == name), None)
        if found is None:
            raise unknown("map", name)
        return found


def stem(name: str) -> str:
    """What of a photo's name becomes a part of file names; a name is never a path."""
    return safe_name(PurePath(name).stem) or "photo"


def digest(data: bytes) -> str:
    """What a file's content is called, the same in every process."""
    return hashlib.sha256(data).hexdigest()[:32]


def _on(drawn: Photo, one: Explanation) -> Explanation:
    """The explanation on the picture that is drawn, where a large photo is a small one."""
    context = one.context
    assert context is not None  # photos are explained here
    places, inputs = context.geometries, context.inputs
    if places is not None:  # then nothing is drawn on what the network was given, and its size is enough
        places = tuple(each.on_photo_of(drawn.size) for each in places)
        inputs = inputs.new_zeros(()).expand(inputs.shape)
    return replace(one, context=replace(context, inputs=inputs, photos=(drawn,), geometries=places))


def _storages(one: Explanation) -> list[torch.UntypedStorage]:
    assert one.context is not None  # as above
    held = [getattr(one, each.name) for each in fields(one)]
    tensors = [*held, *one.values.values(), one.context.inputs]
    return [each.untyped_storage() for each in tensors if isinstance(each, torch.Tensor)]
