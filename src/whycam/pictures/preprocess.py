"""From photo to network input, and where the one lies on the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from whycam.errors import PhotoError, WhycamError
from whycam.kit.files import with_tuples
from whycam.kit.words import did_you_mean
from whycam.pictures.geometry import Geometry
from whycam.pictures.photos import Photo

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: How a photo is brought to size.
Resize = Literal["shorter", "stretch", "letterbox", "cover", "none"]
#: Pillow's ways to compute a pixel between others.
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

#: The order of an input's channels.
Channels = Literal["rgb", "bgr"]

# A long thin photo, its short side brought to 256, grows without bound; beyond this, only what is kept is computed.
_MAX_RESIZED = 2**26


@dataclass(frozen=True)
class Preprocess:
    """How a model wants its photos: a value, so that it can be compared, stored and shown.

    - `size`: the input's (height, width). With `crop` the input has exactly this size.
    - `resize`: `"shorter"` brings the photo's shorter side to `resize_to`; `"stretch"` the whole photo to `resize_to`,
      heedless of its shape; `"letterbox"` fits it inside `resize_to`, and pads to `size`; `"cover"` fits it around
      `resize_to`; `"none"` leaves its pixels alone.
    - `resize_to`: an int, or (height, width) except for `"shorter"`; `None` is `size`, its smaller side for
      `"shorter"`.
    - `crop`: cut `size` out of the middle, or pad where the photo is smaller. Without it the input is what resizing
      made, and its size may differ from photo to photo.
    - `mean`, `std`: per channel of the input, for values in [0, 1].
    - `channels`: the order of the input's.
    - `fill`: the RGB color of padding. Black is torchvision's; YOLO models want (114, 114, 114).

    Raises `WhycamError` where these do not fit together.

    Examples:
        >>> prepare = whycam.Preprocess.imagenet(64, 72)
        >>> tensor, geometry = prepare(whycam.read_photo(np.zeros((90, 120, 3), dtype=np.uint8)))
        >>> tensor.shape
        torch.Size([3, 64, 64])
    """

    size: tuple[int, int]
    resize: Resize = "shorter"
    resize_to: int | tuple[int, int] | None = None
    crop: bool = True
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Interpolation = "bilinear"
    fill: tuple[int, int, int] = (0, 0, 0)
    channels: Channels = "rgb"

    @classmethod
    def imagenet(cls, size: int = 224, resize_to: int = 256, interpolation: Interpolation = "bilinear") -> "Preprocess":
        """The usual way for ImageNet: the shorter side to `resize_to`, a square of `size` from the middle."""
        return cls((size, size), "shorter", resize_to, interpolation=interpolation)

    def __post_init__(self) -> None:
        _one_of("resize", self.resize, get_args(Resize))
        _one_of("interpolation", self.interpolation, get_args(Interpolation))
        _one_of("channels", self.channels, get_args(Channels))
        to = (
            () if self.resize_to is None else self.resize_to if isinstance(self.resize_to, tuple) else (self.resize_to,)
        )
        if len(self.size) != 2 or min(*self.size, *to) < 1:
            raise WhycamError(
                f"sizes are (height, width), at least 1; got size={self.size}, resize_to={self.resize_to}"
            )
        if isinstance(self.resize_to, tuple) and self.resize == "shorter":
            raise WhycamError(f"resize='shorter' takes one int for resize_to, not {self.resize_to}")
        if self.resize_to is not None and self.resize == "none":
            raise WhycamError(f"resize={self.resize!r} has no use for resize_to={self.resize_to}")
        if min(self.std) <= 0:
            raise WhycamError(f"std must be positive, not {self.std}")

    def __call__(self, photo: Photo) -> tuple[Float[Tensor, "3 height width"], Geometry]:
        """The normalized input in float32, and where it lies on the photo."""
        geometry = self.geometry(photo.size)
        pixels = torch.from_numpy(np.array(self._view(photo)))
        scaled = self._ordered(pixels.permute(2, 0, 1)).contiguous().float().div(255)
        return (scaled - _channels(self.mean)) / _channels(self.std), geometry

    @property
    def black(self) -> Float[Tensor, " channel"]:
        """What a black pixel is in the input, by channel."""
        return -torch.tensor(self.mean, dtype=torch.float64) / torch.tensor(self.std, dtype=torch.float64)

    def geometry(self, photo_size: tuple[int, int]) -> Geometry:
        """Where the input made of a photo of (height, width) lies on it."""
        resized, corner, size = self._plan(photo_size)
        scale = (photo_size[0] / resized[0], photo_size[1] / resized[1])
        top, left = (max(0, -start) for start in corner)
        bottom, right = (min(full, length - start) for full, length, start in zip(size, resized, corner, strict=True))
        return Geometry(
            photo_size=photo_size,
            input_size=size,
            scale=scale,
            offset=(corner[0] * scale[0], corner[1] * scale[1]),
            content=(float(top), float(left), float(bottom), float(right)),
        )

    def undo(self, tensor: Float[Tensor, "3 height width"]) -> Image.Image:
        """The picture that the network saw, from its input; values that no pixel can have are clipped."""
        values = self._ordered(tensor.detach().cpu().float() * _channels(self.std) + _channels(self.mean))
        return Image.fromarray((values * 255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy())

    def _ordered(self, channels: Tensor) -> Tensor:
        """RGB in the input's order, and the other way round."""
        return channels.flip(0) if self.channels == "bgr" else channels

    def _plan(self, photo_size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """The resized photo's size, the input's corner on it (negative where there is padding), the input's size."""
        height, width = photo_size
        resized = photo_size
        if self.resize == "shorter":
            to = min(self.size) if self.resize_to is None else self.resize_to
            assert isinstance(to, int)
            # int() as torchvision does: 341, not 341.33, for 640x480
            resized = (to, int(to * width / height)) if height <= width else (int(to * height / width), to)
        elif self.resize != "none":
            to = self.size if self.resize_to is None else self.resize_to
            resized = (to, to) if isinstance(to, int) else to
            if self.resize != "stretch":
                # photo over target and in this order, as timm computes it: halves are rounded alike
                vertical, horizontal = height / resized[0], width / resized[1]
                ratio = max(vertical, horizontal) if self.resize == "letterbox" else min(vertical, horizontal)
                resized = (max(1, round(height / ratio)), max(1, round(width / ratio)))
        if not self.crop and self.resize != "letterbox":
            if resized[0] * resized[1] > _MAX_RESIZED and resized != photo_size:
                raise PhotoError(
                    f"a photo of {height} x {width} would be resized to {resized[0]} x {resized[1]}; crop it"
                )
            return resized, (0, 0), resized
        top, left = (_corner(length, full) for length, full in zip(resized, self.size, strict=True))
        return resized, (top, left), self.size

    def _view(self, photo: Photo) -> Image.Image:
        """What of the photo goes into the input, as a picture."""
        (height, width), (top, left), size = self._plan(photo.size)
        image, way = photo.image, Image.Resampling[self.interpolation.upper()]
        if height * width > _MAX_RESIZED and (height, width) != photo.size:
            # the same samples without those that the crop would drop; else not so, since Pillow keeps the box in
            # float32 and a pixel may come out one level off
            y, x = photo.size[0] / height, photo.size[1] / width
            rows = (max(top, 0), min(top + size[0], height))
            columns = (max(left, 0), min(left + size[1], width))
            part = (columns[1] - columns[0], rows[1] - rows[0])
            image = image.resize(part, way, box=(columns[0] * x, rows[0] * y, columns[1] * x, rows[1] * y))
            top, left = min(top, 0), min(left, 0)
        else:
            image = image.resize((width, height), way)
        canvas = Image.new("RGB", (size[1], size[0]), self.fill)
        canvas.paste(image, (-left, -top))
        return canvas


def preprocess_of(values: Mapping[str, Any] | None) -> Preprocess | None:
    """What `dataclasses.asdict` made of a `Preprocess`, as JSON gives it back; of nothing, nothing."""
    return Preprocess(**with_tuples(values)) if values else None


def _corner(length: int, size: int) -> int:
    """Where a centered window of `size` begins on `length` pixels, as torchvision rounds; negative for padding."""
    return int((length - size) / 2) if size > length else round((length - size) / 2)


def _channels(values: tuple[float, float, float]) -> Float[Tensor, "3 1 1"]:
    return torch.tensor(values, dtype=torch.float32).reshape(3, 1, 1)


def _one_of(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        hint = did_you_mean(given.lower(), known, most=1)
        raise WhycamError(f"{what} must be one of {', '.join(known)}; got {given!r}.{hint}")
