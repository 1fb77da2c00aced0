"""The score that a network would give if its last block returned another block's tokens, averaged; and its gradient.

Fed with that mean in every position, whatever pools the tokens (a class token, a mean) and any head that reads them one
by one sees exactly it, so nothing need be known of how a network reads its last block.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from whycam.network.hooks import Inputs
from whycam.network.layouts import ChannelsFirst
from whycam.network.outputs import OutputPath
from whycam.network.recording.record import LayerRecord
from whycam.network.variants.layer_edit import answer, asked_of
from whycam.targets import ResolvedTarget


def tail_gradients(
    model: nn.Module,
    inputs: Inputs,
    last: LayerRecord,
    targets: Sequence[ResolvedTarget],
    part: OutputPath | None,
    output: Tensor,
    tokens: Mapping[int, Tensor],
) -> tuple[list[dict[int, Tensor]], int]:
    """For each target, d score / d mean token of each block, with axes of length 1 for the tokens; the forwards run.

    Args:
        last: the record of the last block, with what the network can be resumed from.
        tokens: what each block returned, laid out as the last block's output, by the number of its attention.
    """
    asked = asked_of(model, inputs, last, part, output)
    found: list[dict[int, Tensor]] = [{} for _ in targets]
    ends = len(last.shape)
    places = range(2, ends) if isinstance(last.layout, ChannelsFirst) else range(1, ends - 1)
    for number, returned in tokens.items():
        leaf = returned.detach().mean(tuple(places), keepdim=True).requires_grad_()

        def begin(rows: Tensor, leaf: Tensor = leaf) -> Tensor:
            torch.set_grad_enabled(True)
            return leaf.expand_as(rows).clone()  # the network may write to it

        made = answer(asked, begin)
        with torch.enable_grad():
            for one, target in zip(found, targets, strict=True):
                score = target(made.output).sum()
                gradients: Sequence[Tensor | None] = (
                    torch.autograd.grad(score, leaf, retain_graph=True, allow_unused=True)
                    if score.requires_grad
                    else (None,)
                )
                one[number] = torch.zeros_like(leaf) if gradients[0] is None else gradients[0]
    return found, 0 if asked.above is not None else len(tokens)
