"""A picture cut into pieces of one color each."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whycam.errors import missing


def superpixels(inputs: Float[Tensor, "batch color *space"], pieces: int) -> Int[Tensor, "batch *space"]:
    """The number of each pixel's piece, from 0: about so many of SLIC's superpixels in each picture.

    SLIC brings every picture to [0, 1] by its own least and largest value, so what normalized it does not matter much;
    three colors are taken for red, green and blue.

    Raises:
        MissingExtraError: scikit-image is not there.
    """
    try:
        from skimage.segmentation import slic
    except ImportError:
        raise missing("scikit-image", "evaluate", "cutting pictures into superpixels") from None
    made = []
    for picture in inputs.detach().cpu().double():
        sheet = picture.movedim(0, -1)
        rows = sheet if sheet.ndim > 2 else sheet[None]  # a signal is a picture of one row
        made.append(torch.from_numpy(slic(rows.numpy(), n_segments=pieces, start_label=0)).reshape(sheet.shape[:-1]))
    return torch.stack(made).to(inputs.device)
