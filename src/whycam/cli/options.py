"""A method's own options, `NAME=VALUE`, made into the types that its signature asks for."""

import inspect
import math
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from whycam.errors import WhycamError

if TYPE_CHECKING:
    from whycam.kit.registry import Method, Option
else:
    Method = Option = Any  # bring torch

_TRUE, _FALSE, _NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null")


def parse_options(given: Sequence[str], methods: Sequence[Method]) -> dict[str, dict[str, Any]]:
    """The options for each method by its name. Where there are several methods an entry is `METHOD.NAME=VALUE`.

    Raises:
        WhycamError: an entry of another form, an unknown option, or a value that is not what the option takes.
    """
    from whycam.kit.registry import plain

    made: dict[str, dict[str, Any]] = {method.name: {} for method in methods}
    for entry in given:
        left, equals, value = entry.partition("=")
        owner, dot, name = left.strip().rpartition(".")
        if not equals or not name:
            raise WhycamError(f"an option is written NAME=VALUE, not {entry!r}.")
        if not dot and len(methods) > 1:
            raise WhycamError(f"with several methods an option is written METHOD.NAME=VALUE, not {entry!r}.")
        method = next(
            (each for each in methods if not dot or plain(owner) in (plain(each.name), plain(each.title))), None
        )
        if method is None:
            asked = ", ".join(each.name for each in methods)
            raise WhycamError(f"the option {entry!r} is for {owner!r}, which is not among the methods ({asked}).")
        option = method.option(name)
        if name in made[method.name]:
            raise WhycamError(f"the option {name!r} of {method.name} came twice.")
        made[method.name][name] = convert(method, option, value.strip())
    return made


def convert(method: Method, option: Option, value: str) -> Any:
    """A value as the option's annotation says, or, where it has none, of its default's type."""
    from whycam.kit.options import check

    kind = option.annotation
    if kind is inspect.Parameter.empty:
        kind = type(option.default) if option.default is not None else str
    found, made = _as(kind, value)
    check(method.name, {option.name: kind}, {option.name: made if found else value})
    return made


def _as(kind: Any, value: str) -> tuple[bool, Any]:
    """Whether the value can be read as that type, and as what."""
    lower = value.lower()
    if get_origin(kind) is Annotated:
        return _as(kind.__origin__, value)
    if get_origin(kind) in (tuple, Sequence):
        parts = [_as(get_args(kind)[0], each.strip()) for each in value.split(",")]
        return len(parts) > 1 and all(found for found, _ in parts), tuple(made for _, made in parts)
    if get_origin(kind) in (Union, types.UnionType):
        return next((pair for pair in (_as(each, value) for each in get_args(kind)) if pair[0]), (False, None))
    if get_origin(kind) is Literal:
        found = [each for each in get_args(kind) if str(each) == value]
        return bool(found), found[0] if found else None
    if kind in (type(None), None):
        return lower in _NONE, None
    if kind is bool:
        return lower in _TRUE + _FALSE, lower in _TRUE
    if kind in (int, float):
        try:
            number = kind(value)
        except ValueError:
            return False, None
        return math.isfinite(number), number
    return kind is str, value
