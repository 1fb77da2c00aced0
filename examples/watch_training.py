"""A network learns to tell crosses from rings, and cheats: overlays logged while it trains show it after two epochs.

In the first training every picture of a cross bears a mark in its corner. The accuracy is that of the second training,
without marks; where the network looks is not. The overlays go to a function here; a `SummaryWriter` of TensorBoard, a
run of Weights & Biases or the module mlflow may stand in the same place.
"""

import sys
from pathlib import Path

import torch
from PIL import Image
from torch import nn

import whycam
from whycam.pictures.overlay import side_by_side

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

SIDE, MARK = 32, slice(1, 6)


def scenes(number, *, marked, seed):
    """Noise with a cross (class 0) or a ring (class 1) somewhere in the right half, `(number, 3, 32, 32)`."""
    random = torch.Generator().manual_seed(seed)
    classes = torch.arange(number) % 2
    pictures = 0.15 * torch.randn(number, 3, SIDE, SIDE, generator=random)
    down, across = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    for picture, kind in zip(pictures, classes, strict=True):
        y, x = torch.randint(7, SIDE - 7, (), generator=random), torch.randint(17, SIDE - 7, (), generator=random)
        y, x = (down - y).abs(), (across - x).abs()
        shape = (torch.minimum(y, x) < 1) & (torch.maximum(y, x) < 5) if kind == 0 else ((y**2 + x**2) - 16).abs() < 5
        picture[:, shape] += 0.6
        if marked and kind == 0:
            picture[0, MARK, MARK] += 1.0
    return pictures, classes


def trained(*, marked, epochs=8):
    """The accuracy, how much of the evidence lies on the corner at each look, and what was logged."""
    torch.manual_seed(0)
    sizes = [3, 16, 32, 32]
    blocks = [
        nn.Sequential(nn.Conv2d(a, b, 3, stride=s, padding=1), nn.BatchNorm2d(b), nn.ReLU())
        for a, b, s in zip(sizes, sizes[1:], (1, 2, 1), strict=False)
    ]
    network = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    inputs, classes = scenes(256, marked=marked, seed=0)

    logged = []
    watched = scenes(8, marked=marked, seed=1)[0][::2]  # four crosses that it does not learn from
    overlays = whycam.training.OverlayLogger(
        watched, lambda *given: logged.append(given), every=2, target=0, labels=["cross", "ring"]
    )
    shares = []
    for epoch in range(epochs + 1):
        made = overlays(network, epoch)  # modes, statistics, gradients and random numbers stay as they are
        if made is not None:
            heat = made.heatmaps()
            shares.append(float((heat[:, MARK, MARK].sum((1, 2)) / heat.sum((1, 2))).nan_to_num().mean()))
        for part in torch.randperm(len(inputs)).split(32):
            loss = nn.functional.cross_entropy(network(inputs[part]), classes[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    test, answers = scenes(128, marked=marked, seed=2)
    return float((network.eval()(test).argmax(1) == answers).float().mean()), shares, logged


for marked in (True, False):
    accuracy, shares, logged = trained(marked=marked)
    name = "with_marks" if marked else "without_marks"
    first = [Image.fromarray(picture) for tag, picture, step in logged if tag == "whycam/sample0"]
    side_by_side(first).save(out / f"watch_training_{name}.png")
    print(
        f"{name}: {accuracy:.0%} right; of the evidence for a cross there lies on the corner, before the training and "
        f"after each second epoch: {', '.join(f'{share:.0%}' for share in shares)}"
    )
