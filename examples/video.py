"""When and where in a clip? A small video network learns whether a ball lights up, and its map shows the moment.

The clips are made here, so both are known: two balls fly by, and in half of the clips one lights up for a moment on its
way. The film has one scale of colors for all frames, so that a frame that says nothing stays dark.
"""

import sys
from pathlib import Path

import torch
from torch import nn

import whycam

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

FRAMES, SIDE = 16, 48
COLORS = torch.tensor([[1.0, 0.8, 0.2], [0.3, 0.7, 1.0]])
torch.manual_seed(0)


def made(flash):
    """A clip `(3, T, H, W)` of two balls, and when and where one lights up, if it does: frame, row and column."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    clip = 0.1 * torch.rand(3, FRAMES, SIDE, SIDE)
    moment, which = int(torch.randint(3, FRAMES - 3, ())), int(torch.randint(2, ()))
    place = ()
    for ball, color in enumerate(COLORS):
        row, start, speed = 12 + 24 * ball + 4 * torch.rand(()), 10 * torch.rand(()), 1.5 + torch.rand(())
        for t in range(FRAMES):
            column = (start + speed * t) if ball == 0 else SIDE - (start + speed * t)
            near = ((y - row) ** 2 + (x - column) ** 2) < 5**2
            bright = 1.0 if flash and ball == which and abs(t - moment) < 3 else 0.35
            clip[:, t, near] = bright * color[:, None]
            if ball == which and t == moment:
                place = (t, float(row), float(column))
    return clip, place


def block(channels_in, channels_out, stride):
    return [nn.Conv3d(channels_in, channels_out, 3, stride, 1), nn.ReLU()]


network = nn.Sequential(
    *block(3, 8, (1, 2, 2)),
    *block(8, 16, 2),
    *block(16, 16, 1),
    nn.AdaptiveMaxPool3d(1),
    nn.Flatten(),
    nn.Linear(16, 2),
)
optimizer = torch.optim.Adam(network.parameters(), 1e-2)
for _ in range(60):
    sorts = torch.arange(12) % 2
    loss = nn.functional.cross_entropy(network(torch.stack([made(bool(sort))[0] for sort in sorts])), sorts)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
network.eval()
tests = [(*made(i % 2 == 1), i % 2) for i in range(20)]
with torch.no_grad():
    read = network(torch.stack([clip for clip, *_ in tests])).argmax(1)
print(f"right: {(read == torch.tensor([sort for *_, sort in tests])).float().mean():.0%}")

clip, place, _ = tests[1]
e = whycam.explain(network, whycam.Clip(clip[None], rate=8), target="flash", labels=["steady", "flash"])
frame = int(e.heatmaps()[0].sum((1, 2)).argmax())
print(f"{e.target[0]}: {e.status[0]}; the map's strongest frame is {frame}, the flash is in frame {place[0]}")
e.save(out / "video.gif")
e.figure().savefig(out / "video.png")
