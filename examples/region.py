"""Why is this disc called a disc, and not the other? A region of a DeepLab at a point, beside the region at another.

The region is the connected part of what is predicted at the point. torchvision's DeepLabV3 head is trained here, in a
quarter of a minute, on the body of the toy detector; `deeplabv3_resnet50(weights="DEFAULT")` goes in its place.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3

import whycam
from whycam.targets import Region

sys.path.insert(0, str(Path(__file__).parent / "toys"))
import shapes

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)
names = ("background", *shapes.NAMES)


def painted(found):
    """The class of each pixel, `(128, 128)`, from the boxes that the shapes fill."""
    image = Image.new("L", (shapes.SIDE, shapes.SIDE))
    draw = ImageDraw.Draw(image)
    for (left, top, right, bottom), label in zip(found["boxes"].int().tolist(), found["labels"].tolist(), strict=True):
        corners = [(left, bottom), ((left + right) / 2, top), (right, bottom)]
        paint = (draw.rectangle, draw.ellipse, draw.polygon)[label]
        paint(corners if label == 2 else (left, top, right, bottom), fill=label + 1)
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(image.size[::-1]).long()


torch.manual_seed(0)
body = IntermediateLayerGetter(shapes.detector().backbone.body, {"stage2": "out"}).requires_grad_(False).eval()
deeplab = DeepLabV3(body, DeepLabHead(32, len(names), atrous_rates=(2, 4, 6)))
optimizer = torch.optim.AdamW(deeplab.classifier.parameters(), 4e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=90)
deeplab.classifier.train()
for step in range(90):
    scenes = [shapes.scene(2000 + 8 * step + k) for k in range(8)]
    scores = deeplab(torch.stack([picture for picture, _ in scenes]) * 4 - 2)["out"]  # as the detector normalizes
    truth = torch.stack([painted(found) for _, found in scenes])
    loss = F.cross_entropy(scores, truth, torch.tensor([0.3, 1, 1, 1]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
deeplab.eval()

picture, truth = shapes.scene(3)
centers = [((x0 + x1).item() / 2, (y0 + y1).item() / 2) for x0, y0, x1, y1 in truth["boxes"][truth["labels"] == 1]]
regions = [Region("disc", point=center) for center in centers]
c = whycam.compare(deeplab, (picture * 4 - 2)[None], ["layer_cam", "grad_cam"], targets=regions, labels=names)
for (method, layer, target), e in c.items():
    print(f"{method} at {layer}, the disc at {target.point}: {e.target[0]}, {e.status[0]}")
print(next(iter(c.values())).layer.why)
c.figure().savefig(out / "region.png")
