import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.likeness import over_length
from whycam.kit.metric import ExplainShifted, metric


@metric("Input invariance", paper="arXiv:1711.00867", better="lower", values=(0, float("inf")))
def input_invariance(
    maps: Float[Tensor, "batch *space"], explain_shifted: ExplainShifted, *, shift: float = 1.0
) -> Float[Tensor, " batch"]:
    """How far the map moves when a constant is added to the picture and the network takes it off again: the distance of
    the two maps, over the map's own length (Kindermans et al., section 3).

    Both networks see the same and answer the same, so a map that differs says something of the picture's units alone:
    those that multiply by the input, and by a baseline of zeros. 0 up to rounding for methods at a layer. Not defined,
    NaN, for a map of zeros.

    Peers: Quantus says whether the two are equal to 1e-4, whatever the map's scale, and takes the constant off the
    first layer's bias, which is another network wherever that layer pads the picture's border with zeros.
    """
    away: Tensor = torch.linalg.vector_norm((explain_shifted(shift) - maps).flatten(1), dim=1)
    return over_length(away, maps)
