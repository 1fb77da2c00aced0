"""Work on threads, a little behind the work that it follows, and in the same order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def behind(calls: Iterable[Callable[[], T]], threads: int) -> Generator[T, None, None]:
    """What the calls return, in order. While the next one is made, as many as there are threads are under way.

    Args:
        threads: 0 to make each call where it is asked for.
    """
    if not threads:
        yield from (call() for call in calls)
        return
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads, "whycam-behind") as pool:
        for call in calls:
            waiting.append(pool.submit(call))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
