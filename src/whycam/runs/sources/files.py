"""The files that folders, globs and patterns name, listed folder by folder."""

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from whycam.errors import WhycamError
from whycam.kit.files import at_home

#: Every file in a folder and below it.
EVERYTHING = ("**", "*")


def below(folder: Path, pattern: tuple[str, ...], suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The files below a folder that a pattern names, one part for each folder and `**` for any number of them.

    Hidden files and folders are left out. Linked folders are followed, but not into a folder that they lie in. They
    come in the order of their paths' parts; no more than the names in the folders that lead to a file are held.
    """
    return _below(folder, frozenset([pattern]), suffixes, frozenset())


def _below(
    folder: Path, patterns: frozenset[tuple[str, ...]], suffixes: tuple[str, ...], above: frozenset[tuple[int, int]]
) -> Iterator[Path]:
    try:
        itself = folder.stat()
        here = (itself.st_dev, itself.st_ino)
        if here in above:
            return
        names, folders = _names(folder)
    except OSError as error:
        raise WhycamError(
            f"{folder}: the folder cannot be listed: {error.strerror or error}. Make it readable, or leave it out."
        ) from error
    patterns |= {each[1:] for each in patterns if each[0] == "**"}  # which may stand for no folder
    for name in sorted(names):
        rests = {each if each[0] == "**" else each[1:] for each in patterns if fnmatch(name, each[0])}
        if name in folders:
            if further := frozenset(rests - {()}):
                yield from _below(folder / name, further, suffixes, above | {here})
        elif () in rests and name.lower().endswith(suffixes):
            yield folder / name


def _names(folder: Path) -> tuple[list[str], set[str]]:
    """The names in a folder that are not hidden, and which of them are folders."""
    names, folders = [], set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                names.append(entry.name)
                # `entry.is_dir()` follows links too, but raises where a link leads to itself
                if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and Path(entry.path).is_dir()):
                    folders.add(entry.name)
    return names, folders


def glob_parts(given: Path) -> tuple[Path, tuple[str, ...]] | None:
    """A glob's fixed part and its pattern; `None` for what is no glob, or names a file or folder as it stands."""
    magic = [number for number, part in enumerate(given.parts) if re.search(r"[*?[]", part)]
    if not magic or given.exists():
        return None
    pattern = given.parts[magic[0] :]
    return Path(*given.parts[: magic[0]]), (*pattern, "*") if pattern[-1] == "**" else pattern


def shards(source: Any, suffix: str) -> list[Path] | None:
    """The files of one suffix that a path, folder, glob, pattern with braces, or several of these name, each once.

    `None` for what names other files.

    Raises:
        WhycamError: one of them is not there.
    """
    several = source if isinstance(source, list | tuple) else [source]
    if not several or not all(isinstance(each, str | Path) for each in several):
        return None
    found: dict[Path, None] = {}
    for each in several:
        path = at_home(each)
        if path.is_dir():
            files = [*below(path, EVERYTHING, (suffix,))]
        elif path.suffix.lower() != suffix:
            return None
        else:
            files = [file for named in _braces_opened(str(path)) for file in _named(Path(named), suffix)]
        found |= dict.fromkeys(files)
    return [*found] or None


def _named(path: Path, suffix: str) -> list[Path]:
    parts = glob_parts(path)
    found = [path] * path.is_file() if parts is None else [*below(*parts, (suffix,))]
    if not found:
        raise WhycamError(f"{path}: there is no such file.")
    return found


def _braces_opened(text: str) -> list[str]:
    """`a-{08..10}.tar` -> `a-08.tar`, `a-09.tar`, `a-10.tar`; `{train,test}.tar` likewise."""
    braces = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", text)
    if braces is None or Path(text).exists():
        return [text]
    first, last, names = braces.groups()
    inside = names.split(",") if names else [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    return [each for one in inside for each in _braces_opened(text[: braces.start()] + one + text[braces.end() :])]


def common_folder(files: list[Path]) -> Path:
    """The folder that all of them lie in or below."""
    return Path(os.path.commonpath([file.absolute().parent for file in files]))


def given_as(source: Any) -> str:
    """What a source of files is named by."""
    if not isinstance(source, list | tuple):
        return str(source)
    return str(source[0]) if len(source) == 1 else f"{source[0]} to {source[-1]}, {len(source)} in all"
