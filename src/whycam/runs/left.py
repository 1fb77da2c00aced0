"""What of a source is still to be explained, and by whom."""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import islice

from whycam.runs.sources import Item, Source


@dataclass(frozen=True)
class Left:
    """The items of a source that have no rows yet; drawn one at a time, here or on another machine.

    Attributes:
        done: ids of images with rows.
        shard: `(k, n)` for one of n jobs that share the source: the images k, k + n, k + 2n, ... counted from 1.
    """

    source: Source
    done: Set[str] = frozenset()
    shard: tuple[int, int] = (1, 1)

    def __iter__(self) -> Iterator[Item]:
        k, n = self.shard
        return (item for item in islice(self.source, k - 1, None, n) if item.id not in self.done)

    @property
    def length(self) -> int | None:
        """How many they are at least, if the source knows its length."""
        if self.source.length is None:
            return None
        k, n = self.shard
        return max(len(range(k - 1, self.source.length, n)) - len(self.done), 0)
