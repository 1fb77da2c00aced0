"""Trains the toy YOLO11 of `yolo.py` on the scenes of `shapes.py`, and writes its weights beside this file.

No weights come with the example, since the package that trains them is AGPL.

    pip install ultralytics
    python examples/toys/train_yolo.py

The losses are the package's own, with its own weights of them. A minute or two on one core.
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import shapes


def trained() -> nn.Module:
    """The network with its weights, which are made when they are first asked for."""
    if not shapes.YOLO.exists():
        main()
    return shapes.yolo()


def main(steps: int = 300, batch: int = 16) -> None:
    """Train, and write the weights in half precision."""
    torch.manual_seed(0)
    model = shapes.yolo(weights=None).train()
    from ultralytics.utils import DEFAULT_CFG

    model.args = DEFAULT_CFG  # how much each loss counts
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for step in range(steps):
        scenes = [shapes.scene(1000 + step * batch + k) for k in range(batch)]
        corners = torch.cat([truth["boxes"] for _, truth in scenes]) / shapes.SIDE
        loss, parts = model.loss(
            {
                "img": torch.stack([picture for picture, _ in scenes]),
                "cls": torch.cat([truth["labels"] for _, truth in scenes]),
                "bboxes": torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1),
                "batch_idx": torch.cat([torch.full_like(truth["labels"], k) for k, (_, truth) in enumerate(scenes)]),
            }
        )
        optimizer.zero_grad()
        loss.sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(step, {name: round(float(value), 3) for name, value in parts.items()}, flush=True)
    torch.save({name: value.half() for name, value in model.state_dict().items()}, shapes.YOLO)
    recall = shapes.recall(shapes.yolo())
    print(f"{shapes.YOLO.name}: {shapes.YOLO.stat().st_size / 2**20:.2f} MB, recall {recall:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
