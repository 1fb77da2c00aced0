"""torchvision's and timm's transforms, read off their settings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import floor
from typing import Any

from whycam.pictures.preprocess import Preprocess

_UNIT: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
#: Steps that make a tensor of a picture, so that what follows is torch's arithmetic and not Pillow's.
_TENSOR = ("ToTensor", "MaybeToTensor", "PILToTensor", "MaybePILToTensor", "ToImage")
_SCALE = ("ConvertImageDtype", "ToDtype", "ToPureTensor")


def is_transform(given: Any) -> bool:
    """Whether this is a classification preset of torchvision's, or a `Compose` of its or timm's steps."""
    home, name = type(given).__module__, type(given).__name__
    return home.startswith("torchvision.transforms") and name in ("ImageClassification", "Compose")


def proposals(given: Any) -> Iterator[Preprocess]:
    """What the settings say, if they can be read."""
    read = _preset(given) if type(given).__name__ == "ImageClassification" else _steps(given)
    if read is not None:
        yield read


def from_timm_config(config: Mapping[str, Any]) -> Preprocess:
    """timm's data configuration (`timm.data.resolve_data_config`) as its evaluation transform applies it."""
    height, width = config["input_size"][-2:]
    share = config.get("crop_pct") or 0.875
    scaled = (floor(height / share), floor(width / share))
    mean, std = _three(config["mean"]), _three(config["std"])
    usual = Preprocess(
        (height, width), "cover", scaled, mean=mean, std=std, interpolation=config.get("interpolation", "bilinear")
    )
    mode = config.get("crop_mode") or "center"
    if mode == "squash":
        return replace(usual, resize="stretch")
    if mode == "border":
        red, green, blue = (round(255 * value) for value in mean)
        return replace(usual, resize="letterbox", fill=(red, green, blue))
    # the usual center crop; a square goes through torchvision, which cuts the longer side where timm rounds it
    return replace(usual, resize="shorter", resize_to=scaled[0]) if scaled[0] == scaled[1] else usual


def _preset(given: Any) -> Preprocess | None:
    crop, to = _pair(given.crop_size), _only(given.resize_size)
    if crop is None or to is None:
        return None
    return Preprocess(
        crop, "shorter", to, mean=_three(given.mean), std=_three(given.std), interpolation=_interpolation(given)
    )


def _steps(given: Any) -> Preprocess | None:
    """A chain of known steps; `None` for one with an unknown step, a random one say."""
    found: dict[str, Any] = {"resize": "none", "crop": False, **_UNIT}
    size: tuple[int, int] | None = None
    tensor = False
    for step in given.transforms:
        name = type(step).__name__
        if not type(step).__module__.startswith(("torchvision.transforms", "timm.data")):
            return None
        if name == "Resize" and step.size is not None and step.max_size is None and not found["crop"]:
            to = _only(step.size)
            pair = None if to is not None else _pair(step.size)
            found |= {"resize": "shorter" if to is not None else "stretch", "resize_to": to if to is not None else pair}
            found |= {"interpolation": _interpolation(step), "resizer": "torch" if tensor else "pillow"}
            size = (to, to) if to is not None else pair
        elif name == "ResizeKeepRatio" and step.longest in (0, 1) and not tensor and not found["crop"]:
            found |= {"resize": "letterbox" if step.longest else "cover", "resize_to": tuple(step.size)}
            found |= {"interpolation": _interpolation(step)}
            size = tuple(step.size)
        elif name in ("CenterCrop", "CenterCropOrPad") and not found["crop"]:
            size = _pair(step.size)
            fill = getattr(step, "fill", 0)
            found |= {"crop": True, "fill": (fill,) * 3 if isinstance(fill, int) else tuple(fill)}
        elif name == "Normalize":
            found |= {"mean": _three(step.mean), "std": _three(step.std)}
        elif name in _TENSOR:
            tensor = True
        elif name not in _SCALE:
            return None
    if found["resize"] == "letterbox" and not found["crop"]:
        return None
    return Preprocess(size, **found) if size is not None else None


def _interpolation(given: Any) -> Any:
    """`InterpolationMode.BILINEAR` -> `bilinear`."""
    mode = given.interpolation
    return str(getattr(mode, "value", mode)).replace("nearest-exact", "nearest")


def _only(size: Any) -> int | None:
    """The one number that a size is, if it is one."""
    if isinstance(size, Sequence):
        return int(size[0]) if len(size) == 1 else None
    return int(size)


def _pair(size: Any) -> tuple[int, int] | None:
    if not isinstance(size, Sequence):
        return int(size), int(size)
    return (int(size[0]), int(size[-1])) if len(size) in (1, 2) else None


def _three(values: Any) -> tuple[float, float, float]:
    several = [float(value) for value in values]
    red, green, blue = several * 3 if len(several) == 1 else several
    return red, green, blue
