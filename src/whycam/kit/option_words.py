"""A method's own options in words, `NAME=VALUE`, made into the types that its signature asks for."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from whycam.errors import WhycamError

if TYPE_CHECKING:
    from whycam.kit.declared import Declared, Option
else:
    Declared = Option = Any  # bring torch

_TRUE, _FALSE, _NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null")


def parse_options(
    given: Sequence[str], methods: Sequence[Declared], among: str = "methods"
) -> dict[str, dict[str, Any]]:
    """The options for each method or metric by its name. Where there are several an entry is `METHOD.NAME=VALUE`.

    Raises:
        WhycamError: an entry of another form, an unknown option, or a value that is not what the option takes.
    """
    from whycam.kit.declared import plain

    made: dict[str, dict[str, Any]] = {method.name: {} for method in methods}
    for entry in given:
        left, equals, value = entry.partition("=")
        owner, dot, name = left.strip().rpartition(".")
        if not equals or not name:
            raise WhycamError(f"an option is written NAME=VALUE, not {entry!r}.")
        if not dot and len(methods) > 1:
            raise WhycamError(f"with several {among} an option is written METHOD.NAME=VALUE, not {entry!r}.")
        method = next(
            (each for each in methods if not dot or plain(owner) in (plain(each.name), plain(each.title))), None
        )
        if method is None:
            asked = ", ".join(each.name for each in methods)
            raise WhycamError(f"the option {entry!r} is for {owner!r}, which is not among the {among} ({asked}).")
        option = method.option(name)
        if name in made[method.name]:
            raise WhycamError(f"the option {name!r} of {method.name} came twice.")
        made[method.name][name] = convert(method, option, value.strip())
    return made


def convert(method: Declared, option: Option, value: str) -> Any:
    """A value as the option's annotation says, or, where it has none, of its default's type."""
    from whycam.kit.options import check, fits

    kind = option.annotation
    if kind is inspect.Parameter.empty:
        kind = type(option.default) if option.default is not None else str
    made = next((each for each in _meanings(value) if fits(kind, each)), value)
    check(method.name, {option.name: kind}, {option.name: made})
    return made


def _meanings(value: str) -> Iterator[Any]:
    """What a word may mean: text, nothing, a truth value, a number, or several."""
    yield value
    lower = value.lower()
    if lower in _NONE:
        yield None
    if lower in _TRUE + _FALSE:
        yield lower in _TRUE
    for number in (float, int):
        with suppress(ValueError):
            yield number(value)
    if "," in value:
        for one in (str.strip, float, int):
            with suppress(ValueError):
                yield tuple(map(one, value.split(",")))
