"""One writer to a folder at a time; a writer that was killed holds nothing."""

import os
import socket
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from whycam.errors import WhycamError

fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None  # Windows has none
_held: set[int] = set()


def _close_in_child() -> None:
    """A forked worker that outlives a killed writer would go on holding the lock."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class Lock:
    """The right to write to a folder, from when this is made until `release`.

    Where the disk knows no locks, which some network disks do not, a file that only one can make stands in.

    Raises:
        WhycamError: another process has it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._handle: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        self._made: Path | None = None
        try:
            if not self._flocked(self._handle):
                self._made = self._make()
            _held.add(self._handle)
            os.ftruncate(self._handle, 0)
            os.write(self._handle, _here().encode())
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others write; a second time does nothing."""
        if self._handle is not None:
            _held.discard(self._handle)
            os.close(self._handle)
            self._handle = None
        if self._made is not None:
            self._made.unlink(missing_ok=True)
            self._made = None

    def _flocked(self, handle: int) -> bool:
        """Whether the disk knows locks."""
        if fcntl is None:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._refused(os.read(handle, 300).decode(errors="replace")) from None
        except OSError:
            return False
        return True

    def _make(self) -> Path:
        path = self.path.with_name("lock.held")
        try:
            path.open("x").close()
        except FileExistsError:
            holder = path.read_text()
            if not _is_gone(holder):
                advice = f"If nothing writes there any more, delete {path}."
                raise self._refused(holder, advice) from None
        path.write_text(_here())
        return path

    def _refused(self, holder: str, advice: str = "Wait until it is done, or take another folder.") -> WhycamError:
        return WhycamError(f"another run writes to {self.path.parent} ({holder or 'it has just begun'}). {advice}")


def _here() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _is_gone(holder: str) -> bool:
    """Whether a process of this machine is known to have ended; Windows has no harmless way to ask."""
    words = holder.split()
    if os.name != "posix" or len(words) != 4 or words[3] != socket.gethostname():
        return False
    try:
        os.kill(int(words[1]), 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    return False
