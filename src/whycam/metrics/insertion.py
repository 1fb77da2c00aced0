import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily
from whycam.kit.metric import Measurement, Scores, metric
from whycam.kit.options import Count
from whycam.kit.ranking import area, counts, ranks
from whycam.kit.removal import Filling, Removal


@metric("Insertion", paper="arXiv:1806.07421", better="higher", values=(0, 1))
def insertion(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    scores: Float[Tensor, " batch"],
    score: Scores,
    *,
    steps: Count = 28,
    baseline: Filling = "blur",
    seed: int = 0,
) -> Measurement:
    """Bring the pixels of most evidence back to a blurred picture first, and give the mean probability on the way
    (RISE, section 4.2).

    The area under the curve of the probability over the share of pixels shown, by trapezoids; high where little of the
    map brings the answer back. `curve` holds the `steps + 1` points, the whole picture last; each takes a forward but
    that one, which is known.

    Pixels are ranked by the raw map, so what speaks against the target comes last. The paper brings back 224 pixels at
    a time of 224 x 224, and blurs by a Gaussian of deviation 5 in a window of 11; here edges are reflected.

    Peers: torchcam and xplique start from zeros, where sharp edges of what is shown are read as evidence.
    """
    rank, removal = ranks(maps, seed=seed), Removal(inputs, baseline, seed=seed)
    shown = counts(rank[0].numel(), steps)
    first = score(lazily(lambda count: removal.without(rank >= count), shown[:-1]))
    curve = torch.cat([first, scores[None]]).mT
    at = [count / shown[-1] for count in shown]
    return Measurement(area(curve, at), curve, tuple(at))
