"""Trains the toy vision transformers of `benchmarks/vision_transformers.py` and writes their weights beside this file.

    python examples/toys/train_patches.py

One whose class token is read, one whose patches are averaged; some ten minutes each on one core.
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import patches


def main(pool: str, steps: int = 1500, batch: int = 64) -> None:
    """Train, and write the weights in half precision."""
    torch.manual_seed(0)
    model = patches.vit(pool, trained=False).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, steps)
    for step in range(steps):
        scenes = [patches.scene(10_000 + step * batch + number) for number in range(batch)]
        logits = model(torch.stack([scene.picture() for scene in scenes]))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, torch.stack([s.present() for s in scenes]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(pool, step, round(float(loss.detach()), 3), flush=True)
    torch.save({name: value.half() for name, value in model.state_dict().items()}, patches.WEIGHTS[pool])
    print(f"{patches.WEIGHTS[pool].name}: {patches.WEIGHTS[pool].stat().st_size / 2**20:.2f} MB")


if __name__ == "__main__":
    for each in sys.argv[1:] or patches.WEIGHTS:
        main(each)
