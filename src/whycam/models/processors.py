"""transformers' image processors, read off their settings."""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

from PIL import Image

from whycam.errors import WhycamError
from whycam.pictures.preprocess import Preprocess


class _Way(NamedTuple):
    """One reading of a processor's settings for sizes."""

    resize: str
    to: int | tuple[int, int] | None
    crop: tuple[int, int] | None


def is_processor(given: Any) -> bool:
    """Whether this is an image processor of transformers', or a processor that holds one."""
    home = type(given).__module__.partition(".")[0]
    kinds = {each.__name__ for each in type(given).__mro__ if each.__module__.startswith("transformers.")}
    return bool(kinds & {"ImageProcessingMixin", "ProcessorMixin"}) or (
        home == "transformers" and hasattr(given, "image_processor")
    )


def image_processor(given: Any) -> Any:
    """The image processor itself, for a processor of several kinds of data."""
    return getattr(given, "image_processor", given)


def proposals(processor: Any) -> Iterator[Preprocess]:
    """Readings of its settings; which of them holds is for the processor itself to show.

    Processors read the same settings in their own ways: `crop_pct` enlarges in ConvNeXt's below 384 and does nothing
    from there on, where the photo is stretched; PoolFormer's always enlarges; LeViT's enlarges by 256/224 unasked.
    """
    if (config := getattr(processor, "data_config", None)) is not None:  # a timm model's, in transformers' clothes
        from whycam.models.composed import from_timm_config

        yield from_timm_config(config)
        return
    means = _scale(processor)
    if means is None:
        return
    by_torch = _backend(processor) == "torchvision"
    common: dict[str, Any] = {
        "interpolation": _interpolation(processor),
        "rounding": "zero" if by_torch else "floor",
        "resizer": "torch" if by_torch else "pillow",
    }
    flips = getattr(processor, "do_flip_channel_order", None)
    orders = ("bgr",) if flips else ("rgb", "bgr") if flips is None else ("rgb",)
    for way, order in product(_ways(processor), orders):
        mean, std = means if order == "rgb" else (each[::-1] for each in means)  # it normalizes, then flips
        size = way.crop or (way.to if isinstance(way.to, tuple) else (way.to, way.to) if way.to else (1, 1))
        try:
            yield Preprocess(size, way.resize, way.to, way.crop is not None, mean, std, channels=order, **common)  # type: ignore[arg-type]
        except WhycamError:  # settings that no photo can be brought to
            continue


def _ways(processor: Any) -> Iterator[_Way]:
    size, crop_size = _size(processor, "size"), _size(processor, "crop_size")
    crop = _pair(crop_size) if getattr(processor, "do_center_crop", None) else None
    if not getattr(processor, "do_resize", None):
        yield _Way("none", None, crop)
        return
    share = getattr(processor, "crop_pct", None)
    if short := getattr(processor, "resize_short", None):
        yield _Way("cover", (int(short), int(short)), crop)
    if pair := _pair(size):
        yield _Way("stretch", pair, crop)
        if share:
            larger = (int(pair[0] / share), int(pair[1] / share))
            yield _Way("shorter", larger[0], crop) if pair[0] == pair[1] else _Way("stretch", larger, crop)
    if (edge := size.get("shortest_edge")) and not size.get("longest_edge"):
        yield _Way("shorter", edge, crop)
        if share:
            yield _Way("shorter", int(edge / share), crop or (edge, edge))
            yield _Way("stretch", (edge, edge), crop)
        yield _Way("shorter", int(256 / 224 * edge), crop)


def _scale(processor: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """What is taken from values in [0, 1] and what they are divided by, for all that is done to a pixel in a row."""
    rescales = getattr(processor, "do_rescale", None)
    factor = float(processor.rescale_factor) if rescales else 1.0
    less = 1.0 if rescales and getattr(processor, "rescale_offset", None) else 0.0
    means, stds = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if getattr(processor, "do_normalize", None):
        if processor.image_mean is None or processor.image_std is None:
            return None
        means, stds = _three(processor.image_mean), _three(processor.image_std)
    once_more = _three(processor.image_std) if getattr(processor, "include_top", None) else (1.0, 1.0, 1.0)
    red, green, blue = ((less + mean) / (255 * factor) for mean in means)
    by = tuple(std * again / (255 * factor) for std, again in zip(stds, once_more, strict=True))
    return (red, green, blue), (by[0], by[1], by[2])


def _interpolation(processor: Any) -> Any:
    mode = getattr(processor, "resample", None)
    if mode is None:
        return "bilinear"
    value = getattr(mode, "value", mode)  # Pillow's number, or torchvision's word
    return Image.Resampling(value).name.lower() if isinstance(value, int) else str(value).replace("-exact", "")


def _backend(processor: Any) -> str:
    """`torchvision` or `pil`: transformers has each processor twice."""
    told = getattr(processor, "backend", None)
    return str(told) if told else "torchvision" if type(processor).__name__.endswith("Fast") else "pil"


def _size(processor: Any, name: str) -> dict[str, int]:
    given = getattr(processor, name, None)
    if given is None:
        return {}
    if isinstance(given, int):
        return {"height": given, "width": given}
    return {key: int(value) for key, value in dict(given).items() if value is not None}


def _pair(size: dict[str, int]) -> tuple[int, int] | None:
    return (size["height"], size["width"]) if size.get("height") and size.get("width") else None


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(each) for each in values) if hasattr(values, "__len__") else (float(values),) * 3
    return red, green, blue
