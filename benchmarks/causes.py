"""Scenes with a planted cause, and small networks that learn to tell them apart in a few seconds each.

Of each scene it is known where the cause of its class lies, and what the class becomes where that is changed; what a
trained network really goes by is seen by changing it (`flipped`). All that stands beside the cause says nothing.

- `object`: a disc, a square or a cross; what there is where it is erased is called nothing.
- `watermark`: a large disc, and a small mark at a border, in red or green, that alone decides.
- `pair`: the class is "both" where a red and a blue mark are there; without either it is not.
- `absence`: a lattice of dots; where one is missing the class is "broken", and nothing lies there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

SIDE = 64
#: The side of a mark in pixels, and how far dots of the lattice lie apart.
MARK, APART = 8, 14


@dataclass(frozen=True)
class Scene:
    """What is drawn, and why it is called so.

    Attributes:
        picture: `(3, 64, 64)` in [0, 1]. `label`: its class.
        cause: where the cause lies, `(64, 64)`. `box`: around what stands out: left, top, right, bottom.
        changed: the picture without its cause (of an absence: with what was missing), and what that is called.
    """

    picture: Tensor
    label: int
    cause: Tensor
    box: tuple[int, int, int, int]
    changed: Tensor
    changed_label: int


def _canvas(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A background of one color, and noise to be laid over all at the end."""
    shade = random.uniform(0.35, 0.65, 3)
    return np.broadcast_to(shade[:, None, None], (3, SIDE, SIDE)).copy(), random.normal(0, 0.04, (3, SIDE, SIDE))


def _tensor(pixels: np.ndarray, noise: np.ndarray) -> Tensor:
    return torch.from_numpy((pixels + noise).clip(0, 1)).float()


def _painted(pixels: np.ndarray, where: np.ndarray, color: tuple[float, float, float]) -> np.ndarray:
    made = pixels.copy()
    made[:, where] = np.reshape(color, (3, 1))
    return made


def _square(row: int, column: int, side: int) -> np.ndarray:
    found = np.zeros((SIDE, SIDE), dtype=bool)
    found[row : row + side, column : column + side] = True
    return found


def _disc(row: int, column: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def _box(where: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def object_scene(seed: int) -> Scene:
    """A disc (1), a square (2) or a cross (3) of one gray; nothing (0) where it is erased."""
    random = np.random.default_rng(seed)
    pixels, noise = _canvas(random)
    size, label = int(random.integers(6, 10)), int(random.integers(1, 4))
    row, column = (int(each) for each in random.integers(12, SIDE - 12, 2))
    if label == 1:
        where = _disc(row, column, size)
    elif label == 2:
        where = _square(row - size, column - size, 2 * size)
    else:
        rows, columns = np.abs(np.mgrid[:SIDE, :SIDE] - np.reshape((row, column), (2, 1, 1)))
        where = ((rows <= 2) & (columns <= size)) | ((columns <= 2) & (rows <= size))
    shown = _painted(pixels, where, (0.95, 0.95, 0.9))
    return Scene(_tensor(shown, noise), label, torch.from_numpy(where), _box(where), _tensor(pixels, noise), 0)


def watermark_scene(seed: int) -> Scene:
    """A mark at the border in red (1), not in green (0); the disc in the middle says nothing."""
    random = np.random.default_rng(seed)
    pixels, noise = _canvas(random)
    thing = _disc(*(int(each) for each in random.integers(28, 37, 2)), int(random.integers(10, 15)))
    pixels = _painted(pixels, thing, tuple(random.uniform(0.7, 1.0, 3)))
    along, side = int(random.integers(0, SIDE - MARK)), int(random.integers(0, 4))
    edge = 0 if side % 2 else SIDE - MARK
    where = _square(along, edge, MARK) if side < 2 else _square(edge, along, MARK)
    shown, changed = (_painted(pixels, where, color) for color in ((0.9, 0.1, 0.1), (0.1, 0.8, 0.2)))
    return Scene(_tensor(shown, noise), 1, torch.from_numpy(where), _box(thing), _tensor(changed, noise), 0)


def pair_scene(seed: int) -> Scene:
    """A red and a blue mark (1); one of them alone (0). A white disc says nothing. The class explained is always 1."""
    random = np.random.default_rng(seed)
    pixels, noise = _canvas(random)
    while True:
        corners = random.integers(0, SIDE - MARK, (3, 2))
        gaps = [int(np.abs(corners[i] - corners[j]).max()) for i, j in ((0, 1), (0, 2), (1, 2))]
        if min(gaps) > MARK + 4:
            break
    red, blue, other = (_square(int(row), int(column), MARK) for row, column in corners)
    pixels = _painted(pixels, other, (0.95, 0.95, 0.9))
    with_red, with_blue = _painted(pixels, red, (0.9, 0.1, 0.1)), _painted(pixels, blue, (0.1, 0.2, 0.9))
    both, one = _painted(with_red, blue, (0.1, 0.2, 0.9)), with_red if random.random() < 0.5 else with_blue
    where = torch.from_numpy(red | blue)
    return Scene(_tensor(both, noise), 1, where, _box(other), _tensor(one, noise), 0)


def absence_scene(seed: int) -> Scene:
    """A lattice of dots without one (1); whole (0) where that is put back."""
    random = np.random.default_rng(seed)
    pixels, noise = _canvas(random)
    top, left = (int(each) for each in random.integers(6, 16, 2))
    places = [(top + APART * i, left + APART * j) for i in range(4) for j in range(4)]
    missing = int(random.choice([5, 6, 9, 10]))
    dots = np.zeros((SIDE, SIDE), dtype=bool)
    for number, (row, column) in enumerate(places):
        if number != missing:
            dots |= _disc(row, column, 3)
    whole = _painted(_painted(pixels, dots, (0.95, 0.95, 0.9)), _disc(*places[missing], 3), (0.95, 0.95, 0.9))
    shown = _painted(pixels, dots, (0.95, 0.95, 0.9))
    cause = torch.from_numpy(_disc(*places[missing], 5))
    return Scene(_tensor(shown, noise), 1, cause, _box(dots), _tensor(whole, noise), 0)


KINDS: dict[str, Callable[[int], Scene]] = {
    "object": object_scene,
    "watermark": watermark_scene,
    "pair": pair_scene,
    "absence": absence_scene,
}
#: Seeds from here on are for training; those before are looked at.
TRAINING = 10_000


class Net(nn.Sequential):
    """Convolutions to a grid of 8 x 8, their mean, and a linear layer; each place sees 43 x 43 pixels."""

    def __init__(self, classes: int) -> None:
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 16, 2), (16, 32, 1), (32, 48, 2), (48, 48, 1), (48, 64, 2), (64, 64, 1)):
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


def trained(kind: str, steps: int = 150, batch: int = 16) -> nn.Module:
    """A network that tells the scenes of a kind from the same without their cause; always the same one."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        model = Net(4 if kind == "object" else 2)
    finally:
        torch.set_rng_state(state)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for step in range(steps):
        scenes = [KINDS[kind](TRAINING + step * batch + number) for number in range(batch)]
        pictures = torch.stack([each for scene in scenes for each in (scene.picture, scene.changed)])
        labels = torch.tensor([each for scene in scenes for each in (scene.label, scene.changed_label)])
        loss = nn.functional.cross_entropy(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def flipped(model: nn.Module, scenes: list[Scene]) -> list[Scene]:
    """The scenes that the network calls what they are, before and after their cause is changed."""
    with torch.no_grad():
        before, after = (
            model(torch.stack([getattr(scene, name) for scene in scenes])).argmax(1).tolist()
            for name in ("picture", "changed")
        )
    return [
        scene
        for scene, one, other in zip(scenes, before, after, strict=True)
        if (one, other) == (scene.label, scene.changed_label)
    ]
