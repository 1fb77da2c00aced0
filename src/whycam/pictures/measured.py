"""Where an input lies on its photo, measured: pictures of the photo's size go through the caller's own function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from whycam.errors import WhycamError
from whycam.pictures.geometry import Geometry

#: How far a pixel may lie from where a shift and a scale put it, in pixels of the input, and
_AWAY = 0.5
#: how much of a photo, brought to that place in the input, has to be what the function made of it (correlation).
_ALIKE = 0.9
#: Resampling bends a ramp near the photo's edges: pixels as far as the widest kernel (Lanczos) are not counted.
_KERNEL = 3


@dataclass(frozen=True)
class Measured:
    """What a function makes of photos of one size.

    Attributes:
        geometry: where the input lies on the photo.
        black, white: the input's values there, by channel.
        order: for each channel of the input which of red, green and blue it shows; `None` for a mixture of them.
    """

    geometry: Geometry
    black: Float[Tensor, " channel"]
    white: Float[Tensor, " channel"]
    order: tuple[int, ...] | None

    def levels(self, tensor: Float[Tensor, "channel height width"]) -> Float[Tensor, "channel height width"]:
        """An input's values as those of a picture, in [0, 1]."""
        black, white = (each[:, None, None] for each in (self.black, self.white))
        return (tensor.detach().cpu().double() - black) / (white - black)

    def undo(self, tensor: Float[Tensor, "channel height width"]) -> Image.Image:
        """The picture that the network saw, from its input; values that no pixel can have are clipped."""
        levels = self.levels(tensor)
        shown = levels.mean(0).expand(3, -1, -1) if self.order is None else levels[[*map(self.order.index, range(3))]]
        return Image.fromarray((shown * 255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy())

    def check(self, image: Image.Image, made: Tensor) -> None:
        """Raise a `WhycamError` where a photo does not lie in its input as measured: at random, or by its content."""
        top, left, bottom, right = map(int, self.geometry.content)
        y, x, down, across = self.geometry.seen
        size, box = (right - left, bottom - top), (x, y, across, down)
        gray = np.array(image.convert("L").resize(size, Image.Resampling.BILINEAR, box), dtype=np.float64)
        pair = [self.levels(made).mean(0)[top:bottom, left:right], torch.from_numpy(gray)]
        small = [torch.nn.functional.adaptive_avg_pool2d(each[None], 48).flatten() for each in pair]
        if min(float(each.std()) for each in small) > 1e-3 and torch.corrcoef(torch.stack(small))[0, 1] < _ALIKE:
            raise WhycamError("it does with this photo something else than with others of its size")


def measure(prepare: Callable[[Image.Image], Tensor], size: tuple[int, int]) -> Measured:
    """What a function from a picture to an input `(channel, height, width)` makes of photos of (height, width).

    A black and a white picture show its normalization and what of the input is padding, a ramp across and one down the
    scale and the offset, and one with both ramps in its colors, twice, the order of the channels and whether it draws.

    Raises:
        WhycamError: that is no resizing, cropping or padding, and why.
    """

    def run(red: Any, green: Any, blue: Any) -> Tensor:
        made = prepare(Image.fromarray(np.stack(np.broadcast_arrays(red, green, blue), -1)))
        return made.detach().cpu().double()

    black, white = (run(*[np.full(size, level, np.uint8)] * 3) for level in (0, 255))
    if black.ndim != 3 or black.shape != white.shape:
        raise WhycamError(f"it makes {tuple(white.shape)} of a photo, and (channel, height, width) was expected")
    wide = (white - black).abs()
    seen = (wide / wide.amax((1, 2), keepdim=True)).amin(0)  # less than 1 where padding is mixed in; NaN for 0 / 0
    if not (seen > 0.5).any():
        raise WhycamError("it makes the same of a black and of a white picture")
    (top, bottom), (left, right) = (_extent((seen > 0.5).any(1 - axis)) for axis in (0, 1))
    box = (..., slice(top, bottom), slice(left, right))
    if not (seen[box] > 0.2).all():  # a corner is mixed twice
        raise WhycamError("what it pads is no border")

    def share(*colors: Any) -> Tensor:
        made = run(*colors)
        if made.shape != black.shape:
            raise WhycamError("it makes inputs of several sizes of photos of one")
        return (made - black)[box] / (white - black)[box]

    down, across = _ramp(size), _ramp(size[::-1]).transpose(0, 2, 1)
    vertical, horizontal = share(*down).mean(0), share(*across).mean(0)
    (y, below), (x, beside) = _line(vertical, size[0]), _line(horizontal.T, size[1])
    colored = share(down[0], across[0], np.uint8(255))
    if not torch.equal(colored, share(down[0], across[0], np.uint8(255))):
        raise WhycamError("it draws random numbers")
    basis = torch.stack([vertical, horizontal, torch.ones_like(vertical)]).flatten(1).T
    parts = torch.linalg.lstsq(basis, colored.flatten(1).T).solution.T
    if (parts @ basis.T - colored.flatten(1)).abs().amax() > 0.05 or parts.amin() < -0.05:
        raise WhycamError("it does not treat all colors or pictures alike")
    geometry = Geometry(
        photo_size=size,
        input_size=(black.shape[1], black.shape[2]),
        scale=(y, x),
        offset=(below - top * y, beside - left * x),
        content=(float(top), float(left), float(bottom), float(right)),
    )
    order = tuple(parts.argmax(1).tolist()) if (parts.round() - parts).abs().amax() < 0.05 else ()
    dark, light = (each[box].flatten(1).median(1).values for each in (black, white))
    return Measured(geometry, dark, light, order if sorted(order) == [0, 1, 2] else None)


def _ramp(size: tuple[int, int]) -> Any:
    """From black to white down a picture, by color; levels are rounded in turn up and down along each row, and that in
    stretches long enough to be left when the picture is made small, so that their mean is right.
    """
    levels = 255 * (np.arange(size[0])[:, None] + 0.5) / size[0]
    turns = 8 * np.arange(size[1]) / size[1]
    return np.stack([np.floor(levels + (turns + color / 3) % 1).astype(np.uint8) for color in range(3)])


def _extent(seen: Tensor) -> tuple[int, int]:
    """The first, and one past the last, that is seen."""
    found = seen.nonzero().flatten().tolist()
    return found[0], found[-1] + 1


def _line(share: Tensor, length: int) -> tuple[float, float]:
    """Scale and offset by which a ramp along the first axis lies: place on the photo by place in what is seen of it."""
    rows = share.mean(1) * length
    at = torch.arange(len(rows), dtype=torch.float64) + 0.5
    rough = float(rows[-1] - rows[0]) / max(1, len(rows) - 1)
    edge = _KERNEL * max(1.0, rough)
    inner = (rows > edge) & (rows < length - edge)
    if int(inner.sum()) < max(2, len(rows) / 2):
        raise WhycamError("too little of the photo is seen, or it has too few pixels")
    scale, offset = (
        torch.linalg.lstsq(torch.stack([at[inner], torch.ones_like(at[inner])], 1), rows[inner, None])
        .solution.flatten()
        .tolist()
    )
    away = (share[inner] * length - (at[inner, None] * scale + offset)).abs().amax()
    # nearest-neighbor resampling moves a value by half a pixel of the photo, and levels are rounded
    if away > _AWAY * scale + 0.5 + length / 255:
        raise WhycamError("it turns, mirrors or bends photos")
    return scale, offset
