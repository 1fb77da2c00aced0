"""What functions declare by their signatures, and the tables that find them by name: shared by methods and metrics.

The parameters before `*` name the quantities that a function needs, those after it are its options. No list has to be
edited: every module of a table's package is imported when the table is first asked.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

from whycam.errors import OptionError, WhycamError
from whycam.kit.options import check
from whycam.kit.words import did_you_mean


@dataclass(frozen=True)
class Option:
    """One keyword-only parameter of a function."""

    name: str
    annotation: Any
    default: Any

    def __str__(self) -> str:
        return f"{self.name}={self.default!r}"


@dataclass(frozen=True)
class Declared:
    """A function, and what its signature says of it: what it takes, and with what."""

    name: str
    title: str
    paper: str
    function: Callable[..., Any] = field(repr=False)
    takes: frozenset[str]
    options: Mapping[str, Option]

    @property
    def summary(self) -> str:
        """The first sentence of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n\n")[0].replace("\n", " ")

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise an `OptionError` for an option that the function does not have, or a value that it does not take."""
        check(self.name, {name: self.option(name).annotation for name in options}, options)

    def with_defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """All of the function's options, the given ones in place of their defaults."""
        return {**{each.name: each.default for each in self.options.values()}, **options}

    def option(self, name: str) -> Option:
        """The option of that name, or an `OptionError` that lists those there are."""
        if name in self.options:
            return self.options[name]
        known = ", ".join(map(str, self.options.values())) or "none"
        hint = did_you_mean(name, self.options, most=1)
        raise OptionError(f"{self.name} has no option {name!r}; its options are: {known}.{hint}")


Kind = TypeVar("Kind", bound=Declared)


class Table(Generic[Kind]):
    """What is registered, by name and by every spelling of a name or title.

    Args:
        package: whose modules register themselves when they are imported. `thing`: what one is called.
        missing: the error that is raised for a name that does not exist.
    """

    def __init__(self, package: str, thing: str, missing: type[WhycamError]) -> None:
        self.package, self.thing, self.missing = package, thing, missing
        self.known: dict[str, Kind] = {}
        self.spellings: dict[str, Kind] = {}
        self.imported = False

    def add(self, made: Kind) -> None:
        """Register one; a second of one name from another module is refused."""
        if made.name in self.known and self.known[made.name].function.__module__ != made.function.__module__:
            raise ValueError(f"a {self.thing} named {made.name!r} is already registered")
        self.known[made.name] = made
        self.spellings.update({plain(made.title): made, plain(made.name): made})

    def all(self) -> dict[str, Kind]:
        """Every registered one by name, in alphabetical order."""
        self._import()
        return dict(sorted(self.known.items()))

    def find(self, name: str) -> Kind:
        """The one of that name, spelled forgivingly."""
        self._import()
        if found := self.known.get(name) or self.spellings.get(plain(name)):
            return found
        near = get_close_matches(plain(name), self.spellings, n=1, cutoff=0.6)
        hint = f" Did you mean {self.spellings[near[0]].name!r}?" if near else ""
        raise self.missing(f"no {self.thing} {name!r}; there are {', '.join(self.all())}.{hint}")

    def _import(self) -> None:
        if not self.imported:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{package.__name__}.{module.name}")
            self.imported = True


def read_options(function: Callable[..., Any]) -> dict[str, Option]:
    """The parameters of a function after `*`."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: Option(p.name, p.annotation, p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}


def signature(function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """The names of a function's parameters before and after `*`."""
    parameters = inspect.signature(function).parameters.values()
    options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY], options


def plain(name: str) -> str:
    """A spelling stripped to what two spellings of one name share: `Grad-CAM++` and `gradcam_plus_plus` are equal."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "plus"))
