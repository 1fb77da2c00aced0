"""What the options of methods, targets and fusions take: read from their annotations, and checked in one place."""

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from whycam.errors import OptionError
from whycam.kit.words import did_you_mean


@dataclass(frozen=True)
class Domain:
    """Which values of a type an option takes: in words, and as a check."""

    words: str
    holds: Callable[[Any], bool]


Count: TypeAlias = Annotated[int, Domain("a whole number, 1 or more", lambda value: value >= 1)]
NonNegative: TypeAlias = Annotated[float, Domain("a number, 0 or more", lambda value: value >= 0)]
Positive: TypeAlias = Annotated[float, Domain("a number above 0", lambda value: value > 0)]
AtLeastOne: TypeAlias = Annotated[float, Domain("a number, 1 or more", lambda value: value >= 1)]
OpenShare: TypeAlias = Annotated[float, Domain("a number above 0 and below 1", lambda value: 0 < value < 1)]
PartialShare: TypeAlias = Annotated[float, Domain("a number from 0, below 1", lambda value: 0 <= value < 1)]
Shares: TypeAlias = Annotated[
    tuple[float, ...],
    Domain("one or more numbers above 0 and below 1", lambda each: each and min(each) > 0 and max(each) < 1),
]
Percentile: TypeAlias = Annotated[float, Domain("a number from 0 to 100", lambda value: 0 <= value <= 100)]

_WORDS: Mapping[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "none", None: "none",
}  # fmt: skip


def choices(kind: Any) -> list[Any]:
    """The members of a union; any other annotation by itself."""
    return list(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else [kind]


def words(kind: Any) -> str:
    """What an annotation allows, in words."""
    several = choices(kind)
    if len(several) > 1:
        return " or ".join(map(words, several))
    origin = get_origin(kind)
    if origin is Annotated:
        return next((each.words for each in kind.__metadata__ if isinstance(each, Domain)), words(kind.__origin__))
    if origin is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"several of these, one for each axis ({words(get_args(kind)[0])})"
    return _WORDS.get(kind, f"a {getattr(kind, '__name__', kind)}")


def fits(kind: Any, value: Any) -> bool:
    """Whether a value is one that an annotation allows. Truth values, NaN and infinity are no numbers."""
    several = choices(kind)
    if len(several) > 1:
        return any(fits(each, value) for each in several)
    origin = get_origin(kind)
    if origin is Annotated:
        domains = (each for each in kind.__metadata__ if isinstance(each, Domain))
        return fits(kind.__origin__, value) and all(each.holds(value) for each in domains)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in get_args(kind))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, (list, tuple)) and all(fits(get_args(kind)[0], each) for each in value)
    if kind in (None, type(None)):
        return value is None
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) if isinstance(kind, type) and kind is not inspect.Parameter.empty else True


def check(owner: str, kinds: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise an `OptionError` for a value that its option does not take.

    Args:
        owner: whose options these are, for the sentence. `kinds`: the annotation of each.
    """
    for name, value in values.items():
        if name in kinds and not fits(kinds[name], value):
            literals = [each for choice in choices(kinds[name]) for each in get_args(choice) if isinstance(each, str)]
            hint = did_you_mean(value, literals, most=1) if isinstance(value, str) else ""
            raise OptionError(f"the option {name!r} of {owner} takes {words(kinds[name])}, not {value!r}.{hint}")
