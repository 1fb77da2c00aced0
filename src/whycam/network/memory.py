"""How much memory a pass takes, counted from its tensors, and how much there is."""

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Where the system does not tell how much memory there is.
_UNKNOWN = 2 << 30
#: The root of /proc and /sys, which the tests move.
_ROOT = Path("/")


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the memory that operations of this thread make while it is entered: `live` now, and `peak`.

    What an operation needs only inside itself (a convolution's scratch space) is not seen. The numbers depend on the
    shapes and on the order of the operations alone, so they are the same on every machine.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made = self.peak = 0
        self._dropped: deque[int] = deque()
        self._lock = threading.RLock()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # an operation made of others (most are taken apart before they come here, not in inference mode)
        with self:
            made = func.decompose(*args, **kwargs)
        if made is not NotImplemented:
            return made
        out = func(*args, **kwargs)
        if not func.is_view:
            given = {_key(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
            made = {_key(each): each for each in tree_leaves(out) if isinstance(each, Tensor)}
            for key in made.keys() - given - {0}:
                self._add(made[key])
        return out

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        with self._lock:
            self._made += size
            self.peak = max(self.peak, self.live)
        # a finalizer that runs no code of ours: it may come at any moment, in any thread, also while the lock is held
        weakref.finalize(storage, self._dropped.append, size).atexit = False

    @property
    def live(self) -> int:
        """The bytes that are in use now."""
        with self._lock:
            while self._dropped:
                self._made -= self._dropped.popleft()
            return self._made


class _Counters(threading.local):
    def __init__(self) -> None:
        self.now: list[Peak] = []


_here = _Counters()


@contextmanager
def peak_bytes() -> Iterator[Peak]:
    """Count the tensors that this thread's operations make until the block ends: `live`, and `peak`, in bytes."""
    with Peak() as counter:
        _here.now.append(counter)
        try:
            yield counter
        finally:
            _here.now.remove(counter)


def note(size: int) -> None:
    """Report memory that was allocated outside torch for a while to this thread's counters."""
    for counter in _here.now:
        counter.peak = max(counter.peak, counter.live + size)


def _key(tensor: Tensor) -> int:
    """A number for a tensor's memory while it lives; 0 where it has none."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):  # sparse, nested and wrapper tensors have no memory of their own
        return 0


def free_bytes(device: torch.device) -> int:
    """How much more memory can be taken on a device now, without swapping, and within the limits of a container."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return min([_system(), *_containers()])


def _system() -> int:
    for line in _lines("proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        # macOS tells the whole only: half of it, since compressed and cached pages give way
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN


def _containers() -> Iterator[int]:
    """What the control groups around this process still allow: version 2, or version 1's for memory."""
    for line in _lines("proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from _allowed("sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            yield from _allowed("sys/fs/cgroup/memory", path, *names)


def _allowed(root: str, path: str, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    # every group limits what is in it; a container may see its own group as the root, under a path from outside
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts) + 1):
        group = "/".join([root, *parts[:depth]])
        most, used = _number(f"{group}/{limit}"), _number(f"{group}/{usage}")
        if most is not None and used is not None:
            cached = [line.split()[1] for line in _lines(f"{group}/memory.stat") if line.startswith(f"{reclaimable} ")]
            yield max(0, most - used + sum(map(int, cached)))


def _number(path: str) -> int | None:
    for line in _lines(path):
        return int(line) if line.isdigit() else None
    return None


def _lines(path: str) -> list[str]:
    try:
        return (_ROOT / path).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
