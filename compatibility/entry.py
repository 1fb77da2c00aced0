"""One entry of the zoo: how to build a model for a size, the sizes to show it, and the grids that are right there."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compatibility.weights import awaken, natural, settle

Size = tuple[int, ...]
#: (the model, inputs it takes) -> every grid that a last feature of it may rightly have, by the model's own account.
Grids = Callable[[nn.Module, Tensor], set[Size]]


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Attributes:
        library: `"timm"`, `"torchvision"`, `"video"` or `"transformers"`; `family` within it; `name` of the model.
        construct: a fresh model for inputs of a size, as its library builds it.
        sizes: of the inputs: the square one, then the one that is not square where the model takes one.
        grids: which grids are right, found without whycam.
        any_size: whether one model serves every size.
        remark: what a reader of the page should know, such as why there is no second size.
    """

    library: str
    family: str
    name: str
    construct: Callable[[Size], nn.Module]
    sizes: tuple[Size, ...]
    grids: Grids
    remark: str = ""
    any_size: bool = False

    def build(self, size: Size) -> nn.Module:
        """The model for inputs of that size, ready to predict, with repeatable random weights that all matter."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = awaken(self.construct(size))
            return settle(model, self.inputs(size))

    def inputs(self, size: Size) -> Tensor:
        """A batch of two."""
        return natural(size)


def by_stride(*strides: float) -> Grids:
    """The input's size over the stride of the last feature, rounded up or down on each axis.

    One number is for all axes.
    """

    def grids(model: nn.Module, inputs: Tensor) -> set[Size]:
        space = tuple(inputs.shape[2:])
        each = strides * len(space) if len(strides) == 1 else strides
        floor = tuple(int(side // stride) for side, stride in zip(space, each, strict=True))
        ceiling = tuple(int(-(-side // stride)) for side, stride in zip(space, each, strict=True))
        return {floor, ceiling}

    return grids
