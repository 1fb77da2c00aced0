"""The table of methods, read from each function's own signature.

A method is a pure function of tensors. Its parameters before `*` name the quantities it needs, those after `*` are its
options; nothing else has to be declared and no list has to be edited. Every module of `whycam.methods` is imported
when the table is first asked for.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, TypeVar

from torch import Tensor

from whycam.errors import MethodNotFound, OptionError, WhycamError
from whycam.kit.options import check
from whycam.kit.quantities import CLASS_INDEPENDENT, LAYER_QUANTITIES, QUANTITIES, Result
from whycam.kit.words import did_you_mean

Function = Callable[..., Tensor | Result]
Side = Literal["before", "after"]
F = TypeVar("F", bound=Function)


@dataclass(frozen=True)
class Option:
    """One keyword-only parameter of a method."""

    name: str
    annotation: Any
    default: Any

    def __str__(self) -> str:
        return f"{self.name}={self.default!r}"


@dataclass(frozen=True)
class Method:
    """A method and what its signature says of it: what the function takes, and with its fold it needs."""

    name: str
    title: str
    paper: str
    function: Function = field(repr=False)
    takes: frozenset[str]
    needs: frozenset[str]
    options: Mapping[str, Option]
    assumes_non_negative: bool = False
    side: Side = "after"
    caution: str = ""
    fusion: str = "mean"
    stages: int = 1
    couples: bool = False
    moves: bool = False
    fold: Callable[..., Tensor] | None = None

    @property
    def class_specific(self) -> bool:
        """Whether the map depends on the target. Where not, a `target` argument is refused."""
        return not self.needs <= CLASS_INDEPENDENT

    @property
    def has_layer(self) -> bool:
        """Whether the map is made at a layer. Where not (guided backprop), it is made at the input."""
        return bool(self.needs & LAYER_QUANTITIES)

    @property
    def summary(self) -> str:
        """The first sentence of the method's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n\n")[0].replace("\n", " ")

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise an `OptionError` for an option that the method does not have, or a value that it does not take."""
        check(self.name, {name: self.option(name).annotation for name in options}, options)

    def with_defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """All of the method's options, the given ones in place of their defaults."""
        return {**{each.name: each.default for each in self.options.values()}, **options}

    def option(self, name: str) -> Option:
        """The option of that name, or an `OptionError` that lists those there are."""
        if name in self.options:
            return self.options[name]
        known = ", ".join(map(str, self.options.values())) or "none"
        hint = did_you_mean(name, self.options, most=1)
        raise OptionError(f"{self.name} has no option {name!r}; its options are: {known}.{hint}")


_METHODS: dict[str, Method] = {}
#: Every spelling of a name or title, as `plain` leaves it.
_SPELLINGS: dict[str, Method] = {}


def method(
    title: str,
    *,
    paper: str,
    assumes_non_negative: bool = False,
    side: Side = "after",
    caution: str = "",
    fusion: str = "mean",
    stages: int = 1,
    couples: bool = False,
    moves: bool = False,
    fold: Callable[..., Tensor] | None = None,
) -> Callable[[F], F]:
    """Register a function as a method and return it unchanged.

    `paper` is `arXiv:ID`, `doi:ID`, or a short text where there is no paper. `assumes_non_negative` marks methods
    whose derivation takes activations to be at least zero; their maps of a signed layer carry a status that says so.
    `side` is where a layer that nobody names is recorded, before or after its activation function: evidence for
    `"before"` belongs in docs/benchmarks.md. `caution` is a warning attached to every map, for methods that measure
    below a random one. `fusion` is how several layers' maps become one unless the caller says, and `stages` how many of
    the last stages are taken where no layer is named, for methods that are made of several. `couples` marks methods
    whose map of a sample depends on the others of its batch, `moves` those that run parts or other sizes of the input.
    `fold` reduces each block of a transformer to what the method needs of it, for methods that ask for `folds`: a
    function of `attention`, `attention_gradients`, `queries`, `keys`, `values`, `head_outputs` or
    `head_output_gradients` of one block; the options that it names after `*` are the method's.

    Examples:
        >>> @whycam.method("Channel mean", paper="an example")
        ... def channel_mean(activations):
        ...     return activations.mean(1)
        >>> whycam.explain(net, batch, "channel mean", layer="1").title
        'Channel mean'
    """

    def register(function: F) -> F:
        made = replace(declare(function, title=title, paper=paper, fold=fold), side=side, caution=caution)
        made = replace(made, assumes_non_negative=assumes_non_negative, fusion=fusion, stages=stages)
        made = replace(made, couples=couples, moves=moves)
        if made.name in _METHODS and _METHODS[made.name].function.__module__ != function.__module__:
            raise ValueError(f"a method named {made.name!r} is already registered")
        _METHODS[made.name] = made
        _SPELLINGS.update({plain(made.title): made, plain(made.name): made})
        return function

    return register


def declare(
    function: Function, *, title: str | None = None, paper: str = "", fold: Callable[..., Tensor] | None = None
) -> Method:
    """Read a function's signature as a declaration, without registering it."""
    name = getattr(function, "__name__", type(function).__name__)
    parameters = inspect.signature(function).parameters.values()
    options = {p.name: Option(p.name, p.annotation, p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}
    takes = needs = frozenset(signature(function)[0])
    if (fold is None) == ("folds" in needs):
        raise WhycamError(f"{name} asks for folds and declares none, or the reverse; pass @method(..., fold=function).")
    if fold is not None:
        needs |= set(signature(fold)[0])
    if unknown := sorted(needs - QUANTITIES.keys()):
        raise WhycamError(
            f"{name} asks for {', '.join(unknown)}; a method can ask for {', '.join(QUANTITIES)}. "
            "Put options after `*`."
        )
    if not needs:
        raise WhycamError(f"{name} asks for no quantity; name at least one of {', '.join(QUANTITIES)} before `*`.")
    return Method(name, title or name, paper, function, takes, needs, options, fold=fold)


def signature(function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """The names of a function's parameters before and after `*`."""
    parameters = inspect.signature(function).parameters.values()
    options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY], options


@cache
def _import_all() -> None:
    package = importlib.import_module("whycam.methods")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def methods() -> dict[str, Method]:
    """Every registered method by name, in alphabetical order."""
    _import_all()
    return dict(sorted(_METHODS.items()))


def list_methods() -> list[Method]:
    """Every method, each with its name, title, paper, needs and options, in alphabetical order.

    Examples:
        >>> [each.title for each in whycam.list_methods()][:2]
        ['Ablation-CAM', 'Attention rollout']
    """
    return list(methods().values())


def plain(name: str) -> str:
    """A spelling stripped to what two spellings of one name share: `Grad-CAM++` and `gradcam_plus_plus` are equal."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "plus"))


def find(method: str | Function) -> Method:
    """The method of that name, spelled forgivingly (`"gradcam"`, `"Grad-CAM++"`), or any function's declaration."""
    if not isinstance(method, str):
        if not callable(method):
            raise MethodNotFound(f"method must be a name or a function, not {type(method).__name__}.")
        registered = methods().get(getattr(method, "__name__", ""))
        return registered if registered and registered.function is method else declare(method)
    _import_all()
    if found := _METHODS.get(method) or _SPELLINGS.get(plain(method)):
        return found
    near = get_close_matches(plain(method), _SPELLINGS, n=1, cutoff=0.6)
    hint = f" Did you mean {_SPELLINGS[near[0]].name!r}?" if near else ""
    raise MethodNotFound(f"no method {method!r}; there are {', '.join(methods())}.{hint}")
