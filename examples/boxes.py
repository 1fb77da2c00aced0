"""Why this box? Each box of a detector by itself, beside Grad-CAM, which cannot tell two objects apart.

The detector is a toy, trained by `toys/train.py` on drawn shapes, so that nothing is downloaded. Any of torchvision's
goes in its place: `fasterrcnn_resnet50_fpn(weights="DEFAULT")`.
"""

import sys
from pathlib import Path

from torch import nn

import whycam
from whycam.targets import Box, Boxes

sys.path.insert(0, str(Path(__file__).parent / "toys"))
import shapes

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

detector, names = shapes.detector(), shapes.NAMES
picture, _ = shapes.scene(3)
batch = nn.functional.interpolate(picture[None], scale_factor=3)  # the detector resizes it inside, as torchvision's do

c = whycam.compare(detector, batch, targets=[Boxes(min_score=0.5)], labels=names)
for (_, _, target), e in c.items():
    print(f"{target}: {e.target[0]}, {e.status[0]}")
    e.overlay().save(out / f"boxes_{target.of}.png")
print(f"{len(c)} boxes, {c.cost}")

both = whycam.compare(detector, batch, ["layer_cam", "grad_cam"], targets=[Box(0), Box(1)], labels=names)
both.figure().savefig(out / "boxes.png")
