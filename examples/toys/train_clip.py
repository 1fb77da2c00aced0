"""Trains the toy CLIP of `clip_sentences.py` and writes its weights beside this file.

    python examples/toys/train_clip.py

Pictures and sentences of a batch are told apart, as CLIP was trained: each sentence names both shapes of its picture,
in either order, or one of them. A few minutes on one core.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import sentences


def main(steps: int = 1500, batch: int = 64, scenes: int = 6000) -> None:
    """Train, and write the weights in half precision."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    drawn = [sentences.scene(1000 + number) for number in range(scenes)]
    model = sentences.clip(weights=None).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps)
    for step in range(steps):
        chosen = [drawn[number] for number in random.choice(scenes, batch, replace=False)]
        said = []
        for _, things in chosen:
            names = [things[number][0] for number in random.permutation(2)]
            said.append(" and ".join(names[: int(random.integers(1, 3))]))
        pixels, ids = torch.stack([picture for picture, _ in chosen]), sentences.tokenizer(said)
        logits = model(pixel_values=pixels, input_ids=ids).logits_per_image
        # sentences that are true of a picture, whichever it was drawn for
        true = torch.tensor(
            [[all(each in dict(things) for each in text.split(" and ")) for text in said] for _, things in chosen]
        ).float()
        loss = sum(
            nn.functional.cross_entropy(table, target / target.sum(1, keepdim=True))
            for table, target in ((logits, true), (logits.T, true.T))
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(step, round(float(loss.detach()), 3), flush=True)
    kept = {name: value.half() for name, value in model.state_dict().items() if value.is_floating_point()}
    torch.save(kept, sentences.WEIGHTS)
    print(f"{sentences.WEIGHTS.name}: {sentences.WEIGHTS.stat().st_size / 2**20:.2f} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
