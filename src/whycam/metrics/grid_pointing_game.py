from jaxtyping import Bool, Float
from torch import Tensor

from whycam.kit.metric import metric
from whycam.kit.options import Count, OpenShare
from whycam.kit.overlap import share_inside


@metric("Grid pointing game", paper="arXiv:2104.00032", better="higher", values=(0, 1), mosaics=True)
def grid_pointing_game(
    maps: Float[Tensor, "batch *space"],
    masks: Bool[Tensor, "batch *space"],
    *,
    side: Count = 2,
    confidence: OpenShare = 0.5,
    shrink: bool = False,
) -> Float[Tensor, " batch"]:
    """How much of the map's positive part lies in the target's cell of a mosaic, as a share (Boehle et al., section
    4.3).

    A mosaic holds n x n photos of as many classes, of each of which the network is sure; `masks` are the cell of the
    one that is explained. Chance is 1 / n^2. A map that is nowhere positive has 0, as in the authors' code.

    An evaluation makes the mosaics itself: `side` x `side` photos of each of which the network is sure with a
    probability of `confidence` or more, each at its own size, or with `shrink` all of them at the size of one. A
    mosaic's value is the mean over its cells. Maps that are measured directly come with their `masks`, and these
    options change nothing.

    Photos that the network has not been trained to see beside each other are no natural input, and evidence that lies
    beyond a cell's border by the layer's own coarseness counts against the method.

    Peers: Quantus' Focus has the target's class in two of four cells.
    """
    return share_inside(maps, masks).nan_to_num(nan=0.0)
