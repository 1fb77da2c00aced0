"""What a run keeps of each map: how exact, which metrics, and pictures beside the table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from whycam.engine.identity import identity
from whycam.errors import OptionError
from whycam.kit.files import digits, disk_errors_said, write_whole
from whycam.kit.metric import Metric
from whycam.pictures.colormaps import palette
from whycam.pictures.encoding import encoded
from whycam.pictures.photos import safe_name
from whycam.results.drawing import heat_picture, overlay
from whycam.results.explanation import Explanation
from whycam.results.look import Look
from whycam.runs.store import TYPES

#: The files that pictures are written as: Pillow's names of them, and how, quick to write and without visible blocks.
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpg": ("JPEG", {"quality": 90}),
    "webp": ("WEBP", {"quality": 85, "method": 2}),
    "png": ("PNG", {"compress_level": 3}),
}

#: The folders of pictures in a run's.
PICTURES = ("overlays", "heatmaps")


@dataclass(frozen=True)
class Kept:
    """What is kept of each map.

    Attributes:
        maps: how the values of raw maps are kept, `"float16"` or `"float32"`.
        metrics: each with its options, for a column each.
        overlays, heatmaps: as which files they are drawn, or not at all. `look`: how.
    """

    maps: str = "float16"
    metrics: tuple[tuple[Metric, Mapping[str, Any]], ...] = ()
    overlays: str | None = None
    heatmaps: str | None = None
    look: Look = field(default_factory=Look)

    def __post_init__(self) -> None:
        if self.maps not in TYPES:
            raise OptionError(f"maps are kept as {' or '.join(TYPES)}, not {self.maps!r}.")
        for name, file in self.pictures.items():
            if file not in _FORMATS:
                raise OptionError(f"{name} are drawn as {', '.join(_FORMATS)}, not {file!r}.")
        palette(self.look.colormap, self.look.signed)  # a name that does not exist is said before any work is done

    @cached_property
    def pictures(self) -> dict[str, str]:
        """Which pictures are drawn -> as which files."""
        asked = {"overlays": self.overlays, "heatmaps": self.heatmaps}
        return {name: file for name, file in asked.items() if file is not None}

    @property
    def asked(self) -> dict[str, Any]:
        """All of it, in words that a manifest holds; what was not asked is left out."""
        look = {name: getattr(self.look, name) for name in ("colormap", "opacity", "signed", "blend", "contour")}
        drawn = {**self.pictures, "look": look} if self.pictures else {}
        metrics = {each.name: {k: identity(v) for k, v in options.items()} for each, options in self.metrics}
        return {"maps": self.maps, **({"metrics": metrics} if metrics else {}), **drawn}

    def draw(self, one: Explanation, folder: Path, source: str, name: str) -> dict[str, str]:
        """Write the pictures of one map below the run's folder; the columns that say where they are.

        Raises:
            WhycamError: the disk refuses, or the map is of a kind that cannot be drawn.
        """
        columns = {}
        for kind, file in self.pictures.items():
            picture = (overlay if kind == "overlays" else heat_picture)(one, self.look)
            path = f"{kind}/{file_name(source)}.{name}.{file}"
            write_picture(picture, folder / path)
            columns[kind.removesuffix("s")] = path
        return columns


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as the path's ending says.

    Raises:
        WhycamError: the disk refuses.
    """
    kind, how = _FORMATS[path.suffix[1:]]
    with disk_errors_said(path.parent):
        write_whole(path, encoded(picture, kind, **how), alone=True)


def file_name(source: str) -> str:
    """A path below a folder for an image's id, another for each: with digits of the id where it cannot stand as it is.

    Examples:
        >>> file_name("cats/one.jpg"), file_name("../one.jpg")
        ('cats/one.jpg', 'one.jpg-489df19e')
    """
    safe = "/".join(filter(None, map(safe_name, source.split("/")))) or "image"
    return safe if safe == source else f"{safe}-{digits([source.encode()])[:8]}"
