import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import generator, lazily
from whycam.kit.likeness import over_length
from whycam.kit.metric import Explain, metric
from whycam.kit.options import Count, Positive


@metric("Max-sensitivity", paper="arXiv:1901.09392", better="lower", values=(0, float("inf")))
def max_sensitivity(
    maps: Float[Tensor, "batch *space"],
    inputs: Float[Tensor, "batch color *space"],
    explain: Explain,
    *,
    radius: Positive = 0.02,
    samples: Count = 10,
    relative: bool = True,
    seed: int = 0,
) -> Float[Tensor, " batch"]:
    """How far the map moves when the picture is changed a little: the largest distance to the maps of `samples` noisy
    pictures, over the map's own length (Yeh et al., definition 3).

    Each value of the inputs is moved by up to `radius`, in their units, evenly drawn. The paper has the distance as it
    is, `relative=False`, which compares no two methods of different scale; the authors' code divides, as here. It is
    found by drawing, so more samples may find more. A map that never changes has 0: read it beside the sanity checks.
    Not defined, NaN, for a map of zeros if it is relative.

    Peers: captum has this radius and number, Quantus 0.2 and 200, and both divide; compare equal settings alone.
    """

    def noisy(key: tuple[float, int, int]) -> Tensor:
        source = generator(seed, key[2])
        moved = 2 * torch.rand(inputs.shape[1:], generator=source, dtype=torch.float64) - 1
        return inputs + (radius * moved).to(inputs)

    found = explain(lazily(noisy, [(radius, seed, number) for number in range(samples)], shared=True))
    away: Tensor = torch.linalg.vector_norm((found - maps).flatten(2), dim=2).amax(0)
    return over_length(away, maps) if relative else away
