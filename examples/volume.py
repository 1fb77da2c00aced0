"""Where in a volume? A small 3-D network learns whether there is a lump, and its map shows the lump.

The volumes are made here, noise with some bright rods and in half of them a lump, so the place is known: the map's peak
lies in the lump, in voxels and, from the NIfTI file, in millimeters. A scan of your own is read by
`whycam.read_volume("scan.nii.gz")`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import whycam

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

SIZE = (16, 32, 32)
random = np.random.default_rng(0)
torch.manual_seed(0)


def made(lump):
    """A volume `(1, D, H, W)`, and the center of its lump if it has one."""
    center = np.array([random.uniform(5, side - 6) for side in SIZE])
    away = np.indices(SIZE) - center[:, None, None, None]
    values = 0.3 * random.standard_normal(SIZE).astype(np.float32)
    values += 1.5 * lump * np.exp(-(away**2).sum(0) / 8)
    for _ in range(4):  # rods, which say nothing
        y, x = random.integers(0, 32, 2)
        values[:, y, x] += 1
    return torch.from_numpy(values)[None], center


def block(channels_in, channels_out, stride):
    return [nn.Conv3d(channels_in, channels_out, 3, stride, 1), nn.ReLU()]


network = nn.Sequential(
    *block(1, 8, 2), *block(8, 16, 1), *block(16, 16, 1), nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(16, 2)
)
optimizer = torch.optim.Adam(network.parameters(), 1e-2)
for _ in range(60):
    sorts = torch.arange(8) % 2
    volumes = torch.stack([made(bool(sort))[0] for sort in sorts])
    loss = nn.functional.cross_entropy(network(volumes), sorts)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
network.eval()
tests = [(*made(i % 2 == 1), i % 2) for i in range(20)]
with torch.no_grad():
    right = network(torch.stack([volume for volume, *_ in tests])).argmax(1) == torch.tensor(
        [sort for *_, sort in tests]
    )
print(f"right: {right.float().mean():.0%}")

volume, center, _ = tests[1]
affine = np.diag([1.0, 1.0, 2.5, 1.0])  # slices 2.5 mm apart, across i, j, k
scan = whycam.Volume(volume[None], affine)
e = whycam.explain(network, scan, target="lump", labels=["none", "lump"])
print(f"{e.target[0]}: {e.status[0]}; at {e.layer}")
peak = np.unravel_index(int(e.heatmaps().argmax()), SIZE)
print(f"the map's peak: {tuple(map(int, peak))}, the lump's center: {tuple(center.round(1).tolist())}")
e.figure().savefig(out / "volume.png")
e.save(out / "volume.nii.gz")
