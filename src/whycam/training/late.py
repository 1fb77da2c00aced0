"""Callbacks whose base class is another package's, which is imported when a callback is made and no sooner."""

from functools import cache
from typing import Any, TypeVar

Self = TypeVar("Self", bound="Late")


class Late:
    """What is made of a subclass derives from the classes that its `_bases` names as well."""

    _own: type["Late"]

    def __new__(cls: type[Self], *args: Any, **options: Any) -> Self:
        own: Any = cls
        made: Self = object.__new__(_joined(own, cls._bases()))
        return made

    @staticmethod
    def _bases() -> tuple[type, ...]:
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        return Late.__new__, (self._own,), self.__dict__  # no module holds the joined class by its name


@cache
def _joined(own: Any, bases: tuple[type, ...]) -> Any:
    return type(own.__name__, (own, *bases), {"__module__": own.__module__, "__doc__": own.__doc__, "_own": own})
