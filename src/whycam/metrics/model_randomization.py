import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.likeness import likeness
from whycam.kit.metric import ExplainRandomized, Measurement, metric
from whycam.kit.options import Count


@metric("Model randomization", paper="arXiv:1810.03292", better="lower", values=(-1, 1))
def model_randomization(
    maps: Float[Tensor, "batch *space"],
    explain_randomized: ExplainRandomized,
    *,
    stages: Count = 8,
    ssim: bool = False,
    seed: int = 0,
) -> Measurement:
    """How much of the map is left as the network's layers are randomized from the top down: Spearman's correlation with
    it, the mean over the stages (Adebayo et al., section 4.1, the cascade).

    Near 1, the map does not show what the network has learned; near 0 it passes, which does not make it right. `curve`
    holds the stages: in the first the last layer is randomized, in the last one all are, and there are as many as
    layers but at most `stages`, spread evenly. `parts` are the means of the correlation of magnitudes and, if asked
    for, of SSIM, and `all_layers`, the last stage. Layers are set by their own initializers; the target stays.

    A map that becomes flat has nothing in common with what it was, 0; one that is not finite is left out. Not defined,
    NaN, for a map that is flat to begin with.

    Peers: Quantus' mean includes the network before anything is randomized, whose correlation is 1, and draws every
    layer from the same seed; xplique draws all weights and running statistics between 0 and 1, in the caller's model.
    """
    rows = [likeness(maps, made, structure=ssim) for _, made in explain_randomized(stages, seed)]
    kinds = {name: torch.stack([row[name] for row in rows], 1) for name in rows[0]}
    curve = kinds.pop("spearman")
    parts = {name: each.nanmean(1) for name, each in kinds.items()}
    at = tuple((number + 1) / len(rows) for number in range(len(rows)))
    return Measurement(curve.nanmean(1), curve, at, {**parts, "all_layers": curve[:, -1]})
