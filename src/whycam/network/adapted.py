"""Torch wrappers around networks of other frameworks: what a framework's adapter offers the rest of `network`.

The tree of modules has one for each layer, which runs nothing but that layer; tensors pass them channels first, and
hooks on them fire when the framework calls the layer. So recordings, edits and checks are those of any module.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, TypeAlias

from torch import Tensor, nn

from whycam.errors import WhycamError

#: What a layer does to what it is given, where its class tells; see `observing.Role`.
LayerRole: TypeAlias = Literal["activation", "resampling", "step"]


class Linear(NamedTuple):
    """A linear layer: `weight` (out, in), `bias` (out,) if it has one."""

    weight: Tensor
    bias: Tensor | None


class AdaptedLayer(nn.Module):
    """A layer of another framework.

    Attributes:
        role: what it does. `has_weights`: whether it has weights itself, not counting layers inside it.
    """

    role: LayerRole = "step"
    has_weights: bool = False


class Adapted(nn.Module, ABC):
    """A network of another framework.

    Attributes:
        framework: what it is called. `in_torch`: whether its layers compute by torch's functions all the same.
    """

    framework = ""
    in_torch = False

    @abstractmethod
    def kept(self) -> AbstractContextManager[None]:
        """A block in which running the network leaves no trace on it."""

    @abstractmethod
    def drawn(self) -> bytes:
        """The state of its own random generators, which changes when they are drawn from."""

    @abstractmethod
    def own_twin(self) -> "Adapted":
        """Another tree of modules for the same network, whose hooks and replaced modules this one does not see."""

    @abstractmethod
    def linears(self) -> list[Linear]:
        """The linear layers, in running order."""

    @abstractmethod
    def named(self, layer: Any) -> Any:
        """A layer as its framework names it, in this tree's words; anything else as it is."""

    @abstractmethod
    def spell(self, name: str) -> str:
        """A module's dotted name as its framework spells it."""


def refuse_adapted(model: nn.Module, what: str, instead: str, *, unless_in_torch: bool = False) -> None:
    """Raise a `WhycamError` for a network of another framework, whose parts torch cannot look into."""
    if isinstance(model, Adapted) and not (unless_in_torch and model.in_torch):
        raise WhycamError(f"{what} looks into PyTorch's own functions, and this is a {model.framework}; {instead}.")
