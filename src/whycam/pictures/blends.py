"""How the colors of a map lie on a picture."""

from typing import Literal, TypeAlias

#: As opaque as the map is strong, or everywhere the same.
Blend: TypeAlias = Literal["map", "even"]

#: The usual share of a color where the map is strong: the photo can still be read below.
OPACITY = 0.6
