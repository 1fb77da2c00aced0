"""How maps are drawn."""

from dataclasses import dataclass
from typing import Literal

from whycam.kit.arrays import Enlarge
from whycam.pictures.blends import OPACITY, Blend


@dataclass(frozen=True)
class Look:
    """How maps are drawn: the parameters of `Explanation.overlay`."""

    colormap: str | None = None
    opacity: float = OPACITY
    signed: bool = False
    enlarge: Enlarge = "cubic"
    on: str = "photo"
    caption: bool | Literal["status"] = "status"
    marks: bool = True
    at: tuple[int, ...] | None = None  # the voxel that a volume's cuts go through, if not the map's peak
    blend: Blend = "map"
    contour: float | None = None
    legend: bool = False

    def way(self, axes: int) -> Enlarge:
        """How maps of so many axes are enlarged: splines are for pictures."""
        return "bilinear" if self.enlarge == "cubic" and axes != 2 else self.enlarge
