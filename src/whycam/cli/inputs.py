"""The photos that a command line names."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from whycam.errors import PhotoError
from whycam.kit.files import at_home
from whycam.kit.words import plural


@dataclass(frozen=True)
class Failure:
    """A photo that was not explained. `files` were written all the same."""

    photo: str
    reason: str
    files: tuple[Path, ...] = ()

    @classmethod
    def of(cls, photo: str | Path, error: Exception) -> "Failure":
        """An error about a photo, whose message may begin with the photo's path."""
        return cls(str(photo), str(error).removeprefix(f"{photo}: "))


@dataclass
class Found:
    """Files to explain, arguments that name none, and how many pictures of whycam's own were passed over."""

    photos: list[Path] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    own: int = 0


def find(given: Sequence[str]) -> Found:
    """The photos that files, folders and globs name, each once.

    What whycam drew into a folder is not among that folder's photos, unless it is named outright.

    Raises:
        PhotoError: no argument names any photo.
    """
    from whycam.pictures.photos import find_photos

    found = Found()
    seen: set[Path] = set()
    for argument in given:
        try:
            paths = find_photos([argument])
        except PhotoError as error:
            found.failures.append(Failure.of(argument, error))
            continue
        mine = paths if at_home(argument).is_file() else [path for path in paths if not _is_ours(path)]
        found.own += len(paths) - len(mine)
        if not mine:
            found.failures.append(Failure(argument, "holds nothing but pictures that whycam drew"))
        found.photos += [path for path in mine if path.absolute() not in seen]
        seen.update(path.absolute() for path in mine)
    if not found.photos:
        raise PhotoError("; ".join(f"{each.photo}: {each.reason}" for each in found.failures))
    return found


def own_note(found: Found) -> str:
    """What to say of pictures passed over."""
    return f"{plural(found.own, 'picture')} that whycam drew earlier left out."


def _is_ours(path: Path) -> bool:
    for ending in (".overlay.png", ".overlay.gif", ".heat.png", ".mask.png", ".panels.png"):
        if path.name.endswith(ending):
            return path.with_name(path.name.removesuffix(ending) + ".map.npy").exists()
    return path.name.endswith((".compare.png", ".layers.png", ".curves.png"))
