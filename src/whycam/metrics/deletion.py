import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily
from whycam.kit.metric import Measurement, Scores, metric
from whycam.kit.options import Count
from whycam.kit.ranking import area, counts, ranks
from whycam.kit.removal import Filling, Removal


@metric("Deletion", paper="arXiv:1806.07421", better="lower", values=(0, 1))
def deletion(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    scores: Float[Tensor, " batch"],
    score: Scores,
    *,
    steps: Count = 28,
    baseline: Filling = "zero",
    seed: int = 0,
) -> Measurement:
    """Remove the pixels of most evidence first, and give the mean probability on the way (RISE, section 4.2).

    The area under the curve of the probability over the share of pixels removed, by trapezoids; low where the map finds
    what the answer hangs on. `curve` holds the `steps + 1` points, the whole picture first; each takes a forward but
    that one, which is known.

    Pixels are ranked by the raw map, so what speaks against the target goes last. The paper removes 224 pixels at a
    time of 224 x 224 and puts 0 in their place, which is the data set's mean color in normalized inputs.

    Peers: torchcam has one baseline for deletion and insertion and 20 steps, of logits unless told; xplique 10 steps;
    the authors' code ranks ties by their place in memory.
    """
    rank, removal = ranks(maps, seed=seed), Removal(inputs, baseline, seed=seed)
    gone = counts(rank[0].numel(), steps)
    rest = score(lazily(lambda count: removal.without(rank < count), gone[1:]))
    curve = torch.cat([scores[None], rest]).mT
    at = [count / gone[-1] for count in gone]
    return Measurement(area(curve, at), curve, tuple(at))
