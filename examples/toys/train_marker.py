"""Trains the toy U-Net of `unet.py`, `region.py` and of the tests, and writes its weights beside this file.

    python examples/toys/train_marker.py

Two to three minutes on one core.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))
import marker


def main(steps: int = 500, batch: int = 16) -> None:
    """Train, and write the weights in half precision."""
    torch.manual_seed(0)
    model = marker.segmenter(weights=None).train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, steps)
    weights = torch.tensor([0.2, 1.0, 1.0])
    for step in range(steps):
        scenes = [marker.scene(10_000 + step * batch + k) for k in range(batch)]
        pictures, truth = (torch.stack([getattr(each, name)() for each in scenes]) for name in ("picture", "truth"))
        loss = F.cross_entropy(model(pictures), truth, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(step, round(float(loss.detach()), 4), flush=True)
    torch.save({name: value.half() for name, value in model.state_dict().items()}, marker.WEIGHTS)
    print(f"{marker.WEIGHTS.name}: {marker.WEIGHTS.stat().st_size / 2**20:.2f} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
