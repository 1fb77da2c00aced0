"""What a pass's attentions did, reduced block by block as they arrive: in the forward, or in each backward.

Attention matrices are large, and methods need little of them. A fold takes the quantities of one block that it names
and gives what is kept of it; where it names a gradient it is called in the backward, when that block's gradient
arrives, and the matrix is built from queries and keys then. Nothing else of a block is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from whycam.errors import LayerRefused
from whycam.kit.arrays import wide
from whycam.kit.quantities import BLOCK_QUANTITIES, BLOCK_SLOPES
from whycam.network.attention.capture import Attention, Capture
from whycam.network.attention.places import Place
from whycam.network.pytree import only_tensor, replaced, tensors

#: What a fold made of each block, by the number of its attention.
Folded: TypeAlias = Mapping[int, Tensor]


@dataclass(frozen=True)
class Fold:
    """One reduction: a function of quantities of one block, with its options, at some blocks (`None`: at all)."""

    function: Callable[..., Tensor]
    needs: frozenset[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    at: frozenset[int] | None = None

    @property
    def differentiates(self) -> bool:
        """Whether it waits for the backward."""
        return bool(self.needs & BLOCK_SLOPES)


class Folding:
    """Folds of one recording. `capture()` is entered around each forward; `target()` ends the backward of one score.

    Args:
        cuts: blocks behind which the graph ends, by the number of their attention. The gradients that folds read are
            then of what each of these blocks returned alone, and `backward` starts from there.
        kept: blocks of which `outputs` holds what they returned.
    """

    def __init__(
        self,
        folds: Mapping[str, Fold],
        places: Sequence[Place],
        cuts: Mapping[int, str] | None = None,
        kept: Mapping[int, str] | None = None,
    ) -> None:
        self.cuts, self.kept = cuts or {}, kept or {}
        self.outputs: dict[int, Tensor] = {}
        self.returned: dict[int, Tensor] = {}
        unknown = {need for each in folds.values() for need in each.needs} - BLOCK_QUANTITIES
        assert not unknown, unknown
        self.folds, self.places = folds, places
        self.arrives = any(each.differentiates for each in folds.values())
        #: Whether some fold waits for a second backward, in which relevance arrives.
        self.relates = any("attention_relevance" in each.needs for each in folds.values())
        #: Whether the score's own backward is what the folds wait for.
        self.differentiates = self.arrives and not self.cuts
        self._capture: Capture | None = None
        self._still: dict[str, dict[int, Tensor]] = {}
        self._now: dict[str, dict[int, Tensor]] = {}
        self._targets: list[dict[str, dict[int, Tensor]]] = []
        self._first: dict[int, Tensor] = {}  # gradients at outputs, until their relevance arrives

    def capture(self) -> Capture:
        """A new capture, and everything folded before forgotten."""
        self._still, self._targets = {name: {} for name in self.folds}, []
        self._begin()
        self._capture = Capture(self._seen, self._arrived if self.arrives else None)
        return self._capture

    def cut(self, number: int, value: Any, _: Any) -> Any:
        """Keep what a block returned, and let the network go on with a copy outside of the graph."""
        path, tensor = only_tensor(value, self.cuts[number])
        self.returned[number] = tensor
        return replaced(value, path, tensor.detach().clone())

    def begin(self, value: Any, _: Any) -> Any:
        """Let the graph begin at what the first block is given, so that the path around its attention is in it."""
        torch.set_grad_enabled(True)
        path, tensor = next((path, tensor) for path, tensor in tensors(value) if tensor.is_floating_point())
        return value if tensor.requires_grad else replaced(value, path, tensor.detach().requires_grad_())

    def keep(self, number: int, value: Any, _: Any) -> None:
        """Keep a copy of what a block returned."""
        self.outputs[number] = only_tensor(value, self.kept[number])[1].detach().clone()

    def backward(self, gradients: Mapping[int, Tensor], *, keep: bool) -> None:
        """One backward through each block by itself, from a score's gradients at the mean of the block's tokens."""
        blocks = [number for number in gradients if self.returned[number].requires_grad]
        torch.autograd.grad(
            [self.returned[number] for number in blocks],
            self.starts,
            [_shared(gradients[number], self.returned[number]) for number in blocks],
            retain_graph=keep,
            allow_unused=True,
        )
        self.target()

    def check(self) -> None:
        """Raise a `LayerRefused` where the pass did not run the attentions that are known."""
        assert self._capture is not None
        if len(self._capture.found) != len(self.places):
            raise LayerRefused(
                f"the network ran {len(self._capture.found)} attentions in this pass and {len(self.places)} for a "
                "sample alone, so it is not known which is which; explain one sample at a time."
            )

    @property
    def starts(self) -> list[Tensor]:
        """Where the graph begins, inside the capture."""
        return self._capture.starts if self._capture is not None else []

    def target(self) -> None:
        """The backward of one score is over."""
        self._targets.append(self._now)
        self._begin()

    def projections(self) -> dict[int, tuple[Tensor, Tensor | None]]:
        """Weight and bias of the linear layer behind each attention that was seen to have one, by its number."""
        assert self._capture is not None
        seen = [(each.number, each.projection) for each in self._capture.found]
        return {
            number: (found[0].detach(), None if found[1] is None else found[1].detach())
            for number, found in seen
            if found is not None
        }

    def results(self) -> Mapping[str, tuple[Folded, ...]]:
        """What each fold made, for each score (one for all where no gradient is read); ends the recording."""
        self._capture = None
        self.returned = {}
        moving = {name for name, each in self.folds.items() if each.differentiates}
        return {
            name: tuple(each[name] for each in self._targets) if name in moving else (self._still[name],)
            for name in self.folds
        }

    def _begin(self) -> None:
        self._first = {}
        self._now = {name: {} for name in self.folds}

    def _seen(self, attention: Attention) -> None:
        self._fold(attention, None, self._still)

    def _arrived(self, attention: Attention, gradients: Tensor) -> None:
        before = self._first.pop(attention.number, None)
        if before is not None:
            self._fold(attention, before, self._now, relevance=gradients)
            return
        self._fold(attention, gradients, self._now)
        if self.relates:
            self._first[attention.number] = gradients

    def _fold(
        self,
        attention: Attention,
        gradients: Tensor | None,
        into: dict[str, dict[int, Tensor]],
        relevance: Tensor | None = None,
    ) -> None:
        number = attention.number
        chosen = {
            name: each
            for name, each in self.folds.items()
            if each.differentiates == (gradients is not None)
            and ("attention_relevance" in each.needs) == (relevance is not None)
            and (each.at is None or number in each.at)
        }
        if not chosen or number >= len(self.places):
            return
        place = self.places[number]
        known: dict[str, Tensor] = {}
        for name, each in chosen.items():
            for need in each.needs:
                if need not in known:
                    known[need] = _quantity(need, attention, gradients, relevance, place)
            into[name][number] = each.function(**{need: known[need] for need in each.needs}, **each.options)


def _shared(gradient: Tensor, returned: Tensor) -> Tensor:
    """A gradient at the mean of tokens, as it is at each of them."""
    return gradient.expand_as(returned) / (returned.numel() // gradient.numel())


def _quantity(
    name: str, attention: Attention, gradients: Tensor | None, relevance: Tensor | None, place: Place
) -> Tensor:
    """One quantity of a block, `(batch * window, head, ...)`, detached, float32 at least."""
    if name == "attention":
        return wide(place.aligned(attention.weights()))
    if name == "attention_relevance":
        assert relevance is not None
        weights, values, output, share = (
            wide(place.aligned(each))
            for each in (attention.weights(), attention.value.detach(), attention.output.detach(), relevance)
        )
        # of the product of attention and values, half, in proportion to what each weight added
        return weights * ((share / output).masked_fill(output == 0, 0) @ values.mT) / 2
    if name in ("attention_gradients", "layer_attention_gradients"):
        assert gradients is not None  # the fold waited for them
        # the output is weights times values, so this is exact
        return wide(place.aligned(gradients)) @ wide(place.aligned(attention.value.detach())).mT
    if name == "head_output_gradients":
        assert gradients is not None
        return wide(place.aligned(gradients))
    found = {"queries": attention.query, "keys": attention.key, "values": attention.value}.get(name, attention.output)
    if found is None:
        raise LayerRefused(
            f"{name} of {place} could not be seen: the scores of its attention are computed in a way of their own. Use "
            "a method that needs the attention alone, such as generic_attention."
        )
    return wide(place.aligned(found.detach()))
