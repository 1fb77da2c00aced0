from jaxtyping import Bool, Float
from torch import Tensor

from whycam.kit.metric import metric
from whycam.kit.overlap import share_inside


@metric("Energy pointing game", paper="arXiv:1910.01279", better="higher", values=(0, 1))
def energy_pointing_game(
    maps: Float[Tensor, "batch *space"], masks: Bool[Tensor, "batch *space"]
) -> Float[Tensor, " batch"]:
    """How much of the map's positive part lies on the target, as a share (Score-CAM, section 4.3, with boxes; Arras et
    al., arXiv:2003.07258, with masks, "relevance mass accuracy").

    A uniform map has the target's share of the picture: read it beside the controls. Not defined, NaN, where the map is
    nowhere positive or the mask is empty.

    Peers: the authors' code takes a box's left and right for rows, so boxes off the diagonal are turned; Quantus lets
    negative values cancel positive ones, and has no answer for a map of zeros.
    """
    inside = share_inside(maps, masks)
    return inside.where(masks.flatten(1).any(1), inside.new_tensor(float("nan")))
