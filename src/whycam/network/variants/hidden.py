"""Scores where some of a transformer's tokens are hidden from all others: what leaving them out comes to.

A softmax over fewer keys is the softmax over all, without the others' shares, divided by what is left; so every
attention's own result is replaced by that, and nothing has to be known of how it was computed. What the hidden tokens
themselves become must not matter: where a network averages its tokens, it would.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from whycam.errors import LayerRefused
from whycam.kit.arrays import wide
from whycam.network.attention.capture import Attention, Capture
from whycam.network.attention.places import Place
from whycam.network.hooks import call
from whycam.network.layouts import ChannelsFirst
from whycam.network.recording.record import LayerRecord
from whycam.network.variants.scoring import Forwards, Network, RunConfig

#: How far from 1 the weights of a query may add up to: half precision's rounding over many keys.
_ROUNDING = 0.05


class Hidden(Forwards):
    """Runs the network with the tokens hidden that a variant, `(batch, *spatial)` of the layer's grid, has as 0.

    Tokens that no map shows, such as class tokens, are always there.
    """

    def __init__(self, network: Network, execution: RunConfig, layer: LayerRecord, places: Sequence[Place]) -> None:
        """`places`: the network's attentions, of which all have the layer's tokens as keys.

        Raises:
            LayerRefused: one has not.
        """
        super().__init__(network, execution)
        self.layer, self.count = layer, len(places)
        self.spoiling = False
        shape = layer.shape
        self.ones = (
            torch.ones(1, 1, *shape[2:]) if isinstance(layer.layout, ChannelsFirst) else torch.ones(1, *shape[1:-1], 1)
        )
        for each in places:
            if each.kind not in ("tokens", "pool") or each.size != self.ones.numel():
                raise LayerRefused(
                    f"tokens of layer {str(layer.tap)!r} can be hidden where each attention is among all of them, "
                    f"and {each}. Use a method that edits the input, such as rise or vit_cx."
                )

    def recorded(self) -> Tensor:
        """All are there."""
        return torch.ones_like(self.layer.activations[:, 0])

    def prepare(self, variant: Tensor) -> None:
        """See beside that it makes no difference what becomes of hidden tokens."""
        super().prepare(variant)
        some = self.recorded()
        some.flatten(1)[:, ::2] = 0
        found = self.by_itself(some)
        self.spoiling = True
        try:
            spoiled = self.by_itself(some)
        finally:
            self.spoiling = False
        self.tried += 2
        if not self.network.agrees(spoiled, found):
            raise LayerRefused(
                "this network reads the tokens of its patches themselves, such as their mean, and not a class token "
                "alone: what is hidden from the others is still read there. Use a method that edits the input, such as "
                "rise or vit_cx."
            )

    def run(self, rows: Tensor, samples: Tensor) -> Tensor:
        """The answers where the tokens of each row are there."""
        shown = self.layer.layout.from_maps(rows.unsqueeze(1), self.ones.to(rows)).flatten(1) > 0.5

        def hide(attention: Attention) -> None:
            weights = attention.weights()
            if not bool(((weights.sum(-1) - 1).abs() < _ROUNDING).all()):
                raise LayerRefused(
                    f"attention {attention.number} mixes heads after its softmax, so no token can be hidden from it. "
                    "Use a method that edits the input, such as rise or vit_cx."
                )
            mine = shown.repeat_interleave(len(weights) // len(rows), 0)  # where heads lie in the axis of samples
            mine = mine.reshape(len(weights), *[1] * (weights.ndim - 2), -1)
            kept = weights * mine
            made = kept / kept.sum(-1, keepdim=True) @ wide(attention.value)
            if self.spoiling and made.shape[-2] == mine.shape[-1]:
                made = made.where(mine.mT, made.new_ones(()))
            attention.output.copy_(made)

        with Capture(hide) as capture:
            output = call(self.model, self.others(samples))
        if len(capture.found) != self.count:
            raise LayerRefused(f"{len(capture.found)} attentions were seen where {self.count} had been.")
        return self.network.answer(output, len(rows))
