"""A toy U-Net and its scenes: what a disc is called depends on a small marker far from it, and on nothing else.

With a red marker in the scene the disc is an alarm, with a green one or none it is calm. A square beside them says
nothing. So the cause of a disc's class is known, and lies outside of the disc. Each scene is drawn from its own seed.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

#: The trained weights, in half precision.
WEIGHTS = Path(__file__).with_name("marker.pt")
NAMES = ("background", "alarm", "calm")
SIDE = 64
#: The side of a marker and of the square that says nothing, in pixels.
SMALL = 8
COLORS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.8, 0.2)}


@dataclass(frozen=True)
class Scene:
    """What is drawn.

    Attributes:
        seed: of the background, its noise and the gray of the disc.
        disc: row and column of its center, radius, in pixels.
        marker, square: row and column of the upper left corner.
        color: of the marker: red, green or none.
    """

    seed: int
    disc: tuple[int, int, int]
    marker: tuple[int, int]
    square: tuple[int, int]
    color: str

    def recolored(self, color: str) -> "Scene":
        """The same scene with another marker; `none` erases it."""
        return replace(self, color=color)

    def picture(self) -> Tensor:
        """`(3, 64, 64)` in [0, 1]."""
        random = np.random.default_rng(self.seed)
        shade, gray = random.uniform(0.3, 0.6, 3), random.uniform(0.7, 0.95)
        pixels = np.broadcast_to(shade[:, None, None], (3, SIDE, SIDE)).copy()
        pixels[:, self.inside().numpy()] = gray
        for (row, column), paint in ((self.square, (0.2, 0.3, 0.9)), (self.marker, COLORS.get(self.color))):
            if paint is not None:
                pixels[:, row : row + SMALL, column : column + SMALL] = np.reshape(paint, (3, 1, 1))
        noisy = pixels + random.normal(0, 0.03, pixels.shape)
        return torch.from_numpy(noisy.clip(0, 1)).float()

    def inside(self) -> Tensor:
        """Where the disc is, `(64, 64)`."""
        rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
        row, column, radius = self.disc
        return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2

    def marked(self) -> Tensor:
        """Where the marker is, or was, `(64, 64)`."""
        found = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        row, column = self.marker
        found[row : row + SMALL, column : column + SMALL] = True
        return found

    def truth(self) -> Tensor:
        """The class of each pixel, `(64, 64)`."""
        return self.inside().long() * (1 if self.color == "red" else 2)


def scene(seed: int, color: str | None = None) -> Scene:
    """The scene of that seed, with its own color of the marker or the one that is asked for."""
    random = np.random.default_rng(seed)
    drawn = str(random.choice(["red", "green", "none"], p=[0.5, 0.375, 0.125]))
    while True:
        radius = int(random.integers(7, 12))
        row, column = (int(each) for each in random.integers(radius, SIDE - radius, 2))
        marker, square = random.integers(0, SIDE - SMALL, (2, 2))
        away = [float(np.hypot(*(corner + SMALL / 2 - (row, column)))) for corner in (marker, square)]
        apart = int(np.abs(marker - square).max())
        if away[0] > radius + 18 and away[1] > radius + 8 and apart > SMALL + 2:
            break
    places = [(int(r), int(c)) for r, c in (marker, square)]
    return Scene(seed, (row, column, radius), places[0], places[1], color or drawn)


class UNet(nn.Module):
    """Four stages down, four up, each joined with what the stage on the same grid was; about 240,000 weights."""

    def __init__(self, widths: tuple[int, ...] = (8, 16, 32, 48)) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(_twice(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = _twice(widths[-1], widths[-1])
        self.upsample = nn.Upsample(scale_factor=2)
        below = (*widths[1:], widths[-1])
        self.decoder = nn.ModuleList(_twice(a + b, b) for a, b in reversed(list(zip(below, widths, strict=True))))
        self.head = nn.Conv2d(widths[0], len(NAMES), 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """The class scores of each pixel, `(batch, 3, 64, 64)`."""
        skips = []
        for stage in self.encoder:
            inputs = stage(inputs)
            skips.append(inputs)
            inputs = self.pool(inputs)
        inputs = self.bottleneck(inputs)
        for stage, skip in zip(self.decoder, reversed(skips), strict=True):
            inputs = stage(torch.cat([skip, self.upsample(inputs)], 1))
        scores: Tensor = self.head(inputs)
        return scores


def _twice(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (before, after):
        layers += [nn.Conv2d(width, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def segmenter(weights: Path | None = WEIGHTS) -> nn.Module:
    """The U-Net, trained."""
    model = UNet()
    if weights is not None:
        kept = torch.load(weights, weights_only=True)
        model.load_state_dict({name: value.to(model.state_dict()[name].dtype) for name, value in kept.items()})
    return model.eval()
