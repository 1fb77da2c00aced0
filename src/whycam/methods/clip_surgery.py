from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import OptionError
from whycam.kit.arrays import lazily
from whycam.kit.options import Count
from whycam.kit.quantities import Projection, Prompts, TokenGrid
from whycam.kit.registry import method


def _by_values(values: Float[Tensor, "batch head token width"]) -> Tensor:
    """What each token takes where tokens attend by how alike their values are."""
    alike: Tensor = (values @ values.mT * values.shape[-1] ** -0.5).softmax(-1)
    return alike @ values


@method("CLIP Surgery", paper="arXiv:2304.05653", fold=_by_values)
def clip_surgery(
    folds: Sequence[Float[Tensor, "batch head token width"]],
    output_projections: Sequence[Projection],
    block_outputs: Sequence[Float[Tensor, "batch channel *spatial"]],
    prompts: Prompts,
    token_grid: TokenGrid,
    *,
    blocks: Count | None = None,
) -> Float[Tensor, "batch *spatial"]:
    """Score each patch by itself, on a second path on which the last blocks attend by their values alone.

    The second path starts before the last `blocks` blocks and adds to each token what it takes from tokens whose values
    are like its own; queries, keys and feed-forward layers are left out, and values are those of the first path
    (architecture surgery). A patch's value is what the network would answer if its last block returned that patch in
    every position: a logit, or the similarity with a sentence.

    Of `Text("a dog", against=[...])` what all sentences share is taken away (feature surgery): each similarity times
    the sentence's weight, less the mean of these over the sentences, so that the maps of all of them add up to 0. The
    weights are the softmax of twice the similarities of the whole picture, divided by its mean. Give the sentences that
    could be meant; without `against` nothing is taken away.

    Signed, in units of the score. By default the last six blocks, as in the authors' code, of fewer than twelve half.
    """
    blocks = max(1, min(6, len(block_outputs) // 2)) if blocks is None else blocks
    if not 0 < blocks < len(block_outputs):
        raise OptionError(
            f"the second path starts behind one of the {len(block_outputs)} blocks up to this layer, so at most "
            f"{len(block_outputs) - 1} of them can be taken, not {blocks}; choose fewer blocks=, or a later layer."
        )
    tokens = block_outputs[-blocks - 1].clone()
    taken = range(len(block_outputs) - blocks, len(block_outputs))
    for number in taken:
        added = output_projections[number](folds[number])
        tokens += token_grid(added.mT.flatten(0, 1)).reshape_as(tokens)
    count = folds[-1].shape[2]
    patches = tokens.flatten(2)

    def everywhere(patch: int) -> Tensor:
        return patches[:, None, :, patch].expand(-1, count, -1)

    variants = lazily(everywhere, range(patches.shape[2]), shared=True)
    alike = torch.stack([score(variants) for score in prompts.scores], -1)  # (patch, batch, prompt)
    if alike.shape[-1] > 1:
        weights = (2 * prompts.similarities).softmax(1)
        alike = alike * (weights / weights.mean(1, keepdim=True)).to(alike)
        alike = alike - alike.mean(-1, keepdim=True)
    return alike[..., 0].mT.reshape_as(tokens[:, 0]).to(tokens)
