"""Where an input's pixels lie on the photo that it was made from."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whycam.errors import WhycamError


@dataclass(frozen=True)
class Geometry:
    """The affine map from input to photo: `photo = input * scale + offset`, per axis.

    Every pair is (vertical, horizontal), every rectangle (top, left, bottom, right). Coordinates are those of pixel
    edges: the first pixel spans 0 to 1 and its center is 0.5. `content` is the part of the input, in its own
    coordinates, that shows the photo; the rest is padding.
    """

    photo_size: tuple[int, int]
    input_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]
    content: tuple[float, float, float, float]

    @property
    def seen(self) -> tuple[float, float, float, float]:
        """The rectangle of the photo, in its pixels, that the network was shown."""
        (height, width), (y, x), (down, across) = self.photo_size, self.scale, self.offset
        top, left, bottom, right = self.content
        return (
            max(top * y + down, 0.0),
            max(left * x + across, 0.0),
            min(bottom * y + down, float(height)),
            min(right * x + across, float(width)),
        )

    def on_photo_of(self, size: tuple[int, int]) -> "Geometry":
        """The same for the photo brought to another (height, width)."""
        down, across = size[0] / self.photo_size[0], size[1] / self.photo_size[1]
        return replace(
            self,
            photo_size=size,
            scale=(self.scale[0] * down, self.scale[1] * across),
            offset=(self.offset[0] * down, self.offset[1] * across),
        )

    def to_photo(
        self, values: Float[Tensor, "height width"]
    ) -> tuple[Float[Tensor, "photo_height photo_width"], Bool[Tensor, "photo_height photo_width"]]:
        """Lay a map of the input's size over the photo, linear between pixel centers.

        The mask is true where a photo pixel's center was in the input; elsewhere the map is 0, and means nothing.
        """
        if tuple(values.shape) != self.input_size:
            raise WhycamError(
                f"the map is {tuple(values.shape)} and the input {self.input_size}; resize the map to the input first"
            )
        top, left, bottom, right = self.seen
        rows, row_seen = _lay(values, self.photo_size[0], self.scale[0], self.offset[0], (top, bottom))
        laid, column_seen = _lay(rows.T, self.photo_size[1], self.scale[1], self.offset[1], (left, right))
        seen = row_seen[:, None] & column_seen
        return laid.T.where(seen, values.new_zeros(())), seen


def _lay(
    values: Float[Tensor, "length other"], photo_length: int, scale: float, offset: float, seen: tuple[float, float]
) -> tuple[Float[Tensor, "photo_length other"], Bool[Tensor, " photo_length"]]:
    """One axis of the warp, at the photo's pixel centers; one axis after the other needs no grid of coordinates."""
    centers = torch.arange(photo_length, dtype=torch.float64) + 0.5
    # back into the input, then from edge coordinates to indices; past the outermost centers their value goes on
    index = ((centers - offset) / scale - 0.5).clamp(0, len(values) - 1)
    below = index.floor().long()
    above = (below + 1).clamp(max=len(values) - 1)
    share = (index - below).to(values)[:, None]
    below, above = below.to(values.device), above.to(values.device)
    inside = (centers >= seen[0]) & (centers < seen[1])
    return values[below] * (1 - share) + values[above] * share, inside.to(values.device)
