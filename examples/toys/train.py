"""Trains the toy detector of `boxes.py` and of the tests, and writes its weights beside this file.

    python examples/toys/train.py

Scenes of 128 pixels hold one to three shapes of three classes (square, disc, triangle) and thin bars that are none of
them. Every scene is drawn from its own seed. A few minutes on one core.
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import shapes


def main(steps: int = 500, batch: int = 8) -> None:
    """Train, and write the weights in half precision."""
    torch.manual_seed(0)
    model = shapes.detector(weights=None).train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for step in range(steps):
        scenes = [shapes.scene(1000 + step * batch + k) for k in range(batch)]
        losses = model([picture for picture, _ in scenes], [target for _, target in scenes])
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(step, {name: round(float(value.detach()), 3) for name, value in losses.items()}, flush=True)
    torch.save({name: value.half() for name, value in model.state_dict().items()}, shapes.WEIGHTS)
    print(f"{shapes.WEIGHTS.name}: {shapes.WEIGHTS.stat().st_size / 2**20:.2f} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
