from jaxtyping import Bool, Float
from torch import Tensor

from whycam.kit.metric import metric
from whycam.kit.options import OpenShare
from whycam.kit.regions import bright


@metric("Mask IoU", paper="arXiv:1512.04150", better="higher", values=(0, 1))
def mask_iou(
    maps: Float[Tensor, "batch *space"], masks: Bool[Tensor, "batch *space"], *, threshold: OpenShare = 0.2
) -> Float[Tensor, " batch"]:
    """How well the bright part of the map covers the target: the intersection of the two over their union.

    Bright is what is above `threshold` of the map's maximum, 20% as in CAM, section 3.2, where a box around it is
    compared with a box. A map that is nowhere positive has no bright part, and 0. Not defined, NaN, where the mask is
    empty. It hangs on the threshold, which `pixel_average_precision` does not have.
    """
    found, target = bright(maps, threshold).flatten(1), masks.flatten(1)
    union = (found | target).sum(1).to(maps.dtype)
    return ((found & target).sum(1) / union).where(target.any(1), union.new_tensor(float("nan")))
