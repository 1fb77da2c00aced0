"""What `whycam explain` writes of each map, and what it measures of it."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whycam.errors import WhycamError
from whycam.kit.words import plural

if TYPE_CHECKING:
    from whycam.results.explanation import Explanation
else:
    Explanation = Any  # brings torch


@dataclass(frozen=True)
class Wanted:
    """What was asked for.

    Attributes:
        look: how everything is drawn; `overlay`: what else the overlay has.
        heat: whether the colors are written by themselves. `figure`: as which sort of file, if at all.
        mask: the level of the bright part, if it is wanted. `shares`: regions by what they were called.
    """

    look: dict[str, Any]
    overlay: dict[str, Any]
    heat: bool = False
    figure: str | None = None
    mask: float | None = None
    shares: dict[str, Any] = field(default_factory=dict)

    def write(self, one: Explanation, folder: Path) -> list[Path]:
        """Write the files of one map; which these are."""
        from PIL import Image

        from whycam.kit.files import write_whole
        from whycam.pictures.encoding import encoded
        from whycam.pictures.figures import save_figure

        files = one.save(folder, **self.look, **self.overlay)
        assert one.context is not None  # photos are explained here
        stem = f"{one.context.name(0)}.{one.method}"
        pictures = {}
        if self.heat:
            pictures["heat"] = one.heat_layer(**self.look)
        if self.mask is not None:
            pictures["mask"] = Image.fromarray(one.mask(self.mask)[0].numpy())
        for name, picture in pictures.items():
            files.append(write_whole(folder / f"{stem}.{name}.png", encoded(picture, "png")))
        if self.figure is not None:
            files.append(save_figure(one.figure(**self.look), folder / f"{stem}.panels.{self.figure}"))
        return files

    def measured(self, one: Explanation) -> dict[str, Any]:
        """Where the map is bright, and how much of it lies in the regions, as a JSON document has it."""
        from whycam.kit.regions import around_parts

        found: dict[str, Any] = {}
        if self.mask is not None:
            inside = one.mask(self.mask)[0]
            boxes = around_parts(inside).tolist()
            found["bright"] = {"level": self.mask, "area": float(inside.float().mean()), "boxes": boxes}
        if self.shares:
            found["shares"] = {name: float(one.share(region)[0]) for name, region in self.shares.items()}
        return found


def in_words(measured: dict[str, Any]) -> dict[str, str]:
    """What was measured, for people."""
    rows = {}
    if bright := measured.get("bright"):
        boxes = [",".join(f"{side:g}" for side in box) for box in bright["boxes"]]
        around = f" in {plural(len(boxes), 'part')}: {' '.join(boxes)}" if boxes else ""
        rows["bright"] = f"{bright['area']:.1%} of the photo is above {bright['level']:g}{around}"
    if shares := measured.get("shares"):
        rows["evidence"] = "; ".join(f"{share:.1%} in {name}" for name, share in shares.items())
    return rows


def read_region(text: str) -> Any:
    """What `Explanation.share` takes, from a box `L,T,R,B` or the path of a picture that is black outside.

    Raises:
        WhycamError: neither of these.
    """
    number = r"\s*-?\d+(?:\.\d*)?\s*"
    if re.fullmatch(f"{number}(?:,{number}){{3}}", text):
        return tuple(map(float, text.split(",")))
    if not Path(text).is_file():
        raise WhycamError(f"--share takes a box L,T,R,B in pixels or a mask's file, and {text!r} is neither.")
    import numpy as np

    from whycam.pictures.photos import read_photo

    return np.asarray(read_photo(text).image).any(-1)
