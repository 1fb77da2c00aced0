"""Trains the toy RT-DETR of `detr.py` on the scenes of `shapes.py`, and writes its weights beside this file.

    python examples/toys/train_detr.py

The network computes its losses itself; a few queries for it are made of the true boxes with noise, as RT-DETR is
trained. A few minutes on one core.
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import shapes


def main(steps: int = 700, batch: int = 16) -> None:
    """Train, and write the weights in half precision."""
    torch.manual_seed(0)
    model = shapes.rt_detr(weights=None).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps)
    for step in range(steps):
        scenes = [shapes.scene(1000 + step * batch + k) for k in range(batch)]
        labels = []
        for _, truth in scenes:
            corners = truth["boxes"] / shapes.SIDE
            middle, size = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
            labels.append({"class_labels": truth["labels"], "boxes": torch.cat([middle, size], 1)})
        answer = model(pixel_values=torch.stack([picture for picture, _ in scenes]), labels=labels)
        optimizer.zero_grad()
        answer.loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            shown = ("loss_vfl", "loss_bbox", "loss_giou")
            print(step, {name: round(float(answer.loss_dict[name].detach()), 3) for name in shown}, flush=True)
    torch.save({name: value.half() for name, value in model.state_dict().items()}, shapes.RT_DETR)
    recall = shapes.recall(shapes.rt_detr())
    print(f"{shapes.RT_DETR.name}: {shapes.RT_DETR.stat().st_size / 2**20:.2f} MB, recall {recall:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
