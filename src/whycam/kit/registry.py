"""The table of methods, read from each function's own signature.

A method is a pure function of tensors. Its parameters before `*` name the quantities it needs, those after `*` are its
options; nothing else has to be declared and no list has to be edited. Every module of `whycam.methods` is imported
when the table is first asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from torch import Tensor

from whycam.errors import MethodNotFound, WhycamError
from whycam.kit.declared import Declared, Table, read_options, signature
from whycam.kit.quantities import CLASS_INDEPENDENT, LAYER_QUANTITIES, QUANTITIES, Result

Function = Callable[..., Tensor | Result]
Side = Literal["before", "after"]
F = TypeVar("F", bound=Function)


@dataclass(frozen=True)
class Method(Declared):
    """A method and what its signature says of it: what the function takes, and with its fold it needs."""

    needs: frozenset[str] = frozenset()
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


TABLE: Table[Method] = Table("whycam.methods", "method", MethodNotFound)


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
        TABLE.add(replace(made, couples=couples, moves=moves))
        return function

    return register


def declare(
    function: Function, *, title: str | None = None, paper: str = "", fold: Callable[..., Tensor] | None = None
) -> Method:
    """Read a function's signature as a declaration, without registering it."""
    name = getattr(function, "__name__", type(function).__name__)
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
    return Method(name, title or name, paper, function, takes, read_options(function), needs, fold=fold)


def methods() -> dict[str, Method]:
    """Every registered method by name, in alphabetical order."""
    return TABLE.all()


def list_methods() -> list[Method]:
    """Every method, each with its name, title, paper, needs and options, in alphabetical order.

    Examples:
        >>> [each.title for each in whycam.list_methods()][:2]
        ['Ablation-CAM', 'Attention rollout']
    """
    return list(methods().values())


def find(method: str | Function) -> Method:
    """The method of that name, spelled forgivingly (`"gradcam"`, `"Grad-CAM++"`), or any function's declaration."""
    if not isinstance(method, str):
        if not callable(method):
            raise MethodNotFound(f"method must be a name or a function, not {type(method).__name__}.")
        registered = methods().get(getattr(method, "__name__", ""))
        return registered if registered and registered.function is method else declare(method)
    return TABLE.find(method)
