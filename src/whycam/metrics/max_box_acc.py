from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from whycam.errors import missing
from whycam.kit.arrays import normalize
from whycam.kit.metric import Measurement, metric
from whycam.kit.overlap import iou

#: How many thresholds of a map of 8 bits leave something above.
LEVELS = 255


def _best_threshold(values: Float[Tensor, " sample"], curves: Float[Tensor, "sample point"]) -> float:
    """The accuracy at the threshold that is best for the set, for each IoU; their mean."""
    return float(curves.mean(0).reshape(-1, LEVELS).amax(1).mean())


@metric("MaxBoxAcc", paper="arXiv:2001.07437", better="higher", values=(0, 1), over=_best_threshold)
def max_box_acc(
    maps: Float[Tensor, "batch *space"],
    boxes: list[Float[Tensor, "_ 4"]],
    *,
    version: Literal[1, 2] = 1,
) -> Measurement:
    """Whether a box around the map's bright part is the target's, at the best threshold (Choe et al., section 4.1).

    Each map is shifted and scaled to whole numbers from 0 to 255. At each threshold the box around the largest
    connected part above it is a hit where its IoU with one of the target's boxes is 0.5 or more. Version 2
    (MaxBoxAccV2, arXiv:2007.04178) takes the best of the boxes around all parts, and the mean over IoUs of 0.3, 0.5 and
    0.7. Of a set it is the largest share of hits that one threshold has; a sample's own value is the same of it alone,
    so the mean of these is no less. `curve` holds the hits, threshold by threshold, for each IoU. Not defined, NaN, for
    a sample without boxes. Needs `whycam[evaluate]`.

    Pixels that touch at a corner are connected, and the largest part has the most pixels, as in the paper. The authors'
    code takes the part whose outline encloses most, boxes holes too in version 2, resizes maps to 224 pixels, and has
    boxes a pixel wider than what they are around.
    """
    thresholds = maps.new_tensor([0.5] if version == 1 else [0.3, 0.5, 0.7])
    levels = (normalize(maps, "minmax") * 255).nan_to_num().to(torch.uint8).cpu().numpy()
    overlaps = [_overlaps(each, own.cpu(), version) for each, own in zip(levels, boxes, strict=True)]
    hits = (maps.new_tensor(overlaps)[:, None] >= thresholds[:, None]).to(maps.dtype)
    known = torch.tensor([len(each) > 0 for each in boxes], device=maps.device)
    return Measurement(hits.amax(2).mean(1).where(known, maps.new_tensor(torch.nan)), hits.flatten(1))


def _overlaps(levels: UInt8[np.ndarray, "*space"], boxes: Float[Tensor, "_ 4"], version: int) -> list[float]:
    """At each threshold the largest IoU of a target's box with that around the largest part, or around any."""
    try:
        ndimage: Any = import_module("scipy.ndimage")
    except ImportError:
        raise missing("SciPy", "evaluate", "max_box_acc") from None
    found: list[float] = []
    for threshold in range(LEVELS if len(boxes) else 0):
        if threshold and not (levels == threshold).any():
            found.append(found[-1])  # the same pixels are above
            continue
        parts, count = ndimage.label(levels > threshold, np.ones((3, 3)))
        places = ndimage.find_objects(parts)
        if count > 1 and version == 1:
            places = [places[np.bincount(parts.ravel())[1:].argmax()]]
        around = [boxes.new_tensor([across.start, down.start, across.stop, down.stop]) for down, across in places]
        found.append(max((float(iou(each, boxes).amax()) for each in around), default=0.0))
    return found or [0.0] * LEVELS
