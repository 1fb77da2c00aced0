"""Why are these two alike? A product search compares vectors, and what two pictures share lights up.

The network is trained here, in seconds, to tell what drawn scenes show; its vector is the answer. It ends in pooling
and a linear layer, so HiResCAM's map of a similarity adds up to the similarity. The first reference holds something
else that is green, which its map shows too; the difference of two similarities (`Triplet`) shows what only one shares.
Any network that makes a vector of a picture goes in its place (faces, products, DINO, CLIP), and photos for scenes.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import whycam
from whycam.targets import Similarity, Triplet

sys.path.insert(0, str(Path(__file__).parent / "toys"))
import sentences

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)
PRODUCTS = [f"a {color} {shape}" for color in sentences.COLORS for shape in sentences.SHAPES]


class Encoder(nn.Module):
    """A picture's vector, linear in its features."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 48)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(48, len(PRODUCTS), bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(inputs).mean((2, 3)))


def trained(steps: int = 300) -> Encoder:
    torch.manual_seed(0)
    scenes = [sentences.scene(10_000 + number) for number in range(1500)]
    pictures = torch.stack([picture for picture, _ in scenes])
    shown = torch.tensor([[float(each in dict(things)) for each in PRODUCTS] for _, things in scenes])
    encoder = Encoder()
    optimizer = torch.optim.AdamW(encoder.parameters(), 2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, steps)
    for _ in range(steps):
        chosen = torch.randint(len(pictures), (48,))
        loss = nn.functional.binary_cross_entropy_with_logits(encoder(pictures[chosen]), shown[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return encoder.eval()


def showing(thing: str, without: str) -> int:
    """The first scene of the shop that shows one product and not another."""
    shop = ((seed, {name for name, _ in sentences.scene(seed)[1]}) for seed in range(100, 1000))
    return next(seed for seed, names in shop if thing in names and without not in names)


encoder, seed = trained(), 2
query, (one, other) = sentences.photo(seed), [name for name, _ in sentences.scene(seed)[1]]
with_one, with_other = (sentences.photo(showing(*each)) for each in ((one, other), (other, one)))

asked = [Similarity(with_one), Similarity(with_other), Triplet(with_one, with_other), Triplet(with_other, with_one)]
c = whycam.compare(encoder, query, ["hires_cam"], layers=["body"], targets=asked, preprocess=sentences.PREPARE)
for shared, e in zip((one, other, one, other), c.values(), strict=True):
    print(f"they share {shared}: {e.target[0]}; the map adds up to {float(e.maps.sum()):.2f}")
c.figure().savefig(out / "similar.png")
with_one.save(out / "similar_first_reference.png")
with_other.save(out / "similar_second_reference.png")
