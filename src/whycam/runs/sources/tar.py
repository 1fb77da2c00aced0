"""WebDataset shards: tar files in which the files of one image follow each other and share a name."""

import json
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from whycam.errors import WhycamError
from whycam.runs.sources.files import common_folder, given_as, shards
from whycam.runs.sources.source import Asked, Item, Source, each_once, id_of, label_of, target_of

_PHOTOS = ("jpg", "jpeg", "png", "webp")


def opened(source: Any, asked: Asked) -> Source | None:
    """Ids are a shard's name, from the folder that all lie in, and an image's in it."""
    files = shards(source, ".tar")
    if files is None:
        return None
    found = Source("tar", given_as(source), partial(_items, files))
    if next(iter(found), None) is None:
        raise WhycamError(f"{found.given}: there is no image in it; looked for {', '.join(_PHOTOS)}.")
    return found


def _items(files: list[Path]) -> Iterator[Item]:
    folder = common_folder(files)
    for file in files:
        yield from _shard(file, id_of(file.absolute().relative_to(folder)))


def _shard(file: Path, name: str) -> Iterator[Item]:
    try:
        yield from each_once(_samples(file, name), str(file))
    except (tarfile.TarError, OSError) as error:
        raise WhycamError(f"{file}: the shard cannot be read whole: {error}. What came before is good.") from error


def _samples(file: Path, shard: str) -> Iterator[Item]:
    """A shard's images. What has no photo is none."""
    for key, members in groupby(_members(file), lambda member: member[0]):
        held = {ending: read() for _, ending, read in members}
        photos = [ending for ending in held if _kind(ending) in _PHOTOS]
        if photos:
            said = _said(held, f"{file}, {key}")
            # `a.jpg` before `a.mask.png`
            photo = held[min(photos, key=lambda ending: "." in ending)]
            yield Item(f"{shard}/{key}", photo, target_of(said.get("target")), label_of(said.get("label")))


def _said(held: dict[str, bytes], where: str) -> dict[str, Any]:
    """What the files beside a photo say of it."""
    try:
        said = json.loads(held.get("json", b"{}"))
        told = {"label": held["cls"].decode()} if "cls" in held else {}
    except ValueError as error:
        raise WhycamError(f"{where}: what is said of the image cannot be read: {error}.") from error
    return told | (said if isinstance(said, dict) else {})


def _members(file: Path) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """The name of each file that is of use, up to its first dot; what follows, in small letters; and its bytes.

    The bytes are read when they are asked for, so that a sample is not lost for one behind it that breaks off.
    """
    with tarfile.open(file, "r:") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # else every member's header is kept
            folder, slash, name = member.name.rpartition("/")
            key, _, ending = name.partition(".")
            if member.isreg() and key and _kind(ending) in (*_PHOTOS, "cls", "json"):
                held = archive.extractfile(member)
                assert held is not None  # of a regular file
                yield id_of(Path(folder + slash + key)), ending.lower(), held.read
        # tarfile takes a header that is cut off or damaged for the end
        with file.open("rb") as rest:
            rest.seek(archive.offset)
            if rest.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it breaks off, or is damaged, before its end")


def _kind(ending: str) -> str:
    return ending.lower().rpartition(".")[2]
